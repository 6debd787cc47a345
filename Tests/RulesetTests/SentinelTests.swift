import Ruleset
import Testing
import TraceModel

@Suite struct SentinelTests {
    private let table = SentinelTable(
        family: .ipv4, run: "abc123", group: 7, match: ["-p", "tcp", "--dport", "80"], translatedMatch: "tcp dport 80",
        expires: 1_795_269_600)

    @Test func nftReadsOneChainForEachSentinel() {
        let lines = table.text.split(separator: "\n").map { $0.trimmingPrefix("\t\t") }
        #expect(lines.first == "table ip ipt-trace-abc123 {")
        #expect(lines.filter { $0.hasPrefix("type filter hook") }.count == 9)
        #expect(lines.contains("type filter hook prerouting priority -101; policy accept;"))
        #expect(lines.contains("type filter hook input priority 99; policy accept;"))
        #expect(
            lines.contains(
                "meta time < 1795269600 tcp dport 80 counter log prefix \"ipt-trace:abc123:sentinel:FORWARD-end\" group 7 "
                    + "comment \"until 1795269600; match -p tcp --dport 80\""))
    }

    @Test func theChainsStandWhereNoOtherTableTells() {
        for hook in Hook.allCases {
            let nat = Table.nat.hooks.contains(hook) ? HookPriority.of(.nat, at: hook, backend: .nft) : nil
            let tables = Table.iptables.filter { $0.hooks.contains(hook) }.flatMap { table in
                Backend.allCases.map { HookPriority.of(table, at: hook, backend: $0) }
            }
            for sentinel in Sentinel.all(at: hook) {
                let priority = sentinel.priority(at: hook)
                switch sentinel {
                case .beforeNAT: #expect(priority + 1 == nat && !tables.contains(priority))
                case .end: #expect(tables.allSatisfy { $0 < priority })
                }
                #expect(Sentinel.parse(sentinel.chain(at: hook))?.sentinel == sentinel)
            }
        }
        #expect(Sentinel.parse("FORWARD-before-nat") == nil && Sentinel.parse("FORWARD") == nil)
    }

    @Test func whatNftListsIsReadBack() throws {
        let json = """
            {"nftables": [{"metainfo": {"version": "1.0.6"}}, {"table": {"family": "ip", "name": "ipt-trace-abc123", "handle": 1}},
            {"chain": {"family": "ip", "table": "ipt-trace-abc123", "name": "INPUT-end", "handle": 1, "prio": 299}},
            {"rule": {"family": "ip", "table": "ipt-trace-abc123", "chain": "INPUT-end", "handle": 2,
            "comment": "until 1795269600; match -p tcp --dport 80", "expr": [{"match": {"op": "<", "left": {"meta": {"key": "time"}},
            "right": "2026-11-21 14:00:00"}}, {"counter": {"packets": 12, "bytes": 900}},
            {"log": {"prefix": "ipt-trace:abc123:sentinel:INPUT-end", "group": 7}}]}},
            {"rule": {"family": "ip", "table": "ipt-trace-abc123", "chain": "INPUT-end", "handle": 3,
            "expr": [{"log": {"prefix": "somebody else's", "group": 7}}]}}]}
            """
        let found = try SentinelTable.found(json: json, .ipv4, namespace: 3)
        #expect(found.count == 1)
        let probe = try #require(found.first?.probe)
        #expect(probe.priority == 299 && probe.hook == .input && probe.namespace == 3 && probe.isInBaseChain)
        #expect(found.first?.packets == 12 && found.first?.group == 7 && found.first?.run == "abc123")
        let match = ProbeSurvey.coverage(of: ["-p", "tcp", "--dport", "80"])
        guard case .every(let condition, let until) = probe.coverage, case .every(let wanted, _) = match else {
            Issue.record("the coverage is not known")
            return
        }
        #expect(condition == wanted && until == 1_795_269_600)
    }

    @Test func aCommentThatCannotBeReadMayMatchAnything() {
        #expect(ProbeSurvey.coverage(of: SentinelTable.Comment("match -p \"tcp").match) == .some)
    }
}
