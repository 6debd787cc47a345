internal import DequeModule

/// Journeys to be looked at again, in the order in which they were put in, which is nearly that of their deadlines.
///
/// There may be millions: a deadline, which those of one delivery share, is kept once for all in a row that have it, so that one
/// takes eight bytes.
package struct TimeoutQueue {
    package struct Timeout: Equatable {
        package var journey: JourneyIndex
        /// Serial of the journey: another journey may have its place by then.
        package var serial: UInt32

        package init(journey: JourneyIndex, serial: UInt32) {
            self.journey = journey
            self.serial = serial
        }
    }

    private var timeouts = Deque<Timeout>()
    /// Deadlines in microseconds, and for how many in a row.
    private var deadlines = Deque<(time: Int64, count: Int)>()

    var count: Int { timeouts.count }

    /// When the first one is due; `nil` where there is none.
    @inline(__always)
    var nextDeadline: Int64? { deadlines.first?.time }

    /// The journey of one that is not due yet, counted from the first.
    @inline(__always)
    func journey(_ index: Int) -> JourneyIndex { timeouts[index].journey }

    @inline(__always)
    mutating func append(_ timeout: Timeout, deadline: Int64) {
        timeouts.append(timeout)
        if let last = deadlines.last, last.time == deadline {
            deadlines[deadlines.count - 1].count += 1
        } else {
            deadlines.append((deadline, 1))
        }
    }

    @inline(__always)
    mutating func popFirst() -> Timeout? {
        guard let first = timeouts.popFirst() else { return nil }
        if deadlines[0].count > 1 { deadlines[0].count -= 1 } else { deadlines.removeFirst() }
        return first
    }

    /// Takes the first one if its deadline is `time` or earlier.
    @inline(__always)
    mutating func popDue(by time: Int64) -> Timeout? {
        guard let deadline = nextDeadline, deadline <= time else { return nil }
        return popFirst()
    }

    mutating func removeAll() {
        timeouts.removeAll()
        deadlines.removeAll()
    }
}
