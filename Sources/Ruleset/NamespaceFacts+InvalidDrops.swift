internal import TraceModel

extension NamespaceFacts {
    /// A chain that has been looked through, and whether a jump on the way asked for INVALID.
    private struct Visit: Hashable {
        var chain: String
        var isForInvalid: Bool
    }

    /// Takes in the rules of a table that drop what connection tracking calls INVALID.
    mutating func noteInvalidDrops(
        _ content: RuleDump.TableContent, _ rules: [String: [RuleDump.Rule]], _ family: AddressFamily, _ backend: Backend
    ) {
        for chain in content.chains where chain.policy != "-" {
            var seen: Set<Visit> = []
            guard let rule = Self.invalidDrop(chain.name, rules, asking: nil, depth: 0, &seen) else { continue }
            invalidDrops.append(
                InvalidDrop(family: family, backend: backend, table: content.name, chain: chain.name, rule: rule.text))
        }
    }

    /// The kernel refuses rule sets with longer sequences of jumps (`NFT_JUMP_STACK_SIZE`).
    private static let jumpLimit = 16

    /// The first rule that asks for INVALID and drops, or leads to a rule that drops.
    ///
    /// - Parameter asking: the rule that asked for it on the way to `chain`; `nil` for none.
    private static func invalidDrop(
        _ chain: String, _ rules: [String: [RuleDump.Rule]], asking: RuleDump.Rule?, depth: Int,
        _ seen: inout Set<Visit>
    ) -> RuleDump.Rule? {
        guard depth <= jumpLimit, seen.insert(Visit(chain: chain, isForInvalid: asking != nil)).inserted else { return nil }
        for rule in rules[chain] ?? [] {
            guard let target = rule.target else { continue }
            let asking = rule.asksForInvalid ? rule : asking
            if target == "DROP" || target == "REJECT" {
                if let asking { return asking }
            } else if rules[target] != nil, let found = invalidDrop(target, rules, asking: asking, depth: depth + 1, &seen) {
                return found
            }
        }
        return nil
    }
}

extension RuleDump.Rule {
    /// Whether INVALID packets are among those that the states ask for, and those of connections are not.
    fileprivate var asksForInvalid: Bool {
        guard words.contains(where: { $0 == "--ctstate" || $0 == "--state" }) else { return false }
        return RuleConditions(match).conditions.contains { condition in
            guard condition.option == "--ctstate" || condition.option == "--state" else { return false }
            let states = Set(condition.arguments.first?.split(separator: ",").map(String.init) ?? [])
            return states.contains("INVALID") != condition.isNegated && states.contains("ESTABLISHED") == condition.isNegated
        }
    }
}
