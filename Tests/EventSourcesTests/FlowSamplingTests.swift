import EventSources
import Testing

/// How many flows are followed while receive buffers fill up.
@Suite struct FlowSamplingTests {
    private let second: Int64 = 1_000_000

    /// Whether a turn changes the part that is followed.
    private func expect(
        _ sampling: inout FlowSampling, _ isChange: Bool, at location: SourceLocation = #_sourceLocation,
        _ note: (inout FlowSampling) -> Bool
    ) {
        let changed = note(&sampling)
        #expect(changed == isChange, sourceLocation: location)
    }

    @Test("a buffer that is half full, or one that overflowed, halves the flows that are followed, ten times a second at most")
    func tightening() {
        var sampling = FlowSampling()
        expect(&sampling, false) { $0.note(fill: 0.5, hasDropped: false, now: second) }
        expect(&sampling, true) { $0.note(fill: 0.51, hasDropped: false, now: second) }
        #expect(sampling.level == 1)
        expect(&sampling, false) { $0.note(fill: 1, hasDropped: true, now: second + 100_000) }
        expect(&sampling, true) { $0.note(fill: 0, hasDropped: true, now: second + 100_001) }
        #expect(sampling.level == 2)
    }

    @Test("one flow in 64 is the least")
    func bound() {
        var sampling = FlowSampling()
        for turn in 1...100 { _ = sampling.note(fill: 1, hasDropped: true, now: Int64(turn) * second) }
        #expect(sampling.level == 6)
    }

    @Test("after two seconds of calm one step is taken back, and after each two more another")
    func loosening() {
        var sampling = FlowSampling()
        _ = sampling.note(fill: 1, hasDropped: false, now: second)
        _ = sampling.note(fill: 1, hasDropped: false, now: second + 200_000)
        #expect(sampling.level == 2)
        expect(&sampling, false) { $0.note(fill: 0.05, hasDropped: false, now: 3 * second + 200_000) }
        expect(&sampling, true) { $0.note(fill: 0.05, hasDropped: false, now: 3 * second + 200_001) }
        expect(&sampling, false) { $0.note(fill: 0, hasDropped: false, now: 5 * second + 200_001) }
        expect(&sampling, true) { $0.note(fill: 0, hasDropped: false, now: 5 * second + 200_002) }
        #expect(sampling.level == 0)
        expect(&sampling, false) { $0.note(fill: 0, hasDropped: false, now: 100 * second) }
    }

    @Test("a buffer that is neither tight nor calm holds the step")
    func holding() {
        var sampling = FlowSampling()
        _ = sampling.note(fill: 1, hasDropped: false, now: second)
        for turn in 2...20 { expect(&sampling, false) { $0.note(fill: 0.2, hasDropped: false, now: Int64(turn) * second) } }
        #expect(sampling.level == 1)
    }
}
