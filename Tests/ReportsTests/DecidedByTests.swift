import Aggregation
import Diagnosis
import Reports
import Testing
import TraceModel

/// Drops by the rule that a trace has named.
@Suite struct DecidedByTests {
    private static func rule(_ handle: UInt64, _ text: String?) -> RuleDecision {
        RuleDecision(
            .rule, at: RulePlace(tableFamily: "ip", table: "filter", chain: "BLOCK", handle: handle), text: text,
            position: text == nil ? nil : Int(handle))
    }

    private static func scene(_ decisions: [RuleDecision?]) throws -> Scene {
        var scene = Scene()
        let next = try #require(scene.probe(1, "security/FORWARD"))
        for decision in decisions {
            scene.add(
                [scene.leg(1, ["raw/PREROUTING", "filter/FORWARD"], request)], .dropped, expected: [next], decision: decision)
        }
        return scene
    }

    @Test("a packet without a trace is said to be its connection's rule's, as inferred, unless two rules dropped others of it")
    func inferred() throws {
        let rule = Self.rule(1, "-A BLOCK -j DROP")
        let one = try Self.scene([nil, rule, rule]).snapshot
        #expect(Set(one.pathsReport().paths.map { $0.decidedBy?.evidence }) == ["inferred", "trace"])
        #expect(one.dropsReport().drops.map(\.packets) == [3] && one.dropsReport().drops.map(\.inferred) == [1])
        let two = try Self.scene([nil, rule, Self.rule(2, "-A BLOCK -j REJECT")]).snapshot
        #expect(two.pathsReport().paths.count { $0.decidedBy?.kind == "unknown" } == 1)
    }

    @Test(
        "what a rule that rejects has the kernel answer, in its own words",
        arguments: [
            ("-A BLOCK -j REJECT --reject-with icmp-admin-prohibited", "icmp-admin-prohibited"),
            ("-A BLOCK -p tcp -j REJECT --reject-with tcp-reset", "tcp-reset"), ("-A BLOCK -j REJECT", "port-unreachable"),
            ("tcp dport 80 reject with tcp reset", "tcp reset"), ("reject", "port-unreachable"),
            (
                "ip saddr 10.0.0.1 counter packets 1 bytes 40 reject with icmp type host-prohibited comment \"x\"",
                "icmp host-prohibited"
            ),
            ("reject with icmpx admin-prohibited", "icmpx admin-prohibited"),
            ("-A BLOCK -m comment --comment \"reject with tcp reset\" -j DROP", nil), ("-A BLOCK -j DROP", nil),
            ("reject with", "port-unreachable"),
        ] as [(String, String?)])
    func answers(_ text: String, _ answer: String?) throws {
        let decided = try #require(try Self.scene([Self.rule(1, text)]).snapshot.pathsReport().paths.first?.decidedBy)
        #expect(decided.answer == answer && decided.verdict == (answer == nil ? "DROP" : "REJECT"))
    }

    @Test("errors of ICMP have their codes by name, and unknown codes none")
    func codes() {
        func name(_ transport: UInt8, _ type: UInt8, _ code: UInt8) -> String? {
            let none = IPAddress(ipv4: 0)
            return ICMPMessage.name(
                of: Packet(
                    tuple: PacketTuple(
                        source: none, destination: none, sourcePort: 0, destinationPort: 0, transport: transport),
                    fingerprint: Fingerprint(header: 0, payload: 0), length: 0, timeToLive: 0, icmpType: type, icmpCode: code))
        }
        #expect(name(1, 3, 4) == "destination unreachable (fragmentation needed)")
        #expect(name(1, 3, 13) == "destination unreachable (administratively prohibited)")
        #expect(name(58, 1, 4) == "destination unreachable (port unreachable)" && name(58, 2, 0) == "packet too big")
        #expect(name(1, 3, 99) == "destination unreachable" && name(1, 8, 0) == "echo request" && name(6, 3, 1) == nil)
    }

    @Test("packets that different rules of one chain dropped are different paths and drops")
    func twoRules() throws {
        let snapshot = try Self.scene([Self.rule(1, "-A BLOCK -j DROP"), Self.rule(2, "-A BLOCK -j REJECT"), nil]).snapshot
        let paths = snapshot.pathsReport().paths
        #expect(paths.map(\.packets) == [1, 1, 1])
        #expect(Set(paths.map(\.id)).count == 3)
        let drops = snapshot.dropsReport().drops
        #expect(Set(drops.map(\.decidedBy?.rule)) == ["-A BLOCK -j DROP", "-A BLOCK -j REJECT", nil])
        let (named, unnamed) = (drops.compactMap(\.decidedBy).filter(\.isRule), drops.filter { $0.decidedBy?.isRule == false })
        #expect(named.allSatisfy { $0.evidence == "trace" && $0.chain == "BLOCK" && $0.packets == 1 && $0.priority == 0 })
        // A drop without a named rule is `unknown`, with its suspects.
        #expect(unnamed.map(\.decidedBy?.kind) == ["unknown"] && unnamed.first?.decidedBy?.evidence == "none")
        #expect(unnamed.first?.decidedBy?.suspects == unnamed.first?.droppedBetween.suspects)
    }

    @Test("the kernel's own reasons are paths, drops and findings of their own, and a metric by name")
    func kernel() throws {
        var scene = Scene()
        let next = [try #require(scene.probe(1, "mangle/FORWARD")), try #require(scene.probe(1, "mangle/INPUT"))]
        let reasons = [
            KernelDecision(reason: "IP_RPFILTER", function: "ip_rcv_finish_core"),
            KernelDecision(reason: "NOT_SPECIFIED", function: "ip_error", route: .blackhole),
            KernelDecision(reason: "NEW_IN_NEXT_KERNEL", function: "ip_new"),
        ]
        for reason in reasons + [reasons[0]] {
            scene.add([scene.leg(1, ["raw/PREROUTING", "nat/PREROUTING"], request)], .dropped, expected: next, kernel: reason)
        }
        let snapshot = scene.snapshot
        let decided = snapshot.pathsReport().paths.compactMap(\.decidedBy)
        #expect(decided.map(\.kind) == ["kernel", "kernel", "kernel"] && decided.allSatisfy { $0.evidence == "drop_reason" })
        #expect(decided.map(\.reason) == ["IP_RPFILTER", "NOT_SPECIFIED", "NEW_IN_NEXT_KERNEL"])
        #expect(
            decided.map(\.packets) == [2, 1, 1] && decided.map(\.function) == ["ip_rcv_finish_core", "ip_error", "ip_new"])
        #expect(decided.last?.explanation == "NEW_IN_NEXT_KERNEL in ip_new")
        // Of a namespace whose settings are not known.
        #expect(snapshot.findings.map(\.kind) == ["packets-dropped", "packets-dropped", "packets-dropped"])
        #expect(snapshot.rulesReport().unnamed == 0)
        let metrics = snapshot.metrics()
        #expect(metrics.contains("ipt_trace_kernel_drops_total{reason=\"IP_RPFILTER\"} 2\n"))
        #expect(metrics.contains("ipt_trace_kernel_drops_total{reason=\"other\"} 1\n"))
        #expect(metrics.contains("ipt_trace_kernel_drops_total{reason=\"NO_SOCKET\"} 0\n"))
        #expect(metrics.contains("ipt_trace_decided_drops_total{kind=\"kernel\",owner=\"none\"} 4\n"))
    }

    @Test("a journey in the place of an older one has nothing of what decided that one")
    func recycled() throws {
        var limits = TraceAggregate.Limits()
        limits.recentJourneys = 1
        var scene = Scene(limits: limits)
        let next = try #require(scene.probe(1, "security/FORWARD"))
        scene.add(
            [scene.leg(1, ["raw/PREROUTING", "filter/FORWARD"], request)], .dropped, expected: [next],
            decision: Self.rule(1, "-A BLOCK -j DROP"))
        #expect(scene.snapshot.journeysReport().journeys.map { $0.decidedBy?.rule } == ["-A BLOCK -j DROP"])
        scene.add([scene.leg(1, ["raw/PREROUTING", "filter/FORWARD"], request)], .dropped, expected: [next])
        #expect(scene.snapshot.journeysReport().journeys.map { $0.decidedBy?.kind } == ["unknown"])
    }

    @Test("a rule whose text is read only after its first packet is one rule")
    func lateText() throws {
        let snapshot = try Self.scene([Self.rule(1, nil), Self.rule(1, "-A BLOCK -j DROP"), Self.rule(1, nil)]).snapshot
        let paths = snapshot.pathsReport().paths
        #expect(paths.map(\.packets) == [3])
        #expect(paths.first?.decidedBy?.rule == "-A BLOCK -j DROP")
        #expect(paths.first?.decidedBy?.position == 1)
    }

    @Test("a rule that could not be read is named by its number, not by another's text")
    func gone() throws {
        let snapshot = try Self.scene([Self.rule(7, nil)]).snapshot
        let decided = try #require(snapshot.pathsReport().paths.first?.decidedBy)
        #expect(decided.rule == nil && decided.handle == 7)
        #expect(decided.text.contains("number 7"))
    }

    @Test("of a policy the accepting rules that came closest are told, with what the packet had instead")
    func nearest() throws {
        func accepting(_ text: String, _ conditions: [(RuleMatch.Subject, String)], _ others: [String] = []) -> AcceptingRule {
            let match = RuleMatch(
                conditions: conditions.map { RuleMatch.Condition(subject: $0.0, values: [$0.1], isNegated: false) },
                isPartial: !others.isEmpty)
            return AcceptingRule(text: text, match: match, others: others)
        }
        let place = RulePlace(tableFamily: "ip", table: "filter", chain: "FORWARD")
        let decision = RuleDecision(
            .policy, at: place,
            accepting: [
                accepting("answers", [], ["--ctstate ESTABLISHED"]),
                accepting("dns", [(.transport, "tcp"), (.destinationPort, "5353")]),
                accepting("elsewhere", [(.transport, "udp"), (.destination, "9.9.9.0/24")]),
                accepting("marked", [(.source, "1.1.1.1")], ["--mark 0x1"]),
                // Not there yet when the packet was dropped.
                accepting("later", [(.transport, "udp")]),
            ])
        let report = try Self.scene([decision]).snapshot.pathsReport()
        let decided = try #require(report.paths.first?.decidedBy)
        let nearest = try #require(decided.nearest)
        #expect(decided.kind == "policy" && nearest.map(\.rule) == ["elsewhere", "answers", "dns"])
        #expect(nearest[0].failed.map(\.condition) == ["-d 9.9.9.0/24"] && nearest[0].failed[0].packetValue == "8.8.8.8")
        #expect(nearest[1].failed.isEmpty && nearest[1].unknown == ["--ctstate ESTABLISHED"])
        #expect(nearest[0].text == "elsewhere would accept but for -d 9.9.9.0/24 (it was 8.8.8.8)")
    }

    @Test("of a packet of another protocol nothing is said of ports, which it does not have")
    func ports() {
        let ping = RuleMatch.Packet(
            PacketTuple(
                source: IPAddress(ipv4: 1), destination: IPAddress(ipv4: 2), sourcePort: 7, destinationPort: 0,
                transport: TransportProtocol.icmp))
        func match(_ transport: String) -> RuleMatch {
            RuleMatch(
                conditions: [
                    RuleMatch.Condition(subject: .transport, values: [transport], isNegated: false),
                    RuleMatch.Condition(subject: .destinationPort, values: ["53"], isNegated: false),
                ], isPartial: false)
        }
        #expect(match("udp").undecided(by: ping).isEmpty && match("udp").failed(by: ping).map(\.text) == ["-p udp"])
        #expect(match("icmp").undecided(by: ping).map(\.text) == ["--dport 53"])
    }

    @Test("packets that one policy dropped are one drop, whatever rules came closest to each")
    func samePolicy() throws {
        var scene = try Self.scene([])
        let next = try #require(scene.probe(1, "security/FORWARD"))
        let rule = AcceptingRule(
            text: "web",
            match: RuleMatch(
                conditions: [RuleMatch.Condition(subject: .destinationPort, values: ["443"], isNegated: false)],
                isPartial: false),
            others: [])
        let decision = RuleDecision(
            .policy, at: RulePlace(tableFamily: "ip", table: "filter", chain: "FORWARD"), accepting: [rule])
        for (chains, port) in [(["filter/FORWARD"], 80), (["mangle/FORWARD", "filter/FORWARD"], 81)] as [([String], UInt16)] {
            let tuple = PacketTuple(
                source: IPAddress(ipv4: 1), destination: IPAddress(ipv4: 2), sourcePort: 1, destinationPort: port,
                transport: TransportProtocol.tcp)
            scene.add([scene.leg(1, chains, tuple)], .dropped, expected: [next], decision: decision)
        }
        let snapshot = scene.snapshot
        #expect(snapshot.pathsReport().paths.count == 2)
        #expect(snapshot.dropsReport().drops.map(\.packets) == [2])
        #expect(snapshot.rulesReport().rules.map(\.packets) == [2])
        #expect(snapshot.findingsReport().findings.filter { $0.kind == "packets-dropped" }.map(\.packets) == [2])
    }
}
