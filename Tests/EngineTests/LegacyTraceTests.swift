import Engine
import LinuxSupport
import Ruleset
import Testing
import TraceModel
import WireFormat

/// Packets' ways through the rules of iptables-legacy, of which the kernel gives the numbers (`trace_packet` in ip_tables.c).
@Suite struct LegacyTraceTests {
    private static let dump = """
        *filter
        :FORWARD DROP [0:0]
        :CHECK - [0:0]
        :LAST - [0:0]
        -A FORWARD -j NFLOG --nflog-prefix "ipt-trace:0123456789abcdef:filter:FORWARD" --nflog-group 5
        -A FORWARD -p tcp -j CHECK
        -A FORWARD -p tcp -g LAST
        -A FORWARD -j ACCEPT
        -A CHECK -p udp -j RETURN
        -A CHECK -p tcp -j MARK --set-xmark 0x1/0xffffffff
        -A LAST -s 10.0.0.1/32 -j REJECT --reject-with icmp-port-unreachable
        COMMIT

        """

    private static let tuple = PacketTuple(
        source: IPAddress(ipv4: 0x0A00_0001), destination: IPAddress(ipv4: 0x0A00_0002), sourcePort: 1000,
        destinationPort: 80, transport: TransportProtocol.tcp)

    /// What group 0 tells of a SYN from 10.0.0.1:1000 to 10.0.0.2:80, 40 bytes long.
    private static func message(_ line: String) -> [UInt8] {
        let packet: [UInt8] = [
            0x45, 0, 0, 40, 0, 1, 0, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2, 0x03, 0xE8, 0, 80, 0, 0, 0, 1, 0, 0, 0, 0, 0x50,
            0x02, 0xFF, 0xFF, 0, 0, 0, 0,
        ]
        var request = NetlinkRequest()
        request.append(type: NFLogMessage.packetType, flags: [], body: NetlinkRequest.nfgenmsg(family: 2)) { message in
            // NFULA_PREFIX, NFULA_PAYLOAD
            message.attribute(10, text: "TRACE: filter:\(line) ")
            message.attribute(9, packet)
        }
        return request.bytes
    }

    private static func journey(at time: Int64 = 1_000_000) -> Journey {
        var journey = Journey(
            packet: Packet(
                tuple: tuple, fingerprint: Fingerprint(header: 0, payload: 0), length: 40, timeToLive: 64, tcpFlags: .syn))
        journey.legs = [
            JourneyLeg(
                namespace: 0, stepPath: StepTrie.root, entry: tuple, exit: tuple, lastHook: .forward, opensConnection: false,
                firstEvent: EventHistory.none, lastEvent: EventHistory.none)
        ]
        journey.firstSeen = time
        journey.lastSeen = time
        return journey
    }

    /// - Parameter unknown: a rule that may have been another one then.
    private static func index(after lines: [String], unknown: String? = nil) throws -> RuleTraceIndex {
        var index = RuleTraceIndex()
        index.keepsKnown = true
        try take(lines, at: 1_000_000, into: &index, unknown: unknown)
        return index
    }

    private static func take(_ lines: [String], at time: Int64, into index: inout RuleTraceIndex, unknown: String? = nil) throws
    {
        let rules = LegacyRules([.ipv4: try RuleDump(parsing: dump)])
        for line in lines { index.takeLogged(message(line).octets, parser: PacketParser(), namespace: 0, now: time) }
        let waiting = index.takeUndecidedLegacy(namespace: 0)
        let traces = try #require(waiting)
        #expect(index.takeUndecidedLegacy(namespace: 0) == nil)
        var found: [LegacyTrace: LegacyStep] = [:]
        for trace in traces where "\(trace.place.chain):\(trace.place.number ?? 0)" != unknown {
            found[trace] = rules.step(at: trace.place)
        }
        index.note(found, received: time, namespace: 0)
    }

    private static func met(_ index: inout RuleTraceIndex, at time: Int64 = 1_000_000) -> [String] {
        index.walks(of: journey(at: time)).flatMap { walk in
            walk.rules.map { "\(walk.chain): \($0.position ?? 0) \($0.text ?? $0.place.chain) \($0.verdict.rawValue)" }
        }
    }

    private static let passing = [
        "FORWARD:rule:1", "FORWARD:rule:2", "CHECK:rule:2", "CHECK:return:3", "FORWARD:rule:4",
    ]
    private static let dropped = [
        "FORWARD:rule:1", "FORWARD:rule:2", "CHECK:rule:2", "CHECK:return:3", "FORWARD:rule:3", "LAST:rule:1",
    ]

    @Test("the rules that a packet met, without our probes and the ends of chains, in the kernel's order")
    func walk() throws {
        var index = try Self.index(after: Self.passing)
        #expect(
            Self.met(&index) == [
                "FORWARD: 1 -A FORWARD -p tcp -j CHECK jump",
                "FORWARD: 2 -A CHECK -p tcp -j MARK --set-xmark 0x1/0xffffffff continue",
                "FORWARD: 3 -A FORWARD -j ACCEPT accept",
            ])
        #expect(index.takeWalkNotes().count == 1 && index.takeKnown().isEmpty)
    }

    @Test("a rule that drops has the rules that led to it, and the chain that nobody comes back from ends at the policy")
    func way() throws {
        var index = try Self.index(after: Self.dropped)
        let dropped = index.decision(of: Self.journey())
        let decision = try #require(dropped)
        #expect(decision.text?.contains("REJECT") == true)
        #expect(decision.way.map(\.text) == ["-A FORWARD -p tcp -g LAST"])
        #expect(Self.met(&index).last?.hasSuffix("REJECT --reject-with icmp-port-unreachable drop") == true)
        #expect(index.takeKnown().map(\.drop.decision.way) == [decision.way])

        var policy = try Self.index(after: Self.dropped.dropLast() + ["LAST:return:2", "FORWARD:policy:5"])
        let atPolicy = policy.decision(of: Self.journey())
        let end = try #require(atPolicy)
        #expect(end.kind == .policy && end.way.isEmpty)
        #expect(Self.met(&policy).last == "FORWARD: 0 FORWARD drop")
    }

    @Test(
        "where a line is missing, of a rule that may have changed, or of another packet, no rules are claimed to have been met",
        arguments: [
            Array(passing.dropFirst(2)), passing.filter { $0 != "CHECK:return:3" }, passing.filter { $0 != "FORWARD:rule:2" },
            passing.flatMap { [$0, $0] }, Array(passing.dropLast()),
        ])
    func mixed(_ lines: [String]) throws {
        var index = try Self.index(after: lines)
        try Self.take(Self.passing, at: 1_100_000, into: &index)
        #expect(Self.met(&index).isEmpty)
        // Sent again: by then no line of the others is under way any more.
        try Self.take(Self.passing, at: 1_400_000, into: &index)
        #expect(Self.met(&index, at: 1_400_000).count == 3)
    }

    @Test("a journey that ends before the rules are known has them afterwards")
    func late() throws {
        let rules = LegacyRules([.ipv4: try RuleDump(parsing: Self.dump)])
        var index = RuleTraceIndex()
        let journey = Self.journey()
        #expect(!index.mayHaveWalks(at: 1_000_000))
        for line in Self.passing {
            index.takeLogged(Self.message(line).octets, parser: PacketParser(), namespace: 0, now: 1_000_000)
        }
        #expect(index.mayHaveWalks(at: 1_000_000))
        index.keepWalks(of: journey)
        #expect(index.keptWalks(of: journey.serial).isEmpty)
        let found = index.takeUndecidedLegacy(namespace: 0)?.map { ($0, rules.step(at: $0.place)) } ?? []
        index.note(
            Dictionary(uniqueKeysWithValues: found).compactMapValues { $0 }, received: 1_000_000, namespace: 0)
        #expect(index.keptWalks(of: journey.serial).map(\.rules.count) == [3])
    }

    @Test("a drop is named even where the way to it is not known")
    func unknown() throws {
        var index = try Self.index(after: Self.dropped, unknown: "CHECK:2")
        let dropped = index.decision(of: Self.journey())
        let decision = try #require(dropped)
        #expect(decision.text?.contains("REJECT") == true && decision.way.isEmpty)
        #expect(Self.met(&index).isEmpty)
    }
}
