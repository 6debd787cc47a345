import Engine
import LinuxSupport
import Testing
import TraceModel
import WireFormat

/// Messages of `NFNLGRP_NFTRACE` as the kernel makes them (net/netfilter/nf_tables_trace.c).
private enum TraceMessage {
    /// A TCP SYN from 10.0.0.1:1000 to 10.0.0.2:80, 60 bytes long.
    static let network: [UInt8] = [0x45, 0, 0, 60, 0, 1, 0, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]
    static let transport: [UInt8] = [0x03, 0xE8, 0, 80, 0, 0, 0, 1, 0, 0, 0, 0, 0xA0, 0x02, 0xFF, 0xFF, 0, 0, 0, 0]

    static func bytes(
        _ kind: UInt32, chain: String, handle: UInt64? = nil, verdict: UInt32? = nil, policy: UInt32? = nil, id: UInt32 = 7,
        network: [UInt8]? = nil, family: UInt8 = 2
    ) -> [UInt8] {
        var request = NetlinkRequest()
        request.append(type: RuleTraceMessage.type, flags: [], body: NetlinkRequest.nfgenmsg(family: family)) { message in
            message.attribute(1, text: "filter")
            message.attribute(2, text: chain)
            message.attribute(4, big: kind)
            message.attribute(6, big: id)
            if let handle { message.attribute(3, big: handle) }
            if let verdict { message.nest(5) { $0.attribute(1, big: verdict) } }
            if let policy { message.attribute(16, big: policy) }
            if let network {
                message.attribute(8, network)
                message.attribute(9, transport)
            }
        }
        return request.bytes
    }
}

@Suite struct RuleTraceTests {
    private static let place = RulePlace(tableFamily: "ip", table: "filter", chain: "BLOCKLIST", handle: 29)
    private let tuple = PacketTuple(
        source: IPAddress(ipv4: 0x0A00_0001), destination: IPAddress(ipv4: 0x0A00_0002), sourcePort: 1000,
        destinationPort: 80, transport: TransportProtocol.tcp)

    /// A SYN that was last seen at `time`, in namespace 0.
    private func journey(at time: Int64 = 1_000_000, length: UInt32 = 60, namespace: Int = 0) -> Journey {
        var journey = Journey(
            packet: Packet(
                tuple: tuple, fingerprint: Fingerprint(header: 0, payload: 0), length: length, timeToLive: 64, tcpFlags: .syn))
        journey.legs = [
            JourneyLeg(
                namespace: namespace, stepPath: StepTrie.root, entry: tuple, exit: tuple, lastHook: .forward,
                opensConnection: false, firstEvent: EventHistory.none, lastEvent: EventHistory.none)
        ]
        journey.outcome = .dropped
        journey.firstSeen = time
        journey.lastSeen = time
        return journey
    }

    private func take(_ index: inout RuleTraceIndex, _ messages: [[UInt8]], at time: Int64 = 1_000_000) -> Set<RulePlace> {
        var wanted: Set<RulePlace> = []
        for message in messages {
            wanted.formUnion(
                index.take(message.octets, parser: PacketParser(), namespace: 0, now: time))
        }
        return wanted
    }

    private static func walk(handle: UInt64 = 29, id: UInt32 = 7) -> [[UInt8]] {
        [
            // A jump, then the rule of the other chain: headers come with the first only.
            TraceMessage.bytes(
                3, chain: "FORWARD", handle: 4, verdict: UInt32(bitPattern: -3), id: id, network: TraceMessage.network),
            TraceMessage.bytes(3, chain: "BLOCKLIST", handle: handle, verdict: 0, id: id),
        ]
    }

    @Test("a rule that drops is told from one that jumps, a return and a policy")
    func messages() throws {
        func parse(_ bytes: [UInt8]) throws -> RuleTraceMessage {
            try RuleTraceMessage(parsing: bytes.octets, body: 16..<bytes.count)
        }
        let drop = try parse(Self.walk()[1])
        #expect(drop.isDrop && drop.handle == 29 && drop.chain == "BLOCKLIST" && drop.table == "filter" && drop.id == 7)
        #expect(try !parse(Self.walk()[0]).isDrop)
        #expect(try !parse(TraceMessage.bytes(2, chain: "BLOCKLIST", verdict: 0)).isDrop)
        #expect(try parse(TraceMessage.bytes(1, chain: "FORWARD", policy: 0)).isDrop)
        #expect(try !parse(TraceMessage.bytes(1, chain: "FORWARD", policy: 1)).isDrop)
        #expect(throws: ParseError.self) { try parse(TraceMessage.bytes(9, chain: "FORWARD")) }
        for length in 16..<Self.walk()[1].count {
            // Whatever is cut off, it is understood or refused.
            _ = try? parse(Array(Self.walk()[1].prefix(length)))
        }
    }

    @Test("a dropped packet is found with the rule, and with its text once that has been read")
    func found() {
        var index = RuleTraceIndex()
        let jump = RulePlace(tableFamily: "ip", table: "filter", chain: "FORWARD", handle: 4)
        #expect(take(&index, Self.walk()) == [Self.place, jump])
        let before = index.decision(of: journey())
        #expect(before?.way == [RuleDecision.Jump(jump)])
        #expect(before?.place == Self.place && before?.kind == .rule && before?.text == nil)
        index.note([Self.place: .init(text: "-A BLOCKLIST -j DROP", position: 2)], of: [Self.place], namespace: 0)
        let named = index.decision(of: journey())
        #expect(named?.text == "-A BLOCKLIST -j DROP" && named?.position == 2)
        index.note([jump: .init(text: "-A FORWARD -j BLOCKLIST", position: 1)], of: [jump], namespace: 0)
        #expect(index.decision(of: journey())?.way == [RuleDecision.Jump(jump, text: "-A FORWARD -j BLOCKLIST")])
        #expect(take(&index, Self.walk(id: 8)).isEmpty)
    }

    /// A packet that comes back from the chain, and that the policy accepts.
    private static func passing(id: UInt32) -> [[UInt8]] {
        [
            TraceMessage.bytes(
                3, chain: "FORWARD", handle: 4, verdict: UInt32(bitPattern: -3), id: id, network: TraceMessage.network),
            TraceMessage.bytes(3, chain: "BLOCKLIST", handle: 30, verdict: UInt32(bitPattern: -1), id: id),
            TraceMessage.bytes(3, chain: "BLOCKLIST", handle: 31, verdict: UInt32(bitPattern: -5), id: id),
            // The end of the base chain's rules.
            TraceMessage.bytes(3, chain: "FORWARD", verdict: UInt32(bitPattern: -1), id: id),
            TraceMessage.bytes(1, chain: "FORWARD", policy: 1, id: id),
        ]
    }

    @Test("a traced packet has the rules that it met, without our probes, and with texts once they are read")
    func walks() throws {
        var index = RuleTraceIndex()
        #expect(index.walks(of: journey()).isEmpty)
        // Only what dropped a packet is asked for at once.
        #expect(take(&index, Self.passing(id: 7)).isEmpty)
        index.keepWalks(of: journey())
        #expect(Set((index.takeUnread()[0] ?? []).compactMap(\.handle)) == [4, 30, 31])
        index.keepWalks(of: journey())
        #expect(index.takeUnread().isEmpty)
        let found = index.walks(of: journey())
        let walk = try #require(index.named(found).first)
        #expect(found.count == 1 && walk.table == "filter" && walk.chain == "FORWARD" && walk.namespace == 0)
        // One that only goes on may be a probe as long as it has not been read.
        #expect(walk.rules.map(\.verdict) == [.jump, .return, .accept] && walk.rules.map(\.place.handle) == [4, 31, nil])
        func place(_ chain: String, _ handle: UInt64) -> RulePlace {
            RulePlace(tableFamily: "ip", table: "filter", chain: chain, handle: handle)
        }
        let (jump, probe, back) = (place("FORWARD", 4), place("BLOCKLIST", 30), place("BLOCKLIST", 31))
        index.note(
            [
                jump: .init(text: "-A FORWARD -j BLOCKLIST", position: 1), probe: .init(text: "-j NFLOG", isProbe: true),
            ], of: [jump, probe, back], namespace: 0)
        let named = try #require(index.named(index.walks(of: journey())).first)
        #expect(named.rules.map(\.text) == ["-A FORWARD -j BLOCKLIST", nil, nil] && named.rules.first?.position == 1)
        #expect(index.named(found) == [named])
        // Too late, too long, elsewhere.
        #expect(index.walks(of: journey(at: 1_300_000)).isEmpty && index.walks(of: journey(length: 61)).isEmpty)
        #expect(index.walks(of: journey(namespace: 1)).isEmpty)
    }

    @Test("where two packets that look alike met other rules at the same time, nothing is said of either")
    func ambiguousWalks() {
        var index = RuleTraceIndex()
        _ = take(&index, Self.passing(id: 7))
        _ = take(&index, Self.passing(id: 8))
        // Both met the same, so that it makes no difference.
        #expect(index.walks(of: journey()).count == 1)
        _ = take(&index, Self.walk(id: 9))
        #expect(index.walks(of: journey()).isEmpty)
    }

    @Test("the way into a chain is that of the jumps that the packet has not come back from")
    func way() throws {
        func chains(_ steps: [[UInt8]]) -> [String]? {
            var index = RuleTraceIndex()
            _ = take(&index, steps)
            return index.decision(of: journey())?.way.map { "\($0.place.chain) \($0.place.handle ?? 0)" }
        }
        func rule(_ chain: String, _ handle: UInt64, _ verdict: Int32, isFirst: Bool = false) -> [UInt8] {
            TraceMessage.bytes(
                3, chain: chain, handle: handle, verdict: UInt32(bitPattern: verdict),
                network: isFirst ? TraceMessage.network : nil)
        }
        let (jump, goto, back, drop): (Int32, Int32, Int32, Int32) = (-3, -4, -5, 0)
        let end = TraceMessage.bytes(2, chain: "A", verdict: UInt32(bitPattern: -1))
        #expect(chains([rule("FORWARD", 1, drop, isFirst: true)]) == [])
        #expect(
            chains([rule("FORWARD", 1, jump, isFirst: true), rule("A", 2, jump), rule("B", 3, drop)]) == ["FORWARD 1", "A 2"])
        #expect(
            chains([rule("FORWARD", 1, jump, isFirst: true), end, rule("FORWARD", 4, jump), rule("B", 3, drop)]) == [
                "FORWARD 4"
            ])
        #expect(chains([rule("FORWARD", 1, jump, isFirst: true), rule("A", 2, back), rule("FORWARD", 5, drop)]) == [])
        // From where a goto led there is no way back into the chain that it left.
        #expect(
            chains([rule("FORWARD", 1, jump, isFirst: true), rule("A", 2, goto), rule("B", 3, back), rule("FORWARD", 6, drop)])
                == [])
        #expect(chains([rule("FORWARD", 1, goto, isFirst: true), rule("A", 2, drop)]) == ["FORWARD 1"])
    }

    @Test("of more rules met than are kept, those stay whose packets may still be under way")
    func manyWalks() {
        var index = RuleTraceIndex()
        let walk = RuleWalk(
            namespace: 0, tableFamily: "ip", table: "filter", chain: "FORWARD", rules: [MetRule(Self.place, .accept)])
        // More than the table holds, of packets whose journeys have ended.
        for _ in 0..<8_190 { index.take(walk, of: journey().packet, time: 1_000_000) }
        for _ in 0..<4 { index.take(walk, of: journey(length: 61).packet, time: 20_000_000) }
        #expect(index.walks(of: journey()).isEmpty)
        #expect(index.walks(of: journey(at: 20_000_000, length: 61)) == [walk])
    }

    @Test("where messages of traces were lost, no rules are claimed to have been met")
    func lostMessages() {
        var index = RuleTraceIndex()
        _ = take(&index, Self.passing(id: 7))
        index.noteLoss(namespace: 1, at: 1_000_000)
        #expect(index.walks(of: journey()).count == 1)
        index.noteLoss(namespace: 0, at: 1_150_000)
        index.noteLoss(namespace: 0, at: 1_400_000)
        #expect(index.walks(of: journey()).isEmpty)
        _ = take(&index, Self.passing(id: 8), at: 1_300_000)
        #expect(index.walks(of: journey(at: 1_300_000)).isEmpty)
        _ = take(&index, Self.passing(id: 9), at: 1_700_000)
        #expect(index.walks(of: journey(at: 1_700_000)).count == 1)
    }

    @Test("a packet of another length, namespace or time is another one")
    func others() {
        var index = RuleTraceIndex()
        _ = take(&index, Self.walk())
        #expect(index.decision(of: journey(length: 61)) == nil)
        #expect(index.decision(of: journey(namespace: 1)) == nil)
        #expect(index.decision(of: journey(at: 1_200_000)) == nil)
        #expect(index.decision(of: journey()) != nil)
    }

    @Test("of two such packets at one time that different rules dropped none is named")
    func ambiguous() {
        var index = RuleTraceIndex()
        _ = take(&index, Self.walk())
        _ = take(&index, Self.walk(handle: 30, id: 8), at: 1_050_000)
        #expect(index.decision(of: journey()) == nil)
        #expect(index.decision(of: journey(at: 1_180_000))?.place.handle == 30)
    }

    @Test("a drop without the packet's headers, or long after them, is nobody's")
    func headless() {
        var index = RuleTraceIndex()
        _ = take(&index, [Self.walk()[1]])
        #expect(index.decision(of: journey()) == nil)
        _ = take(&index, [Self.walk()[0]])
        _ = take(&index, [Self.walk()[1]], at: 1_250_000)
        #expect(index.decision(of: journey(at: 1_250_000)) == nil)
    }

    @Test("a policy is named without a rule, and damage is counted")
    func policy() {
        var index = RuleTraceIndex()
        let message = TraceMessage.bytes(1, chain: "FORWARD", policy: 0, network: TraceMessage.network)
        // What the chain accepts is asked for.
        let asked = take(&index, [message])
        #expect(asked.map(\.chain) == ["FORWARD"] && asked.allSatisfy { $0.handle == nil })
        let decision = index.decision(of: journey())
        #expect(decision?.kind == .policy && decision?.place.chain == "FORWARD" && decision?.place.handle == nil)
        _ = take(&index, [Array(message.dropLast(3))])
        #expect(index.malformed == 1 && index.messages == 1)
    }
}
