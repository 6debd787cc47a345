import Ruleset
import Testing
import TraceModel

@Suite struct InvalidDropTests {
    struct Case: CustomTestStringConvertible, Sendable {
        var testDescription: String
        var rules: [String]
        /// Index of the rule that is named; `nil` for none.
        var named: Int?
    }

    @Test(
        "the rule that asks for INVALID is named where it drops, itself or through chains that it leads to",
        arguments: [
            Case(testDescription: "a rule", rules: ["-A INPUT -m conntrack --ctstate INVALID -j DROP"], named: 0),
            Case(testDescription: "the old match", rules: ["-A INPUT -m state --state INVALID -j DROP"], named: 0),
            Case(
                testDescription: "in a chain that is jumped to",
                rules: ["-A INPUT -j SUB", "-A SUB -m conntrack --ctstate INVALID -j REJECT"], named: 1),
            Case(
                testDescription: "a jump to a chain that logs and drops",
                rules: ["-A INPUT -m conntrack --ctstate INVALID -j LOGDROP", "-A LOGDROP -j LOG", "-A LOGDROP -j DROP"],
                named: 0),
            Case(
                testDescription: "a list of states",
                rules: ["-A INPUT -m conntrack --ctstate INVALID,UNTRACKED -j DROP"], named: 0),
            Case(
                testDescription: "what is neither established nor new",
                rules: ["-A INPUT -m conntrack ! --ctstate NEW,RELATED,ESTABLISHED -j DROP"], named: 0),
            Case(testDescription: "all but INVALID", rules: ["-A INPUT -m conntrack ! --ctstate INVALID -j DROP"]),
            Case(
                testDescription: "a list that established connections are part of",
                rules: ["-A INPUT -m conntrack --ctstate INVALID,ESTABLISHED -j DROP"]),
            Case(testDescription: "a rule that only logs", rules: ["-A INPUT -m conntrack --ctstate INVALID -j LOG"]),
            Case(testDescription: "a chain that nothing leads to", rules: ["-A SUB -m conntrack --ctstate INVALID -j DROP"]),
            Case(
                testDescription: "chains that lead to one another",
                rules: ["-A INPUT -j SUB", "-A SUB -j LOGDROP", "-A LOGDROP -j SUB"]),
        ])
    func rules(_ test: Case) throws {
        let facts = try NamespaceFacts(
            rules: """
                *filter
                :INPUT ACCEPT [0:0]
                :SUB - [0:0]
                :LOGDROP - [0:0]
                \(test.rules.joined(separator: "\n"))
                COMMIT
                """)
        #expect(facts.invalidDrops.map(\.rule) == (test.named.map { [test.rules[$0]] } ?? []))
        #expect(facts.invalidDrops.allSatisfy { $0.chain == "INPUT" && $0.table == "filter" })
    }
}
