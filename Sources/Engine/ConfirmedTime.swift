/// Up to when everything that happened has been received, whatever held whom up.
///
/// The kernel gathers events before it delivers them, so that a socket that is empty says nothing of the last moments; and a
/// machine that stands still for a second makes the clock jump, while events gathered before are still there afterwards. A moment
/// is confirmed when sockets were found empty again at least `delay` later: everything from before it has been delivered by then.
package struct ConfirmedTime {
    private let delay: Int64
    private var candidate: Int64?
    private var confirmed = Int64.min / 2

    /// - Parameter delay: microseconds for which an event may be gathered (`Correlator.Limits.delay`).
    package init(delay: Int64) { self.delay = delay }

    /// - Parameter drained: when sockets were found empty last.
    /// - Returns: the moment that this confirms.
    package mutating func note(drained: Int64) -> Int64 {
        guard let candidate else {
            self.candidate = drained
            return confirmed
        }
        if drained - candidate >= delay {
            confirmed = candidate
            self.candidate = drained
        }
        return confirmed
    }
}
