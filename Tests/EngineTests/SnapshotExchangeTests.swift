import Aggregation
import Engine
import Reports
import Synchronization
import Testing
import TraceModel

/// Who makes snapshots: makes one when it is told to, if it answers at all.
private final class Publisher: Sendable {
    let exchange: SnapshotExchange
    let woken: Counter

    final class Counter: Sendable {
        private let value = Mutex(0)
        var count: Int { value.withLock { $0 } }
        func add() { value.withLock { $0 += 1 } }
    }

    init(interval: Duration = .milliseconds(50), patience: Duration = .seconds(10)) {
        let woken = Counter()
        self.woken = woken
        exchange = SnapshotExchange(interval: interval, patience: patience) { woken.add() }
    }

    /// Publishes a snapshot if one is wanted, with `serial` as its time.
    func publish(_ serial: Int64) -> TraceSnapshot.Scope? {
        guard let scope = exchange.wanted else { return nil }
        exchange.publish(Self.snapshot(serial), scope)
        return scope
    }

    func wait(forWakes count: Int) async throws {
        for _ in 0..<2000 where woken.count < count { try await Task.sleep(for: .milliseconds(1)) }
    }

    static func snapshot(_ serial: Int64) -> TraceSnapshot {
        TraceSnapshot(
            generatedAt: serial, since: 0, context: TraceContext(run: 1, layout: Layout(), stepTrie: StepTrie(capacity: 1)),
            completeness: Completeness(), paths: PathTable(), flows: [], journeys: [])
    }
}

@Suite struct SnapshotExchangeTests {
    @Test("readers that wait at the same time share one snapshot with all that they need")
    func shared() async throws {
        let publisher = Publisher()
        let scopes: [TraceSnapshot.Scope] = [[], .flows, .journeys, .flows]
        try await withThrowingTaskGroup(of: Int64?.self) { group in
            for scope in scopes { group.addTask { await publisher.exchange.take(scope)?.generatedAt } }
            // All wait, whichever came first.
            for _ in 0..<2000 where publisher.exchange.wanted != .all { try await Task.sleep(for: .milliseconds(1)) }
            try await Task.sleep(for: .milliseconds(20))
            #expect(publisher.woken.count == 1)
            #expect(publisher.publish(1) == .all)
            for try await serial in group { #expect(serial == 1) }
        }
        #expect(publisher.exchange.wanted == nil)
    }

    @Test("a snapshot younger than the interval is handed out again, an older one is not")
    func age() async throws {
        let publisher = Publisher(interval: .seconds(100))
        publisher.exchange.publish(Publisher.snapshot(1), .flows)
        for scope in [[], TraceSnapshot.Scope.flows] { #expect(await publisher.exchange.take(scope)?.generatedAt == 1) }
        #expect(publisher.woken.count == 0)
        let hasty = Publisher(interval: .milliseconds(1))
        hasty.exchange.publish(Publisher.snapshot(1), .all)
        try await Task.sleep(for: .milliseconds(5))
        async let serial = hasty.exchange.take([])?.generatedAt
        try await hasty.wait(forWakes: 1)
        #expect(hasty.publish(2) == [])
        #expect(await serial == 2)
    }

    @Test("a reader that needs more than the last snapshot has waits for the interval, then the publisher is woken")
    func interval() async throws {
        let publisher = Publisher(interval: .milliseconds(100))
        let begin = ContinuousClock.now
        publisher.exchange.publish(Publisher.snapshot(1), [])
        async let serial = publisher.exchange.take(.flows)?.generatedAt
        try await publisher.wait(forWakes: 1)
        #expect(ContinuousClock.now - begin >= .milliseconds(100))
        #expect(publisher.publish(2) == .flows)
        #expect(await serial == 2)
    }

    @Test("a snapshot that others asked for does not suffice a reader that needs more")
    func insufficient() async throws {
        let publisher = Publisher(interval: .milliseconds(1))
        async let serial = publisher.exchange.take(.flows)?.generatedAt
        try await publisher.wait(forWakes: 1)
        publisher.exchange.publish(Publisher.snapshot(1), .journeys)
        try await publisher.wait(forWakes: 2)
        #expect(publisher.publish(2) == .flows)
        #expect(await serial == 2)
    }

    @Test("without an answer a reader gets the last snapshot if it has all that is needed, else none")
    func silentPublisher() async {
        let publisher = Publisher(interval: .zero, patience: .milliseconds(20))
        #expect(await publisher.exchange.take([]) == nil)
        publisher.exchange.publish(Publisher.snapshot(1), .flows)
        #expect(await publisher.exchange.take(.flows)?.generatedAt == 1)
        #expect(await publisher.exchange.take(.journeys) == nil)
        // It is woken once, not by every reader that it does not answer.
        #expect(publisher.woken.count == 2)
        // All have given up.
        #expect(publisher.exchange.wanted == nil)
    }

    @Test("after the end readers get the last snapshot at once, those that wait too")
    func end() async throws {
        let publisher = Publisher(interval: .zero, patience: .seconds(100))
        async let waiting = publisher.exchange.take([])
        try await publisher.wait(forWakes: 1)
        publisher.exchange.end()
        #expect(await waiting == nil)
        let other = Publisher(interval: .zero, patience: .seconds(100))
        other.exchange.publish(Publisher.snapshot(1), [])
        other.exchange.end()
        #expect(await other.exchange.take(.all)?.generatedAt == 1)
        #expect(other.woken.count == 0)
    }
}
