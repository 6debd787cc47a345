import Intake
import Correlation
import Testing
import TraceModel
import WireFormat

/// A registry with one namespace and the probes that `prefixes` name by table and hook.
private func registry(_ prefixes: [(String, Table, Hook)]) -> LayoutRegistry {
    let registry = LayoutRegistry()
    registry.update(
        namespaces: [NamespaceLayout(name: "host", inode: 1, interfaces: [2: Interface(name: "eth0", segment: 1)])],
        openSegments: [1],
        probes: prefixes.map { prefix, table, hook in
            Probe(
                namespace: 0, family: .ipv4, table: table, chain: hook.name, hook: hook, backend: .nft, prefix: prefix,
                coverage: .every(.none, until: nil))
        })
    return registry
}

private func native(_ value: UInt32, _ count: Int) -> [UInt8] { (0..<count).map { UInt8(value >> (8 * UInt32($0)) & 255) } }

private func attribute(_ type: UInt32, _ value: [UInt8]) -> [UInt8] {
    native(UInt32(4 + value.count), 2) + native(type, 2) + value + [UInt8](repeating: 0, count: (4 - value.count % 4) % 4)
}

private func big(_ value: UInt32) -> [UInt8] { native(value, 4).reversed() }

/// One logged UDP packet as nfnetlink_log sends it.
private func logged(_ prefix: String, hook: Hook, sequence: UInt32, payload: [UInt8]? = nil) -> [UInt8] {
    let udp: [UInt8] = [0x03, 0xE8, 0, 53, 0, 8, 0, 0]
    let packet = payload ?? [0x45, 0, 0, 28, 0, 1, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2] + udp
    let body =
        [2, 0, 0, 5] + attribute(1, [8, 0, hook.rawValue, 0]) + attribute(10, Array(prefix.utf8) + [0]) + attribute(4, big(2))
        + attribute(12, big(sequence)) + attribute(13, big(sequence &+ 1)) + attribute(9, packet)
    return native(UInt32(16 + body.count), 4) + native(UInt32(NFLogMessage.packetType), 2) + native(0, 2) + native(0, 8) + body
}

private struct Fixture: ~Copyable {
    var correlator = Correlator()
    var reader: NFLogReader

    init(_ prefixes: [(String, Table, Hook)]) {
        let registry = registry(prefixes)
        correlator.update(registry.current.layout)
        reader = NFLogReader(namespace: 0, parser: PacketParser(), registry: registry)
    }

    mutating func read(_ bytes: [UInt8]) { reader.read(unsafe bytes.span.bytes, now: 5, into: &correlator) }
}

@Suite struct NFLogReaderTests {
    static let probes = [("in-raw", Table.raw, Hook.prerouting), ("in-mangle", .mangle, .prerouting)]

    @Test func aBatchBecomesEvents() {
        var fixture = Fixture(Self.probes)
        fixture.read(logged("in-raw", hook: .prerouting, sequence: 0) + logged("in-mangle", hook: .prerouting, sequence: 1))
        #expect(fixture.reader.counters.events == 2 && fixture.reader.counters.lost == 0)
        #expect(fixture.correlator.counters.events == 2 && fixture.correlator.liveJourneys == 1)
    }

    @Test func aGapInTheSequenceIsAnExactCountOfLostEvents() {
        var fixture = Fixture(Self.probes)
        for sequence in [0, 1, 5, 6, 10] as [UInt32] { fixture.read(logged("in-raw", hook: .prerouting, sequence: sequence)) }
        #expect(fixture.reader.counters.lost == 6)
    }

    @Test func theFirstEventsCanBeLostToo() {
        var fixture = Fixture(Self.probes)
        fixture.read(logged("in-raw", hook: .prerouting, sequence: 7))
        #expect(fixture.reader.counters.lost == 7)
    }

    @Test func theSequenceMayWrapAround() {
        var fixture = Fixture(Self.probes)
        fixture.read(logged("in-raw", hook: .prerouting, sequence: 0))
        fixture.read(logged("in-raw", hook: .prerouting, sequence: 0x7FFF_FFFF))
        fixture.read(logged("in-raw", hook: .prerouting, sequence: 0xFFFF_FFFE))
        fixture.read(logged("in-raw", hook: .prerouting, sequence: 0xFFFF_FFFF))
        fixture.read(logged("in-raw", hook: .prerouting, sequence: 0))
        #expect(fixture.reader.counters.lost == 0x7FFF_FFFE + 0x7FFF_FFFE)
    }

    @Test func aMessageCutShortIsCountedAndTheOthersAreRead() {
        var fixture = Fixture(Self.probes)
        fixture.read(logged("in-raw", hook: .prerouting, sequence: 0))
        fixture.read(Array(logged("in-raw", hook: .prerouting, sequence: 1).dropLast(10)))
        fixture.read(logged("in-raw", hook: .prerouting, sequence: 1))
        #expect(fixture.reader.counters.malformed == 1)
        #expect(fixture.correlator.counters.events == 2)
    }

    @Test func aPacketShorterThanItsHeaderIsCounted() {
        var fixture = Fixture(Self.probes)
        fixture.read(logged("in-raw", hook: .prerouting, sequence: 0, payload: [0x45, 0, 0]))
        fixture.read(logged("in-raw", hook: .prerouting, sequence: 1))
        #expect(fixture.reader.counters.malformed == 1 && fixture.reader.counters.lost == 0)
        #expect(fixture.correlator.counters.events == 1)
    }

    @Test func aPrefixThatNoRuleHasIsCountedByName() {
        var fixture = Fixture(Self.probes)
        for sequence in 0..<3 { fixture.read(logged("who?", hook: .input, sequence: UInt32(sequence))) }
        #expect(fixture.reader.counters.unplaced == 3)
        #expect(fixture.reader.unplaced.events.keys.sorted() == ["who?"])
        #expect(fixture.correlator.counters.events == 0)
    }

    @Test func aProbeOfOursIsUnderstoodBeforeTheRulesWereRead() {
        var fixture = Fixture(Self.probes)
        fixture.read(logged("ipt-trace:abc123:filter:INPUT", hook: .input, sequence: 0))
        #expect(fixture.reader.counters.unplaced == 0)
        #expect(fixture.correlator.counters.events == 1)
    }
}
