import Ruleset
import Testing
import TraceModel

/// What iptables-legacy's rule numbers mean.
@Suite struct LegacyRulesTests {
    private static func rules(_ text: String) throws -> LegacyRules { LegacyRules([.ipv4: try RuleDump(parsing: text)]) }

    private static let dump = """
        *filter
        :INPUT DROP [0:0]
        :FORWARD ACCEPT [0:0]
        :BLOCK - [0:0]
        -A INPUT -m comment --comment x -j NFLOG --nflog-prefix "ipt-trace:0123456789abcdef:filter:INPUT" --nflog-group 5
        -A INPUT -p tcp -j ACCEPT
        -A INPUT -p udp -j DROP
        -A INPUT -j BLOCK
        -A BLOCK -s 10.0.0.1/32 -j REJECT --reject-with icmp-port-unreachable
        -A BLOCK -j DROP
        COMMIT

        """

    private static func place(_ chain: String, _ number: Int) -> RulePlace {
        RulePlace(tableFamily: "ip", table: "filter", chain: chain, number: number, backend: .legacy)
    }

    @Test("a number is a rule's, or past the last one the policy's; only what drops decides")
    func numbers() throws {
        let rules = try Self.rules(Self.dump)
        #expect(rules.decision(at: Self.place("INPUT", 2)) == nil)
        let drop = try #require(rules.decision(at: Self.place("INPUT", 3)))
        #expect(drop.kind == .rule && drop.text == "-A INPUT -p udp -j DROP")
        #expect(rules.decision(at: Self.place("INPUT", 4)) == nil)
        #expect(rules.decision(at: Self.place("INPUT", 5))?.kind == .policy)
        #expect(rules.decision(at: Self.place("INPUT", 6)) == nil)
        #expect(rules.decision(at: Self.place("INPUT", 0)) == nil)
        #expect(rules.decision(at: Self.place("BLOCK", 1))?.text?.contains("REJECT") == true)
        // The kernel calls a rule without conditions the return of its chain.
        #expect(rules.decision(at: Self.place("BLOCK", 2))?.text == "-A BLOCK -j DROP")
        #expect(rules.decision(at: Self.place("BLOCK", 3)) == nil)
        #expect(rules.decision(at: Self.place("FORWARD", 1)) == nil)
        #expect(rules.decision(at: Self.place("GONE", 1)) == nil)
    }

    @Test("a rule is named only where its chain was the same before and after")
    func changes() throws {
        let first = try Self.rules(Self.dump)
        let inserted = try Self.rules(
            Self.dump.replacingOccurrences("-A INPUT -p tcp", "-A INPUT -s 10.9.9.9/32 -j DROP\n-A INPUT -p tcp"))
        let second: Int64 = 1_000_000
        var history = LegacyRuleHistory()
        #expect(history.step(at: Self.place("INPUT", 3), time: second) == nil)
        history.add(first, begun: 0, ended: 1)
        // Not yet read after it.
        #expect(history.step(at: Self.place("INPUT", 3), time: second) == nil)
        history.add(first, begun: 2 * second, ended: 2 * second + 1)
        #expect(history.step(at: Self.place("INPUT", 3), time: second)?.decision?.text == "-A INPUT -p udp -j DROP")
        // Before the first reading, and so soon after it that the packet may have been earlier.
        #expect(history.step(at: Self.place("INPUT", 3), time: 0) == nil)
        #expect(history.step(at: Self.place("INPUT", 3), time: 50_000) == nil)
        history.add(inserted, begun: 4 * second, ended: 4 * second + 1)
        #expect(history.step(at: Self.place("INPUT", 3), time: 3 * second) == nil)
        // A chain that the change leaves alone.
        #expect(history.step(at: Self.place("BLOCK", 2), time: 3 * second)?.decision?.text == "-A BLOCK -j DROP")
        history.add(inserted, begun: 6 * second, ended: 6 * second + 1)
        #expect(history.step(at: Self.place("INPUT", 4), time: 5 * second)?.decision?.text == "-A INPUT -p udp -j DROP")
        // Changed and changed back in between: nobody can see that, but what was read in between counts.
        history.add(first, begun: 8 * second, ended: 8 * second + 1)
        #expect(history.step(at: Self.place("INPUT", 3), time: 3 * second) == nil)
    }
}

extension String {
    fileprivate func replacingOccurrences(_ old: String, _ new: String) -> String {
        split(separator: old, omittingEmptySubsequences: false).joined(separator: new)
    }
}
