import Correlation
import Engine
import Glibc
import LinuxSupport
import Testing
import TraceModel

/// Plays what a socket of NFLOG gives.
private final class ScriptedReceiver: DatagramReceiver {
    private var script: [Result<[UInt8], Failure>]

    struct Failure: Error { var code: Int32 }

    init(_ script: [Result<[UInt8], Failure>]) { self.script = script }

    var isEmpty: Bool { script.isEmpty }

    func receive(into buffer: inout [UInt8]) -> NetlinkDatagram {
        guard !script.isEmpty else { return .nothing }
        switch script.removeFirst() {
        case .success(let bytes):
            buffer.replaceSubrange(0..<bytes.count, with: bytes)
            return .bytes(bytes.count)
        case .failure(let failure): return .failed(failure.code)
        }
    }
}

private final class Tap: DatagramTap {
    private(set) var tags: [[UInt64]] = []

    func add(_ bytes: RawSpan, namespace: Int, time: Int64, tags: [UInt64]) { self.tags.append(tags) }
}

private final class Ended: JourneySink {
    private(set) var outcomes: [(Outcome, IncompleteReason?)] = []

    func accept(_ journey: Journey, stepTrie: StepTrie, history: EventHistory) {
        outcomes.append((journey.outcome, journey.incompleteReason))
    }
}

@Suite struct NFLogDrainTests {
    private static let probes = NFLogReaderTests.probes

    private func first(_ sequence: UInt32) -> [UInt8] { logged("in-raw", hook: .prerouting, sequence: sequence) }
    private func second(_ sequence: UInt32) -> [UInt8] { logged("in-mangle", hook: .prerouting, sequence: sequence) }

    private func drain(
        _ receiver: ScriptedReceiver, _ fixture: inout ReaderFixture, recording: Tap? = nil
    ) -> Bool {
        var buffer = [UInt8](repeating: 0, count: 1 << 17)
        // Long after the layout was taken.
        fixture.correlator.receive(at: 10_000_000)
        return receiver.drain(
            into: &fixture.reader, with: &fixture.vocabulary, of: 0, now: 10_000_000, &buffer, &fixture.correlator,
            recording: recording)
    }

    /// How the journeys under way end.
    private func end(_ fixture: inout ReaderFixture) -> [(Outcome, IncompleteReason?)] {
        var ended = Ended()
        fixture.correlator.receive(at: 60_000_000)
        fixture.correlator.advance(to: 60_000_000, into: &ended)
        return ended.outcomes
    }

    @Test("everything that waits is taken")
    func all() {
        var fixture = ReaderFixture(Self.probes)
        let tap = Tap()
        #expect(drain(ScriptedReceiver([.success(first(0)), .success(second(1))]), &fixture, recording: tap))
        #expect(fixture.reader.counters.events == 2)
        #expect(fixture.reader.counters.lost == 0)
        #expect(tap.tags.map(\.count) == [1, 1])
        #expect(tap.tags.first == tap.tags.last)
    }

    @Test("a packet whose next event may have been lost with an overflow is incomplete, not dropped")
    func overflow() {
        var sound = ReaderFixture(Self.probes)
        #expect(drain(ScriptedReceiver([.success(first(0))]), &sound))
        #expect(end(&sound).map(\.0) == [.dropped])

        var overflown = ReaderFixture(Self.probes)
        let receiver = ScriptedReceiver([.success(first(0)), .failure(.init(code: ENOBUFS)), .success(first(5))])
        #expect(drain(receiver, &overflown))
        let ends = end(&overflown)
        #expect(ends.map(\.0) == [.incomplete])
        #expect(ends.map(\.1) == [.eventsLost])
        // The rest waits for the next turn, and tells how much was lost.
        #expect(!receiver.isEmpty)
        #expect(drain(receiver, &overflown))
        #expect(overflown.reader.counters.lost == 4)
    }

    @Test("a datagram that was cut counts as malformed, and those behind it are read")
    func truncation() {
        var fixture = ReaderFixture(Self.probes)
        #expect(drain(ScriptedReceiver([.success(Array(first(0).dropLast(20))), .success(second(1))]), &fixture))
        #expect(fixture.reader.counters.malformed == 1)
        #expect(end(&fixture).allSatisfy { $0.0 == .incomplete || $0.0 == .open })
    }

    @Test("a group that begins to count anew has lost nothing")
    func restart() {
        var fixture = ReaderFixture(Self.probes)
        let receiver = ScriptedReceiver([first(0), second(1), first(0), second(1)].map { .success($0) })
        #expect(drain(receiver, &fixture))
        #expect(fixture.reader.counters.events == 4)
        #expect(fixture.reader.counters.lost == 0)
    }

    @Test("one turn takes 32 datagrams; the rest is for the next")
    func turns() {
        var fixture = ReaderFixture(Self.probes)
        let receiver = ScriptedReceiver((0..<40).map { .success(first($0)) })
        #expect(!drain(receiver, &fixture))
        #expect(fixture.reader.counters.events == 32)
        #expect(drain(receiver, &fixture))
        #expect(fixture.reader.counters.events == 40)
    }
}
