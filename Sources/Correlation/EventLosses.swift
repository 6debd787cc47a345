/// When events of each namespace were lost: that an event is missing proves nothing then.
package struct EventLosses {
    /// By namespace: the position in the history that its next event was to have when events were lost last.
    private var positions: [UInt64] = []
    /// By namespace: when that was, in microseconds by the clock of `Correlator.receive(at:)`.
    private var times: [Int64] = []
    /// When events were lost last, in any namespace.
    package private(set) var latest: Int64 = .min / 2

    package init() {}

    /// Makes room for namespaces; those that are there keep their losses.
    package mutating func reserve(namespaces count: Int) {
        guard times.count < count else { return }
        positions += [UInt64](repeating: 0, count: count - times.count)
        times += [Int64](repeating: .min / 2, count: count - times.count)
    }

    /// Events of `namespace` were lost. A namespace for which there is no room changes nothing.
    ///
    /// - Parameters:
    ///   - now: when that was noticed.
    ///   - end: when the loss ends, where that is later.
    ///   - position: of the next event in the history.
    package mutating func note(namespace: Int, now: Int64, until end: Int64, before position: UInt64) {
        guard times.indices.contains(namespace) else { return }
        positions[namespace] = position
        times[namespace] = max(times[namespace], now, end)
        latest = now
    }

    /// Whether events of `namespace` have been lost since the one at `position` in the history.
    @inline(__always)
    package func hasAny(in namespace: Int, sinceEvent position: UInt64) -> Bool { positions[namespace] > position }

    /// Whether events of `namespace` have been lost at `time` or later.
    @inline(__always)
    package func hasAny(in namespace: Int, since time: Int64) -> Bool { times[namespace] >= time }
}
