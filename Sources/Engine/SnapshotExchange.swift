package import Aggregation
private import Dispatch
private import Synchronization

/// Snapshots on their way from the thread that makes them, the publisher, to readers.
///
/// The publisher makes one only when readers wait for it, at most one per interval for all of them, and never waits for a
/// reader. Readers wait without holding a thread.
package final class SnapshotExchange: Sendable {
    private struct Reader {
        var scope: TraceSnapshot.Scope
        var deadline: ContinuousClock.Instant
        var continuation: CheckedContinuation<TraceSnapshot?, Never>
    }

    private struct State {
        var latest: TraceSnapshot?
        var scope: TraceSnapshot.Scope = []
        var publishedAt: ContinuousClock.Instant?
        /// Waiting readers, by deadline, since all wait for the same time.
        var readers: [Reader] = []
        /// Whether the publisher was woken and has not published since.
        var isAsked = false
        var alarm: ContinuousClock.Instant?
        var hasEnded = false

        /// The snapshot that a reader gets without waiting.
        func ready(_ needed: TraceSnapshot.Scope, _ interval: Duration) -> Ready? {
            if hasEnded { return Ready(snapshot: latest) }
            guard let publishedAt, ContinuousClock.now - publishedAt < interval, scope.isSuperset(of: needed) else {
                return nil
            }
            return Ready(snapshot: latest)
        }
    }

    private struct Ready {
        var snapshot: TraceSnapshot?
    }

    private let state = Mutex(State())
    private let interval: Duration
    private let patience: Duration
    private let wakePublisher: @Sendable () -> Void
    private let alarms = DispatchQueue(label: "snapshots")

    /// - Parameters:
    ///   - interval: least time between two snapshots; a younger one is handed out again.
    ///   - patience: how long a reader waits for a snapshot.
    ///   - wakePublisher: makes the publisher look at `wanted` soon; must not block.
    package init(interval: Duration, patience: Duration, wakePublisher: @escaping @Sendable () -> Void) {
        self.interval = interval
        self.patience = patience
        self.wakePublisher = wakePublisher
    }

    // MARK: Readers

    /// Waits for a snapshot with at least `scope`.
    ///
    /// - Returns: one younger than the interval; where none comes in time, the last one if it has `scope`; after the end the
    ///   last one.
    package func take(_ scope: TraceSnapshot.Scope) async -> TraceSnapshot? {
        if let ready = state.withLock({ $0.ready(scope, interval) }) { return ready.snapshot }
        return await withCheckedContinuation { continuation in
            let ready: Ready? = state.withLock { state in
                // One may have been published meanwhile.
                if let ready = state.ready(scope, interval) { return ready }
                state.readers.append(
                    Reader(scope: scope, deadline: ContinuousClock.now + patience, continuation: continuation))
                return nil
            }
            if let ready {
                continuation.resume(returning: ready.snapshot)
            } else {
                advance()
            }
        }
    }

    /// The last snapshot, however old.
    package var latest: TraceSnapshot? { state.withLock { $0.latest } }

    // MARK: The publisher

    /// Parts that the snapshot needs that readers wait for; `nil` while none is due.
    package var wanted: TraceSnapshot.Scope? {
        state.withLock { state in
            guard state.isAsked else { return nil }
            guard !state.readers.isEmpty else {
                // All have given up.
                state.isAsked = false
                return nil
            }
            return state.readers.reduce(into: []) { $0.formUnion($1.scope) }
        }
    }

    /// Hands a snapshot to the readers that it suffices for.
    package func publish(_ snapshot: TraceSnapshot, _ scope: TraceSnapshot.Scope = .all) {
        var served: [Reader] = []
        var previous: TraceSnapshot?
        let now = ContinuousClock.now
        let isWaitedFor = state.withLock { state in
            // Freed outside of the lock.
            previous = state.latest
            state.latest = snapshot
            state.scope = scope
            state.publishedAt = now
            state.isAsked = false
            served = state.readers.filter { scope.isSuperset(of: $0.scope) }
            state.readers.removeAll { scope.isSuperset(of: $0.scope) }
            return !state.readers.isEmpty
        }
        withExtendedLifetime(previous) {
            for reader in served { reader.continuation.resume(returning: snapshot) }
        }
        if isWaitedFor { advance() }
    }

    /// Ends publishing: readers get the last snapshot from now on, without waiting.
    package func end() {
        let (readers, latest) = state.withLock { state in
            state.hasEnded = true
            defer { state.readers = [] }
            return (state.readers, state.latest)
        }
        for reader in readers { reader.continuation.resume(returning: latest) }
    }

    // MARK: Time

    /// Wakes the publisher and sends readers away when it is time for it.
    private func advance(isAlarm: Bool = false) {
        let now = ContinuousClock.now
        var late: [Reader] = []
        var last: (snapshot: TraceSnapshot?, scope: TraceSnapshot.Scope) = (nil, [])
        var isWaking = false
        let alarm: ContinuousClock.Instant? = state.withLock { state in
            if isAlarm { state.alarm = nil }
            let count = state.readers.prefix { $0.deadline <= now }.count
            late = Array(state.readers[..<count])
            state.readers.removeFirst(count)
            last = (state.latest, state.scope)
            guard var next = state.readers.first?.deadline else { return nil }
            if !state.isAsked {
                let due = state.publishedAt.map { $0 + interval } ?? now
                isWaking = due <= now
                state.isAsked = isWaking
                if !isWaking { next = min(next, due) }
            }
            if let alarm = state.alarm, alarm <= next { return nil }
            state.alarm = next
            return next
        }
        for reader in late {
            reader.continuation.resume(returning: last.scope.isSuperset(of: reader.scope) ? last.snapshot : nil)
        }
        if isWaking { wakePublisher() }
        guard let alarm else { return }
        let seconds = max(.zero, alarm - now) / .seconds(1)
        alarms.asyncAfter(deadline: .now() + seconds) { [weak self] in self?.advance(isAlarm: true) }
    }
}
