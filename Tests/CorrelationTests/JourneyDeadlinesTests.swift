import Correlation
import Testing

@Suite struct JourneyDeadlinesTests {
    private static let limits: Correlator.Limits = {
        var limits = Correlator.Limits()
        limits.settle = 10
        limits.linger = 100
        limits.crossing = 1000
        return limits
    }()

    private func timeout(_ number: Int32) -> TimeoutQueue.Timeout {
        TimeoutQueue.Timeout(journey: JourneyIndex(number: number), serial: UInt32(number))
    }

    @Test("each stage has its own patience, and the next deadline is the earliest of all")
    func stages() {
        var deadlines = JourneyDeadlines(Self.limits)
        #expect(deadlines.next == nil)
        deadlines.append(timeout(1), .crossing, lastActivity: 0)
        #expect(deadlines.next == 1000)
        deadlines.append(timeout(2), .lingering, lastActivity: 0)
        #expect(deadlines.next == 100)
        deadlines.append(timeout(3), .settling, lastActivity: 0)
        #expect(deadlines.next == 10)
        #expect(deadlines.popDue(.settling, by: 9) == nil)
        #expect(deadlines.popDue(.settling, by: 10) == timeout(3))
        #expect(deadlines.popDue(.lingering, by: 99) == nil)
        #expect(deadlines.popDue(.lingering, by: 200) == timeout(2))
        #expect(deadlines.popDue(.crossing, by: 1000) == timeout(1))
        #expect(deadlines.next == nil)
    }

    @Test("those of one stage come in the order in which they were put in, also where they share a deadline")
    func order() {
        var deadlines = JourneyDeadlines(Self.limits)
        for (number, time) in [(1, 0), (2, 0), (3, 5)] {
            deadlines.append(timeout(Int32(number)), .settling, lastActivity: Int64(time))
        }
        #expect(deadlines.settlingJourney(0) == JourneyIndex(number: 1))
        #expect(deadlines.settlingJourney(2) == JourneyIndex(number: 3))
        #expect(deadlines.settlingJourney(3) == nil)
        #expect(deadlines.popDue(.settling, by: 12) == timeout(1))
        #expect(deadlines.popDue(.settling, by: 12) == timeout(2))
        #expect(deadlines.popDue(.settling, by: 12) == nil)
        #expect(deadlines.popDue(.settling, by: 15) == timeout(3))
    }

    @Test("the oldest is one that has been waited for longest, due or not")
    func oldest() {
        var deadlines = JourneyDeadlines(Self.limits)
        deadlines.append(timeout(1), .settling, lastActivity: 500)
        deadlines.append(timeout(2), .crossing, lastActivity: 0)
        deadlines.append(timeout(3), .lingering, lastActivity: 300)
        #expect(deadlines.popOldest() == timeout(2))
        #expect(deadlines.popOldest() == timeout(3))
        #expect(deadlines.popOldest() == timeout(1))
        #expect(deadlines.popOldest() == nil)
    }

    @Test("a packet that crosses is waited for as long as one that is silent, at least")
    func crossingIsNotShorter() {
        var limits = Self.limits
        limits.linger = 5000
        #expect(JourneyDeadlines(limits).patience(.crossing) == 5000)
    }
}
