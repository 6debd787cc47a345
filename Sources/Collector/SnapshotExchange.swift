internal import Foundation
internal import Reports

/// Hands snapshots from the event loop to readers: the loop makes one only when somebody asks, and never waits.
final class SnapshotExchange: @unchecked Sendable {
    // Guarded by the condition's lock.
    private let condition = NSCondition()
    private var latest: TraceSnapshot?
    private var generation = 0
    private var madeAt = Date.distantPast

    /// A snapshot no older than `age` seconds, asked for with `request`; the last one there is if none comes in time.
    func take(age: TimeInterval, timeout: TimeInterval, request: () -> Void) -> TraceSnapshot? {
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

    func publish(_ snapshot: TraceSnapshot) {
        condition.lock()
        latest = snapshot
        generation += 1
        madeAt = Date()
        condition.broadcast()
        condition.unlock()
    }
}
