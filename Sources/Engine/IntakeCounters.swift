/// What came in from one source, and what went wrong with it.
package struct IntakeCounters: Equatable, Sendable {
    package var events: UInt64 = 0
    /// From gaps in the kernel's sequence numbers.
    package var lost: UInt64 = 0
    package var malformed: UInt64 = 0
    package var unresolved: UInt64 = 0
    /// Of `events`: of flows that were not followed, because there was too much.
    package var thinned: UInt64 = 0

    package init() {}

    package mutating func add(_ other: IntakeCounters) {
        events += other.events
        lost += other.lost
        malformed += other.malformed
        unresolved += other.unresolved
        thinned += other.thinned
    }
}
