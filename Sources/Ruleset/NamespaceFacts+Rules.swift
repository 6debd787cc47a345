internal import TraceModel

extension NamespaceFacts {
    /// Takes in a rule that is no probe.
    mutating func note(_ rule: RuleDump.Rule, _ table: Table, _ family: AddressFamily, _ backend: Backend) {
        backends.insert(backend)
        switch table {
        case .nat: translates = true
        case .raw:
            if rule.target == "NOTRACK" || (rule.target == "CT" && rule.words.contains("--notrack")) {
                exemptsFromTracking = true
            }
        case .filter, .mangle, .security, .sentinel: break
        }
    }

    /// Takes in a table as a whole.
    ///
    /// - Parameter hooks: the hooks from which each chain is reached.
    mutating func note(
        _ content: RuleDump.TableContent, _ table: Table, _ family: AddressFamily, _ backend: Backend, hooks: [String: [Hook]]
    ) {
        let rules = Dictionary(grouping: content.rules, by: \.chain)
        guard content.obstacle == nil else {
            // Rules without words may accept anything, which keeps findings from claiming the contrary.
            if table == .filter || table == .nat {
                chains =
                    (chains ?? [])
                    + content.chains.filter { $0.policy != "-" }.map { chain in
                        let own = rules[chain.name] ?? []
                        return Chain(
                            family: family, backend: backend, table: table.name, name: chain.name,
                            probesAtHead: own.prefix { $0.ownPrefix != nil }.count,
                            hasRules: own.contains { $0.ownPrefix == nil }, acceptsEstablished: true, dropsTheRestOnly: false)
                    }
            }
            return
        }
        noteInvalidDrops(content, rules, family, backend)
        noteShadows(content, rules, family, backend)
        chains = (chains ?? []) + Self.chains(content, rules, table, family, backend)
        if table == .nat { noteRedirections(content, family, backend) }
    }

    private mutating func noteRedirections(
        _ content: RuleDump.TableContent, _ family: AddressFamily, _ backend: Backend
    ) {
        var ways = JumpWays(content.rules)
        for rule in content.rules where rule.target == "DNAT" || rule.target == "REDIRECT" {
            let found = ways.ways(to: rule.chain)
            for way in found.isEmpty ? [JumpWays.Way(base: "", jumps: [])] : found {
                let conditions = RuleConditions(way.jumps.flatMap(\.match) + rule.match)
                let match = conditions.match(for: "OUTPUT")
                redirections.append(
                    Redirection(
                        family: family, backend: backend, chain: rule.chain, match: match,
                        isReachedFromPrerouting: way.base == "PREROUTING", isReachedFromOutput: way.base == "OUTPUT",
                        outputArguments: match.isPartial
                            ? nil : conditions.wordsOfLocalRule(family).map { $0 + rule.action },
                        sharesOut: conditions.usesModule("statistic"), target: rule.newDestination.map { "\($0)" },
                        text: rule.text))
            }
        }
    }
}

/// How chains of a table are reached from built-in ones.
private struct JumpWays {
    struct Way {
        /// The built-in chain where it begins.
        var base: String
        /// The rules that jump, first to last.
        var jumps: [RuleDump.Rule]
    }

    /// By the chain that they jump to.
    private var jumps: [String: [RuleDump.Rule]] = [:]
    private var known: [String: [Way]] = [:]

    /// Of more ways than that, the rest is left out.
    private static let limit = 16

    init(_ rules: [RuleDump.Rule]) {
        for rule in rules {
            if let target = rule.target { jumps[target, default: []].append(rule) }
        }
    }

    mutating func ways(to chain: String) -> [Way] {
        if let found = known[chain] { return found }
        if Hook(name: chain) != nil { return [Way(base: chain, jumps: [])] }
        // A chain that leads to itself is refused by the kernel; rules from a file may be wrong.
        known[chain] = []
        var found: [Way] = []
        for jump in jumps[chain] ?? [] {
            for way in ways(to: jump.chain) where found.count < Self.limit {
                found.append(Way(base: way.base, jumps: way.jumps + [jump]))
            }
        }
        known[chain] = found
        return found
    }
}

// MARK: Shadowed rules

extension NamespaceFacts {
    /// Chains with more rules are not looked through: each rule is compared with all before it.
    private static let longestChain = 500

    /// The fields that a rule may change for the rules behind it, in packets that come back from it.
    private enum Effect: Comparable {
        case none
        /// Values on which conditions of `RuleConditions.Dependence.state` depend.
        case state
        case anything
    }

    /// Targets that end the traversal of their chain.
    private static let ending: Set<String> = [
        "ACCEPT", "DROP", "REJECT", "RETURN", "DNAT", "SNAT", "MASQUERADE", "REDIRECT", "NETMAP",
    ]

    /// Targets that neither end the traversal nor change anything.
    private static let passing: Set<String> = ["LOG", "NFLOG", "ULOG", "AUDIT", "TRACE"]

    /// Targets that let addresses and ports alone.
    private static let changingState: Set<String> = [
        "MARK", "CONNMARK", "SECMARK", "CONNSECMARK", "HMARK", "CLASSIFY", "TOS", "DSCP", "ECN", "TTL", "HL", "TCPMSS",
        "TCPOPTSTRIP", "CT", "NOTRACK", "SET", "CHECKSUM", "IDLETIMER", "LED", "RATEEST", "TEE",
    ]

    /// Takes in the rules of a table that can never match, because one before them in their chain ends the traversal for all
    /// packets that they would match.
    private mutating func noteShadows(
        _ content: RuleDump.TableContent, _ rules: [String: [RuleDump.Rule]], _ family: AddressFamily, _ backend: Backend
    ) {
        let effect = Self.effects(content)
        for (chain, rules) in rules where rules.count <= Self.longestChain {
            var deciding: [(index: Int, rule: RuleDump.Rule, conditions: RuleConditions)] = []
            // Indices of the last rules with an effect.
            var lastChange = -1
            var lastUnknown = -1
            for (index, rule) in rules.enumerated() where rule.logPrefix == nil {
                let conditions = RuleConditions(rule.match)
                let earlier = deciding.first { earlier in
                    earlier.index > (earlier.conditions.dependence == .packet ? lastUnknown : lastChange)
                        && earlier.conditions.includes(conditions)
                }
                if let earlier {
                    let isRedundant = earlier.rule.action == rule.action
                    // A condition that counts or remembers has an effect on packets that it does not match, too.
                    let isRemovable = isRedundant && conditions.dependence < .outside && Self.isFirst(of: rules, index)
                    shadows.append(
                        Shadow(
                            family: family, backend: backend, table: content.name, chain: chain, earlier: earlier.rule.text,
                            later: rule.text, isRedundant: isRedundant, match: conditions.match(),
                            deletion: isRemovable ? rule.words : nil))
                } else if let target = rule.target, Self.ending.contains(target), conditions.dependence < .outside {
                    deciding.append((index, rule, conditions))
                }
                let change = effect(rule)
                if change > .none { lastChange = index }
                if change > .state { lastUnknown = index }
            }
        }
        shadows.sort { ($0.table, $0.chain, $0.later) < ($1.table, $1.chain, $1.later) }
    }

    /// Whether deleting the rule at `index` by its words deletes that rule: iptables deletes the first that has them. Any of
    /// several alike in a row is as good as the other.
    private static func isFirst(of rules: [RuleDump.Rule], _ index: Int) -> Bool {
        guard let first = rules.firstIndex(where: { $0.words == rules[index].words }) else { return false }
        return rules[first...index].allSatisfy { $0.words == rules[index].words }
    }

    /// The effect of each rule of a table.
    ///
    /// A chain that is jumped to may hold any rule by the time a packet comes: a program that writes chains of its own changes
    /// them at any moment. Only targets that nothing here knows are looked for in it.
    private static func effects(_ content: RuleDump.TableContent) -> (RuleDump.Rule) -> Effect {
        let chains = Set(content.chains.map(\.name)).union(content.rules.map(\.chain))
        func direct(_ rule: RuleDump.Rule) -> Effect {
            guard let target = rule.target else { return .none }
            if ending.contains(target) || passing.contains(target) { return .none }
            return changingState.contains(target) || chains.contains(target) ? .state : .anything
        }
        let hasUnknownTargets = content.rules.contains { direct($0) == .anything }
        return { rule in
            hasUnknownTargets && rule.target.map(chains.contains) == true ? .anything : direct(rule)
        }
    }
}

// MARK: Built-in chains

extension NamespaceFacts {
    private static func chains(
        _ content: RuleDump.TableContent, _ rules: [String: [RuleDump.Rule]], _ table: Table, _ family: AddressFamily,
        _ backend: Backend
    ) -> [Chain] {
        content.chains.filter { $0.policy != "-" }.map { chain in
            let own = rules[chain.name] ?? []
            return Chain(
                family: family, backend: backend, table: table.name, name: chain.name,
                probesAtHead: own.prefix { $0.ownPrefix != nil }.count, hasRules: own.contains { $0.ownPrefix == nil },
                acceptsEstablished: table == .filter && acceptsEstablished(chain.name, rules),
                dropsTheRestOnly: table == .filter && dropsTheRestOnly(chain, rules))
        }
    }

    /// Whether a rule for established connections accepts, in a chain or in one that it leads to.
    private static func acceptsEstablished(_ chain: String, _ rules: [String: [RuleDump.Rule]]) -> Bool {
        struct Visit: Hashable {
            var chain: String
            /// Whether a jump on the way asked for established connections.
            var isForEstablished: Bool
        }
        var pending = [Visit(chain: chain, isForEstablished: false)]
        var seen: Set<Visit> = []
        while let visit = pending.popLast() {
            guard seen.insert(visit).inserted else { continue }
            for rule in rules[visit.chain] ?? [] {
                guard let target = rule.target else { continue }
                let isForEstablished = visit.isForEstablished || rule.asksForEstablished
                if target == "ACCEPT", isForEstablished { return true }
                if rules[target] != nil { pending.append(Visit(chain: target, isForEstablished: isForEstablished)) }
            }
        }
        return false
    }

    /// Whether a chain drops what no rule accepted, by its policy or a last rule without conditions, and no other rule drops.
    private static func dropsTheRestOnly(_ chain: RuleDump.Chain, _ rules: [String: [RuleDump.Rule]]) -> Bool {
        let own = rules[chain.name] ?? []
        var dropsTheRest = chain.policy == "DROP"
        var pending = [chain.name]
        var seen: Set<String> = []
        while let name = pending.popLast() {
            guard seen.insert(name).inserted else { continue }
            for (index, rule) in (rules[name] ?? []).enumerated() {
                guard let target = rule.target else { continue }
                if rules[target] != nil {
                    pending.append(target)
                } else if target == "DROP" || target == "REJECT" {
                    guard name == chain.name, index == own.count - 1, RuleConditions(rule.match).conditions.isEmpty else {
                        return false
                    }
                    dropsTheRest = true
                } else if !ending.contains(target), !passing.contains(target), !changingState.contains(target) {
                    return false
                }
            }
        }
        return dropsTheRest
    }
}

extension RuleDump.Rule {
    /// The address of `--to-destination`: `10.0.0.2`, `10.0.0.2:80`, `[2001:db8::2]:80`; `nil` for a range, and where there is none.
    fileprivate var newDestination: IPAddress? {
        guard let text = argument(of: "--to-destination") else { return nil }
        if text.hasPrefix("[") { return IPAddress(text.dropFirst().prefix { $0 != "]" }) }
        return IPAddress(text) ?? IPAddress(text.prefix { $0 != ":" })
    }

    /// Whether packets of established connections are among those that the states, or the direction, ask for.
    fileprivate var asksForEstablished: Bool {
        guard words.contains(where: { $0 == "--ctstate" || $0 == "--state" || $0 == "--ctdir" }) else { return false }
        return RuleConditions(match).conditions.contains { condition in
            switch condition.option {
            case "--ctstate", "--state":
                let states = condition.arguments.first?.split(separator: ",") ?? []
                return states.contains("ESTABLISHED") != condition.isNegated
            case "--ctdir": return condition.arguments.first?.uppercased() == "REPLY"
            default: return false
            }
        }
    }
}
