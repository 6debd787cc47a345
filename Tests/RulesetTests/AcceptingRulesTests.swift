import Ruleset
import Testing
import TraceModel

/// The rules that accept before a policy or a last rule drops the rest.
@Suite struct AcceptingRulesTests {
    private static let dump = """
        *filter
        :FORWARD DROP [0:0]
        :WEB - [0:0]
        :LOOP - [0:0]
        -A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
        -A FORWARD -i eth0 -j WEB
        -A FORWARD -p udp -m udp --dport 53 -j ACCEPT
        -A FORWARD -j REJECT
        -A FORWARD -p icmp -j ACCEPT
        -A WEB -s 10.0.0.0/8 -p tcp -m multiport --dports 80,443 -j ACCEPT
        -A WEB -m set --match-set friends src -j ACCEPT
        -A LOOP -j LOOP
        COMMIT

        """

    private static func decision(_ number: Int) throws -> RuleDecision {
        let rules = LegacyRules([.ipv4: try RuleDump(parsing: dump)])
        return try #require(
            rules.decision(
                at: RulePlace(tableFamily: "ip", table: "filter", chain: "FORWARD", number: number, backend: .legacy)))
    }

    @Test("those of the chain and of those it jumps to, with the conditions of the jumps, up to the rule that drops")
    func collected() throws {
        let rules = try Self.decision(4).accepting
        #expect(rules.map(\.text).count == 4 && rules.last?.text == "-A FORWARD -p udp -m udp --dport 53 -j ACCEPT")
        #expect(rules[0].others == ["--ctstate RELATED,ESTABLISHED"] && rules[0].match.conditions.isEmpty)
        #expect(rules[1].match.conditions.map(\.text) == ["-i eth0", "-s 10.0.0.0/8", "-p tcp", "--dport 80,443"])
        #expect(rules[1].others.isEmpty)
        #expect(rules[2].others.contains { $0.contains("friends") })
        // Of the policy, all.
        #expect(try Self.decision(6).accepting.last?.text == "-A FORWARD -p icmp -j ACCEPT")
    }
}
