/// When the journeys under way are looked at again, by how long each has been waited for.
package struct JourneyDeadlines {
    /// A journey passes from one stage to the next where its end is not certain at its deadline.
    package enum Stage {
        /// Until its end may be certain.
        case settling
        /// Until it counts as silent.
        case lingering
        /// As long as it may be on its way to a namespace whose address is being resolved.
        case crossing
    }

    private let settle: Int64
    private let linger: Int64
    private let cross: Int64
    private var settling = TimeoutQueue()
    private var lingering = TimeoutQueue()
    private var crossing = TimeoutQueue()

    package init(_ limits: Correlator.Limits) {
        settle = limits.settle
        linger = limits.linger
        cross = max(limits.linger, limits.crossing)
    }

    /// Microseconds without an event after which a journey in this stage is looked at.
    @inline(__always)
    package func patience(_ stage: Stage) -> Int64 {
        switch stage {
        case .settling: settle
        case .lingering: linger
        case .crossing: cross
        }
    }

    /// Before this time none is due; `nil` where none is waited for.
    package var next: Int64? {
        [settling.nextDeadline, lingering.nextDeadline, crossing.nextDeadline].compactMap(\.self).min()
    }

    /// - Parameter time: when the journey was seen last, in microseconds.
    @inline(__always)
    package mutating func append(_ timeout: TimeoutQueue.Timeout, _ stage: Stage, lastActivity time: Int64) {
        let deadline = time + patience(stage)
        switch stage {
        case .settling: settling.append(timeout, deadline: deadline)
        case .lingering: lingering.append(timeout, deadline: deadline)
        case .crossing: crossing.append(timeout, deadline: deadline)
        }
    }

    /// Takes the first of a stage whose deadline is `time` or earlier; `nil` where there is none.
    @inline(__always)
    package mutating func popDue(_ stage: Stage, by time: Int64) -> TimeoutQueue.Timeout? {
        switch stage {
        case .settling: settling.popDue(by: time)
        case .lingering: lingering.popDue(by: time)
        case .crossing: crossing.popDue(by: time)
        }
    }

    /// Takes one that has been waited for longest, whether it is due or not.
    package mutating func popOldest() -> TimeoutQueue.Timeout? {
        crossing.popFirst() ?? lingering.popFirst() ?? settling.popFirst()
    }

    /// The journey that is so many behind the next one to settle; `nil` where there are fewer.
    @inline(__always)
    package func settlingJourney(_ distance: Int) -> JourneyIndex? {
        settling.count > distance ? settling.journey(distance) : nil
    }

    package mutating func removeAll() {
        settling.removeAll()
        lingering.removeAll()
        crossing.removeAll()
    }
}
