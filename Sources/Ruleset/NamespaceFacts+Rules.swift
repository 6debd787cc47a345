internal import TraceModel

extension NamespaceFacts {
    /// Takes in a rule that is no probe.
    mutating func note(_ rule: RuleDump.Rule, _ table: Table, _ family: AddressFamily, _ backend: Backend) {
        backends.insert(backend)
        switch table {
        case .nat:
            translates = true
            guard rule.target == "DNAT" || rule.target == "REDIRECT" else { return }
            let destination = rule.argument(of: "-d").map { text in
                text.hasSuffix("/32") || text.hasSuffix("/128") ? String(text.prefix { $0 != "/" }) : text
            }
            redirections.append(
                Redirection(
                    family: family, chain: rule.chain, destination: destination,
                    port: rule.argument(of: "--dport").flatMap { UInt16($0) }, text: rule.text))
        case .raw:
            if rule.target == "NOTRACK" || (rule.target == "CT" && rule.words.contains("--notrack")) {
                exemptsFromTracking = true
            }
        case .filter:
            let isForEstablished = rule.words.contains { $0.split(separator: ",").contains("ESTABLISHED") }
            if isForEstablished, rule.target == "ACCEPT" { acceptsEstablished.insert(rule.chain) }
        case .mangle, .security, .sentinel: break
        }
    }
}

extension NamespaceFacts {
    /// Chains with more rules are not looked through: each rule is compared with all before it.
    private static let longestChain = 500

    /// Takes in the rules of a table that can never match, because one before them in their chain ends the way of all
    /// packets that they would match.
    mutating func noteShadows(_ content: RuleDump.TableContent, _ table: Table, _ family: AddressFamily) {
        let ending: Set<String> = [
            "ACCEPT", "DROP", "REJECT", "RETURN", "DNAT", "SNAT", "MASQUERADE", "REDIRECT", "NETMAP", "QUEUE",
        ]
        for (chain, rules) in Dictionary(grouping: content.rules, by: \.chain) where rules.count <= Self.longestChain {
            var deciding: [(number: Int, rule: RuleDump.Rule, conditions: RuleConditions)] = []
            for (index, rule) in rules.enumerated() where rule.logPrefix == nil {
                let conditions = RuleConditions(rule.match)
                if let earlier = deciding.first(where: { $0.conditions.includes(conditions) }) {
                    shadows.append(
                        Shadow(
                            family: family, table: table.name, chain: chain, earlier: earlier.rule.text, later: rule.text,
                            number: earlier.number, isRedundant: earlier.rule.action == rule.action,
                            transport: conditions.argument("-p"), source: conditions.argument("-s"),
                            destination: conditions.argument("-d"), port: conditions.argument("--dport")))
                } else if let target = rule.target, ending.contains(target), !conditions.isChangeable {
                    deciding.append((index + 1, rule, conditions))
                }
            }
        }
        shadows.sort { ($0.table, $0.chain, $0.later) < ($1.table, $1.chain, $1.later) }
    }
}

extension RuleDump.Rule {
    /// The target with its options.
    fileprivate var action: [String] { Array(words.dropFirst(match.count)) }
}
