internal import TraceModel

extension RuleDump.TableContent {
    /// Jumps that are followed one into another, and rules that are looked at.
    private static let deepest = 8
    private static let most = 256

    /// The rules that accept packets in a chain and in those that it jumps to, first to last.
    ///
    /// - Parameter end: how many of the chain's rules count, from the first on; `nil`: all.
    func accepting(in chain: String, before end: Int? = nil) -> [AcceptingRule] {
        let byChain = Dictionary(grouping: rules, by: \.chain)
        var found: [AcceptingRule] = []
        func look(_ name: String, _ end: Int?, _ conditions: [String], _ depth: Int) {
            guard depth <= Self.deepest else { return }
            for rule in (byChain[name] ?? []).prefix(end ?? .max) where found.count < Self.most {
                guard let target = rule.target else { continue }
                let match = conditions + rule.match
                if target == "ACCEPT" {
                    let parsed = RuleConditions(match)
                    found.append(AcceptingRule(text: rule.text, match: parsed.match(), others: parsed.others))
                } else if byChain[target] != nil {
                    look(target, nil, match, depth + 1)
                }
            }
        }
        look(chain, end, [], 0)
        return found
    }

    /// The rules that accept before what drops all the rest: the chain's policy, or its rule without conditions.
    ///
    /// - Parameter index: the rule's index in its chain; `nil` for the policy.
    func acceptingBeforeTheRest(of chain: String, index: Int?) -> [AcceptingRule] {
        guard let index else { return accepting(in: chain) }
        let own = rules.filter { $0.chain == chain }
        guard own.indices.contains(index), RuleConditions(own[index].match).conditions.isEmpty else { return [] }
        return accepting(in: chain, before: index)
    }
}
