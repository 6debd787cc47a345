import Aggregation
import Diagnosis
import EventSources
import Reports
import Testing

/// What nft monitor trace and xtables-monitor printed, as an input.
@Suite struct RuleTraceInputTests {
    private static let nft = """
        trace id 0a0a0a01 ip raw PREROUTING packet: iif "lan0" ether saddr 1a:14:f0:b8:b2:c9 ip saddr 192.0.2.2 ip daddr \
        198.51.100.7 ip ttl 64 ip id 5 ip length 60 tcp sport 40000 tcp dport 443 tcp flags == syn tcp window 64240
        trace id 0a0a0a01 ip raw PREROUTING policy accept
        trace id 0a0a0a01 ip filter FORWARD packet: iif "lan0" oif "wan0" ip saddr 192.0.2.2 ip daddr 198.51.100.7 ip ttl 63 \
        ip id 5 ip length 60 tcp sport 40000 tcp dport 443
        trace id 0a0a0a01 ip filter FORWARD rule counter packets 0 bytes 0 jump BLOCKLIST (verdict jump BLOCKLIST)
        trace id 0a0a0a01 ip filter BLOCKLIST rule tcp dport 443 counter packets 1 bytes 60 drop (verdict drop)
        trace id 0a0a0a02 ip filter INPUT packet: iif "lan0" ip saddr 192.0.2.2 ip daddr 192.0.2.1 ip ttl 64 ip id 6 ip length \
        84 icmp type echo-request icmp id 7 icmp sequence 1
        trace id 0a0a0a02 ip filter INPUT policy drop
        trace id 0a0a0a03 inet fw input packet: iif "lan0" ip saddr 192.0.2.2 ip daddr 192.0.2.1 ip length 84

        """

    private static let xtables = """
        PACKET: 2 0a0a0a01 IN=lan0 OUT=wan0 MACSRC=1a:14:f0:b8:b2:c9 SRC=192.0.2.2 DST=198.51.100.7 LEN=60 TOS=0x0 TTL=63 ID=5DF \
        SPORT=40000 DPORT=443 SYN
         TRACE: 2 0a0a0a01 filter:FORWARD:rule:0x4:JUMP:BLOCKLIST  -4 -t filter -A FORWARD -j BLOCKLIST
         TRACE: 2 0a0a0a01 filter:BLOCKLIST:rule:0x1d:DROP  -4 -t filter -A BLOCKLIST -p tcp -m tcp --dport 443 -j DROP

        """

    private func cures(_ text: String) throws -> [String] {
        let snapshot = try Files.with(Array(text.utf8)) { try analyze([$0]) }.snapshot
        return snapshot.findingsReport().findings.flatMap(\.cures).map(\.command)
    }

    private func paths(_ text: String) throws -> PathsReport {
        try Files.with(Array(text.utf8)) { try analyze([$0]) }.snapshot.pathsReport()
    }

    @Test("nft monitor trace: chains, the rule that dropped, and the policy that did")
    func nft() throws {
        let report = try paths(Self.nft)
        let ruled = try #require(report.paths.first { $0.decidedBy?.kind == "rule" })
        #expect(ruled.outcome == "dropped" && ruled.example.destinationPort == 443 && ruled.example.protocol == "tcp")
        #expect(ruled.steps.map(\.chain) == ["PREROUTING", "FORWARD", "BLOCKLIST", "BLOCKLIST"])
        #expect(ruled.steps.allSatisfy { $0.in == "lan0" } && ruled.steps.last?.out == "wan0")
        #expect(ruled.decidedBy?.rule == "tcp dport 443 counter packets 1 bytes 60 drop")
        #expect(ruled.decidedBy?.chain == "BLOCKLIST" && ruled.decidedBy?.evidence == "trace")
        let policy = try #require(report.paths.first { $0.decidedBy?.kind == "policy" })
        #expect(policy.decidedBy?.rule == "-P INPUT DROP" && policy.example.message == "echo request")
        // Of a table that is not iptables' nothing is claimed.
        #expect(report.unplaced.map(\.prefix) == ["inet fw input"] && report.paths.count == 2)
    }

    @Test("a drop in a table that is not iptables' is told at the step before it")
    func nativeDrop() throws {
        let text = """
            trace id 0a0a0a01 ip raw PREROUTING packet: iif "lan0" ip saddr 192.0.2.2 ip daddr 198.51.100.7 ip ttl 64 ip id 5 ip length \
            60 tcp sport 40000 tcp dport 443
            trace id 0a0a0a01 ip raw PREROUTING policy accept
            trace id 0a0a0a01 inet fw pre packet: iif "lan0" ip saddr 192.0.2.2 ip daddr 198.51.100.7 ip ttl 64 ip id 5 ip length 60 \
            tcp sport 40000 tcp dport 443
            trace id 0a0a0a01 inet fw pre rule jump no (verdict jump no)
            trace id 0a0a0a01 inet fw no rule tcp dport 443 drop (verdict drop)

            """
        let path = try #require(try paths(text).paths.first)
        #expect(path.outcome == "dropped" && path.steps.first?.chain == "PREROUTING")
        let decided = try #require(path.decidedBy)
        #expect(
            decided.table == "fw" && decided.chain == "no" && decided.tableFamily == "inet"
                && decided.rule == "tcp dport 443 drop")
    }

    @Test("xtables-monitor: the rule with its handle")
    func xtables() throws {
        let report = try paths(Self.xtables)
        let path = try #require(report.paths.first)
        #expect(report.paths.count == 1 && path.outcome == "dropped" && path.steps.map(\.chain).last == "BLOCKLIST")
        #expect(path.decidedBy?.rule == "-A BLOCKLIST -p tcp -m tcp --dport 443 -j DROP" && path.decidedBy?.handle == 0x1D)
    }

    @Test("xtables-monitor prints no protocol: it is unknown, and no rule is offered that would let all protocols through")
    func unknownProtocol() throws {
        let snapshot = try Files.with(Array(Self.xtables.utf8)) { try analyze([$0]) }.snapshot
        #expect(snapshot.pathsReport().paths.map(\.example.protocol) == ["unknown"])
        #expect(try cures(Self.xtables).isEmpty)
        // The same packet, of which the protocol is known, is offered one.
        let known = try cures(Self.xtables.replacing("LEN=60", with: "PROTO=TCP LEN=60"))
        #expect(known.count == 1 && known.allSatisfy { $0.contains("-p tcp --dport 443 -j ACCEPT") })
    }

    @Test("two rules of one chain are two paths and two drops")
    func twoRules() throws {
        let other = Self.nft.replacing("0a0a0a01", with: "0b0b0b01").replacing(
            "tcp dport 443 counter", with: "tcp flags syn counter")
        let result = try Files.with(Array((Self.nft + other).utf8)) { try analyze([$0]) }
        let ruled = result.snapshot.pathsReport().paths.filter { $0.decidedBy?.kind == "rule" }
        #expect(ruled.count == 2 && Set(ruled.map(\.id)).count == 2)
        let drops = result.snapshot.dropsReport().drops
        #expect(
            drops.count == 3 && "\(result.snapshot.dropsReport().text())".contains("by a rule of filter/BLOCKLIST in host: "))
    }

    @Test("damaged lines are named, and their packet is not guessed")
    func damaged() throws {
        let text =
            "trace id 13 ip filter INPUT packet: iif \"eth0\" ip saddr 192.0.2.1 ip daddr\ntrace id 13 ip filter INPUT rule drop (verd\n"
        let result = try Files.with(Array(text.utf8)) { try analyze([$0]) }
        #expect(result.problems.count == 2 && result.snapshot.completeness.journeys == 0)
    }

    @Test("a rule's comment is no verdict")
    func comment() throws {
        let text = """
            trace id 14 ip filter INPUT packet: iif "eth0" ip saddr 192.0.2.1 ip daddr 192.0.2.2 ip length 60 udp sport 1 udp dport 53
            trace id 14 ip filter INPUT rule udp dport 53 comment "a (verdict accept) rule" drop (verdict drop)

            """
        #expect(try paths(text).paths.first?.decidedBy?.rule == "udp dport 53 comment \"a (verdict accept) rule\" drop")
    }

    @Test("a packet that all chains let pass ends unknown, and lines of neither form are named")
    func unknown() throws {
        let accepted = Self.nft.split(separator: "\n").prefix(2).joined(separator: "\n")
        let result = try Files.with(Array((accepted + "\nnonsense\n").utf8)) { try analyze([$0]) }
        #expect(result.snapshot.pathsReport().paths.map(\.outcome) == ["incomplete"] && result.problems.count == 1)
    }
}
