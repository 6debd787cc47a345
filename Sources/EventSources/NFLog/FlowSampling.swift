internal import Synchronization

/// Follows a part of the flows only, while more comes than can be followed: one of 2, 4, 8, …, whole, in both directions and in all
/// namespaces (`Correlator.flow`). Every event is received and counted either way, and losses are counted as before.
package struct FlowSampling {
    /// One flow of 2 to this power is followed.
    package private(set) var level = 0
    private var changedAt = Int64.min
    private var calmSince = Int64.min

    /// One in 64: the cost that remains then is that of receiving, which following fewer flows does not lessen.
    private static let highest = 6

    package init() {}

    /// Takes in how things stand after a turn.
    ///
    /// - Parameters:
    ///   - fill: how full the fullest receive buffer was, of 1.
    ///   - hasDropped: whether one has overflowed since the last call.
    ///   - now: in microseconds.
    /// - Returns: whether another part is followed from now on.
    package mutating func note(fill: Double, hasDropped: Bool, now: Int64) -> Bool {
        let isTight = hasDropped || fill > 0.5
        if isTight || fill > 0.05 { calmSince = now }
        if isTight, level < Self.highest, now - 100_000 > changedAt {
            level += 1
        } else if level > 0, now - 2_000_000 > max(calmSince, changedAt) {
            level -= 1
        } else {
            return false
        }
        changedAt = now
        return true
    }

    /// The level for those who tell people of it.
    final class Notice: Sendable {
        let level = Atomic<Int>(0)
    }
}
