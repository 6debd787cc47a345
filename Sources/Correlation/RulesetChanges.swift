/// When the rules of each namespace changed: while they did, nobody knows which probes a packet met there.
///
/// Times are microseconds by the clock of `Correlator.receive(at:)`.
struct RulesetChanges {
    private struct Interval {
        var since: Int64
        /// `Int64.max` while the rules in force are not known yet.
        var until: Int64
    }

    /// By namespace, oldest first.
    private var intervals: [[Interval]] = []
    /// How many of the intervals go on.
    private var openCount = 0
    /// When the latest of the intervals that have ended did.
    private var latestEnd = Int64.min

    /// Intervals kept for one namespace: more than a journey lives for, unless rules change all the time.
    private static let most = 8

    var isAnyOpen: Bool { openCount > 0 }

    func isOpen(_ namespace: Int) -> Bool {
        namespace < intervals.count && intervals[namespace].last?.until == .max
    }

    /// The rules may have changed after `since`; which ones are in force is not known from then on.
    mutating func begin(_ namespace: Int, since: Int64) {
        while intervals.count <= namespace { intervals.append([]) }
        if isOpen(namespace) {
            let last = intervals[namespace].count - 1
            intervals[namespace][last].since = min(intervals[namespace][last].since, since)
            return
        }
        if intervals[namespace].count == Self.most {
            let oldest = intervals[namespace].removeFirst()
            intervals[namespace][0].since = min(intervals[namespace][0].since, oldest.since)
        }
        intervals[namespace].append(Interval(since: since, until: .max))
        openCount += 1
    }

    /// The rules in force are known again: those of all packets that are first seen after `until`.
    mutating func end(_ namespace: Int, until: Int64) {
        guard isOpen(namespace) else { return }
        intervals[namespace][intervals[namespace].count - 1].until = until
        latestEnd = max(latestEnd, until)
        openCount -= 1
    }

    /// The change concerns no probe.
    mutating func cancel(_ namespace: Int) {
        guard isOpen(namespace) else { return }
        intervals[namespace].removeLast()
        openCount -= 1
    }

    /// Whether no rules have changed anywhere since `time`.
    func isQuiet(since time: Int64) -> Bool { openCount == 0 && latestEnd < time }

    /// Whether rules changed at some time from `begin` to `end`.
    func overlaps(_ namespace: Int, from begin: Int64, to end: Int64) -> Bool {
        namespace < intervals.count && intervals[namespace].contains { begin <= $0.until && end >= $0.since }
    }
}
