package import Foundation
package import Reports

/// Hands snapshots from the thread that makes them to readers: it makes one only when somebody asks, and never waits.
package final class SnapshotExchange: @unchecked Sendable {
    // Guarded by the condition's lock.
    private let condition = NSCondition()
    private var latest: TraceSnapshot?
    private var generation = 0
    private var madeAt = Date.distantPast

    package init() {}

    /// A snapshot no older than `age` seconds, asked for with `request`; the last one there is if none comes in time.
    package func take(age: TimeInterval, timeout: TimeInterval, request: () -> Void) -> TraceSnapshot? {
        condition.lock()
        defer { condition.unlock() }
        if -madeAt.timeIntervalSinceNow < age, let latest { return latest }
        let before = generation
        request()
        let deadline = Date(timeIntervalSinceNow: timeout)
        while generation == before {
            if !condition.wait(until: deadline) { break }
        }
        return latest
    }

    package func publish(_ snapshot: TraceSnapshot) {
        condition.lock()
        latest = snapshot
        generation += 1
        madeAt = Date()
        condition.broadcast()
        condition.unlock()
    }
}
