import Correlation
import Engine
import Testing
import TraceModel
import WireFormat

@Suite struct NFLogReaderTests {
    static let probes = [("in-raw", Table.raw, Hook.prerouting), ("in-mangle", .mangle, .prerouting)]

    @Test("a packet that is first reported by a rule nobody explains gets no event of the packet whose place it takes")
    func placeOfAnother() {
        var fixture = ReaderFixture(Self.probes)
        func datagram(_ id: UInt8) -> [UInt8] {
            [0x45, 0, 0, 28, 0, id, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2, 0x03, 0xE8, 0, 53, 0, 8, 0, 0]
        }
        // As many as are kept, and one more, which takes the first one's place.
        var sequence: UInt32 = 0
        for id in 1...UInt8(NFLogDecoder.recentCount) {
            fixture.read(logged("in-raw", hook: .prerouting, sequence: sequence, payload: datagram(id)))
            sequence += 1
        }
        fixture.read(logged("foreign", hook: .prerouting, sequence: sequence, payload: datagram(99)))
        fixture.read(logged("in-mangle", hook: .prerouting, sequence: sequence + 1, payload: datagram(99)))
        #expect(fixture.reader.counters.unresolved == 1)
        #expect(fixture.correlator.liveJourneys == NFLogDecoder.recentCount + 1)
    }

    @Test("namespaces past the bound of those that files may name are none, rather than one")
    func manyNamespaces() {
        let registry = LayoutRegistry(.offline)
        var known: Set<Int> = []
        for number in 0..<LayoutRegistry.mostNamespaces {
            if let index = registry.namespace(named: "n\(number)", channel: .nflog) { known.insert(index) }
        }
        #expect(known.count == LayoutRegistry.mostNamespaces)
        #expect(registry.namespace(named: "one more", channel: .nflog) == nil)
        #expect(registry.namespace(named: "n7", channel: .nflog) == 7)
        #expect(registry.resolve(logPrefix: "MORE_FILTER_INPUT ", family: .ipv4, hooks: [.input]).isEmpty)
    }

    @Test func aBatchBecomesEvents() {
        var fixture = ReaderFixture(Self.probes)
        fixture.read(logged("in-raw", hook: .prerouting, sequence: 0) + logged("in-mangle", hook: .prerouting, sequence: 1))
        #expect(fixture.reader.counters.events == 2 && fixture.reader.counters.lost == 0)
        #expect(fixture.correlator.counters.events == 2 && fixture.correlator.liveJourneys == 1)
    }

    @Test func aGapInTheSequenceIsAnExactCountOfLostEvents() {
        var fixture = ReaderFixture(Self.probes)
        for sequence in [0, 1, 5, 6, 10] as [UInt32] { fixture.read(logged("in-raw", hook: .prerouting, sequence: sequence)) }
        #expect(fixture.reader.counters.lost == 6)
    }

    @Test func theFirstEventsCanBeLostToo() {
        var fixture = ReaderFixture(Self.probes)
        fixture.read(logged("in-raw", hook: .prerouting, sequence: 7))
        #expect(fixture.reader.counters.lost == 7)
    }

    @Test func theSequenceMayWrapAround() {
        var fixture = ReaderFixture(Self.probes)
        fixture.read(logged("in-raw", hook: .prerouting, sequence: 0))
        fixture.read(logged("in-raw", hook: .prerouting, sequence: 0x7FFF_FFFF))
        fixture.read(logged("in-raw", hook: .prerouting, sequence: 0xFFFF_FFFE))
        fixture.read(logged("in-raw", hook: .prerouting, sequence: 0xFFFF_FFFF))
        fixture.read(logged("in-raw", hook: .prerouting, sequence: 0))
        #expect(fixture.reader.counters.lost == 0x7FFF_FFFE + 0x7FFF_FFFE)
    }

    @Test func aMessageCutShortIsCountedAndTheOthersAreRead() {
        var fixture = ReaderFixture(Self.probes)
        fixture.read(logged("in-raw", hook: .prerouting, sequence: 0))
        fixture.read(Array(logged("in-raw", hook: .prerouting, sequence: 1).dropLast(10)))
        fixture.read(logged("in-raw", hook: .prerouting, sequence: 1))
        #expect(fixture.reader.counters.malformed == 1)
        #expect(fixture.correlator.counters.events == 2)
    }

    @Test func aPacketShorterThanItsHeaderIsCounted() {
        var fixture = ReaderFixture(Self.probes)
        fixture.read(logged("in-raw", hook: .prerouting, sequence: 0, payload: [0x45, 0, 0]))
        fixture.read(logged("in-raw", hook: .prerouting, sequence: 1))
        #expect(fixture.reader.counters.malformed == 1 && fixture.reader.counters.lost == 0)
        #expect(fixture.correlator.counters.events == 1)
    }

    @Test func aPrefixThatNoRuleHasIsCountedByName() {
        var fixture = ReaderFixture(Self.probes)
        for sequence in 0..<3 { fixture.read(logged("who?", hook: .input, sequence: UInt32(sequence))) }
        #expect(fixture.reader.counters.unresolved == 3)
        #expect(fixture.reader.unresolved.events.keys.sorted() == ["who?"])
        #expect(fixture.correlator.counters.events == 0)
    }

    @Test func aProbeOfOursIsUnderstoodBeforeTheRulesWereRead() {
        var fixture = ReaderFixture(Self.probes)
        fixture.read(logged("ipt-trace:abc123:filter:INPUT", hook: .input, sequence: 0))
        #expect(fixture.reader.counters.unresolved == 0)
        #expect(fixture.correlator.counters.events == 1)
    }
}

/// While more comes than can be followed.
@Suite struct ThinningTests {
    private static let client: UInt32 = 0xAC10_0002
    private static let outside: UInt32 = 0x0A00_020F
    private static let server: UInt32 = 0x0808_0808

    private static func udp(_ source: UInt32, _ sourcePort: UInt32, _ destination: UInt32, _ port: UInt32, _ id: UInt32)
        -> [UInt8]
    {
        let ip = [0x45, 0, 0, 28] + big(id)[2...] + [0, 0, 64, 17, 0, 0] + big(source) + big(destination)
        return ip + big(sourcePort)[2...] + big(port)[2...] + [0, 8, 0, 0]
    }

    private static func tuple(_ source: UInt32, _ sourcePort: UInt32, _ destination: UInt32, _ port: UInt32) -> PacketTuple {
        PacketTuple(
            source: IPAddress(ipv4: source), destination: IPAddress(ipv4: destination), sourcePort: UInt16(sourcePort),
            destinationPort: UInt16(port), transport: 17)
    }

    /// 256 flows, each with requests and answers on both sides of a router that gives them other addresses and ports.
    @Test func aFlowIsFollowedWholeOrNotAtAllWhateverTranslatesIt() {
        var fixture = ReaderFixture(NFLogReaderTests.probes)
        var sequence: UInt32 = 0
        var followed: [Int] = []
        fixture.reader.thinning = 2
        for flow in 0..<256 as Range<UInt32> {
            let before = Self.tuple(Self.client, 1000 + flow, Self.server, 53)
            let behind = Self.tuple(Self.outside, 40_000 - flow, Self.server, 53)
            fixture.correlator.noteTranslation(namespace: 0, original: before, reply: behind.reversed)
            let count = fixture.correlator.counters.events
            for packet in [
                Self.udp(Self.client, 1000 + flow, Self.server, 53, flow * 8),
                Self.udp(Self.outside, 40_000 - flow, Self.server, 53, flow * 8 + 1),
                Self.udp(Self.server, 53, Self.outside, 40_000 - flow, flow * 8 + 2),
                Self.udp(Self.server, 53, Self.client, 1000 + flow, flow * 8 + 3),
            ] {
                for prefix in ["in-raw", "in-mangle"] {
                    fixture.read(logged(prefix, hook: .prerouting, sequence: sequence, payload: packet))
                    sequence += 1
                }
            }
            followed.append(Int(fixture.correlator.counters.events - count))
        }
        #expect(followed.allSatisfy { $0 == 0 || $0 == 8 })
        let whole = followed.count { $0 == 8 }
        #expect(whole > 256 / 4 / 2 && whole < 256 / 4 * 2)
        #expect(fixture.reader.counters.events == 2048 && fixture.reader.counters.lost == 0)
        #expect(fixture.reader.counters.thinned == UInt64(2048 - whole * 8))
    }

    @Test func anErrorIsOfTheFlowThatItIsAbout() throws {
        let request = Self.udp(Self.client, 1000, Self.server, 53, 1)
        let error: [UInt8] =
            [0x45, 0, 0, 56, 0, 9, 0, 0, 64, 1, 0, 0] + big(0x0A00_0001) + big(Self.client) + [3, 1, 0, 0, 0, 0, 0, 0]
            + request
        let parser = PacketParser()
        let one = try parser.parse(request.octets, 0..<request.count)
        let other = try parser.parse(error.octets, 0..<error.count)
        #expect(one.flow == other.flow)
        #expect(one.tuple.flow == one.tuple.reversed.flow)
    }

    /// Journeys under way when sampling begins are followed to their ends.
    @Test func aPacketUnderWayIsNotGivenUp() {
        var fixture = ReaderFixture(NFLogReaderTests.probes)
        for flow in 0..<64 as Range<UInt32> {
            fixture.reader.thinning = 0
            let packet = Self.udp(Self.client, 1000 + flow, Self.server, 53, flow)
            fixture.read(logged("in-raw", hook: .prerouting, sequence: flow * 2, payload: packet))
            fixture.reader.thinning = 6
            fixture.read(logged("in-mangle", hook: .prerouting, sequence: flow * 2 + 1, payload: packet))
        }
        #expect(fixture.reader.counters.thinned == 0)
        #expect(fixture.correlator.counters.events == 128 && fixture.correlator.liveJourneys == 64)
    }
}
