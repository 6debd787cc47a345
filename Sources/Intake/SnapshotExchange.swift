package import Foundation
package import Reports

/// Hands snapshots from the thread that makes them to readers: it makes one only when somebody asks, and never waits.
package final class SnapshotExchange: @unchecked Sendable {
    // Guarded by the condition's lock.
    private let condition = NSCondition()
    private var latest: TraceSnapshot?
    private var latestScope: TraceSnapshot.Scope = []
    private var generation = 0
    private var madeAt = Date.distantPast

    package init() {}

    /// A snapshot with at least `scope`, no older than `age` seconds, asked for with `request`; the last one there is if none
    /// comes in time.
    package func take(
        _ scope: TraceSnapshot.Scope, age: TimeInterval, timeout: TimeInterval, request: () -> Void
    ) -> TraceSnapshot? {
        condition.lock()
        defer { condition.unlock() }
        if -madeAt.timeIntervalSinceNow < age, latestScope.isSuperset(of: scope), let latest { return latest }
        var before = generation
        request()
        let deadline = Date(timeIntervalSinceNow: timeout)
        while generation == before {
            if !condition.wait(until: deadline) { break }
            // One that others asked for may have less.
            if generation != before, !latestScope.isSuperset(of: scope) { before = generation }
        }
        return latest
    }

    package func publish(_ snapshot: TraceSnapshot, _ scope: TraceSnapshot.Scope = .all) {
        condition.lock()
        latest = snapshot
        latestScope = scope
        generation += 1
        madeAt = Date()
        condition.broadcast()
        condition.unlock()
    }
}
