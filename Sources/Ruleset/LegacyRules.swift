public import LinuxSupport
public import TraceModel

/// The rules of iptables-legacy in one namespace, as they were at one moment.
///
/// They have no lasting numbers: a number that a trace names means the rule that had it then, so that the rules have to be read before
/// and after, and have to be the same.
public struct LegacyRules: Sendable {
    struct Place: Hashable {
        var tableFamily: String
        var table: String
        var chain: String

        init(_ place: RulePlace) { self.init(tableFamily: place.tableFamily, table: place.table, chain: place.chain) }

        init(tableFamily: String, table: String, chain: String) {
            self.tableFamily = tableFamily
            self.table = table
            self.chain = chain
        }
    }

    struct Chain: Equatable {
        /// `-` for a user-defined chain.
        var policy: String
        var rules: [RuleDump.Rule]
        /// The table that it is of.
        var table: RuleDump.TableContent

        static func == (one: Chain, other: Chain) -> Bool {
            one.policy == other.policy && one.rules.map(\.text) == other.rules.map(\.text)
        }
    }

    private(set) var chains: [Place: Chain]

    /// Reads them; none where the legacy backend has no table there.
    public init(of namespace: NetworkNamespace) async throws {
        let iptables = await Iptables.installed()
        var dumps: [AddressFamily: RuleDump] = [:]
        for family in AddressFamily.allCases {
            dumps[family] = try await iptables.save(family, .legacy, in: namespace)
        }
        self.init(dumps)
    }

    package init(_ dumps: [AddressFamily: RuleDump]) {
        var chains: [Place: Chain] = [:]
        for (family, dump) in dumps {
            for table in dump.tables {
                let rules = Dictionary(grouping: table.rules, by: \.chain)
                for chain in table.chains {
                    let place = Place(tableFamily: family.tableName, table: table.name, chain: chain.name)
                    chains[place] = Chain(
                        policy: chain.policy, rules: rules[chain.name] ?? [], table: table)
                }
            }
        }
        self.chains = chains
    }

    /// The families of which there are rules.
    public var families: [AddressFamily] {
        AddressFamily.allCases.filter { family in chains.keys.contains { $0.tableFamily == family.tableName } }
    }

    /// Adds the rules of another listing.
    public func adding(_ dump: RuleDump, _ family: AddressFamily) -> LegacyRules {
        var sum = self
        sum.chains.merge(LegacyRules([family: dump]).chains) { $1 }
        return sum
    }

    /// Whether a rule of a user's sets the kernel's trace (`-j TRACE`).
    public var tracesAlready: Bool { chains.values.contains { $0.rules.contains { $0.target == "TRACE" } } }

    /// Whether the chain of `place` has the same rules in `other`.
    public func agrees(with other: LegacyRules, at place: RulePlace) -> Bool {
        chains[Place(place)] == other.chains[Place(place)]
    }

    /// Whether all is the same in `other`.
    public func agrees(with other: LegacyRules) -> Bool { chains == other.chains }

    /// What drops a packet that a trace shows at `place`: the rule or the policy.
    ///
    /// The kernel names what matched, whatever comes of it: what a rule without conditions does it calls the policy or the return of
    /// its chain (`get_chainname_rulenum` in net/ipv4/netfilter/ip_tables.c), so that only the number tells.
    ///
    /// - Returns: `nil` where the packet goes on from there, or nothing has the number.
    public func decision(at place: RulePlace) -> RuleDecision? {
        guard let number = place.number, let chain = chains[Place(place)], number >= 1 else { return nil }
        guard number <= chain.rules.count else {
            guard number == chain.rules.count + 1, chain.policy == "DROP" else { return nil }
            var policy = place
            policy.number = nil
            return RuleDecision(
                .policy, at: policy, accepting: chain.table.acceptingBeforeTheRest(of: place.chain, index: nil))
        }
        let rule = chain.rules[number - 1]
        guard let target = rule.target, ["DROP", "REJECT"].contains(target) else { return nil }
        let position = chain.rules[..<number].count { $0.ownPrefix == nil }
        return RuleDecision(
            .rule, at: place, text: rule.text, position: position,
            accepting: chain.table.acceptingBeforeTheRest(of: place.chain, index: number - 1))
    }

    /// What becomes of a packet that a trace shows at `place`.
    ///
    /// - Returns: `nil` where nothing has the number.
    public func step(at place: RulePlace) -> LegacyStep? {
        guard let number = place.number, let chain = chains[Place(place)], number >= 1, number <= chain.rules.count + 1 else {
            return nil
        }
        guard number <= chain.rules.count else {
            var end = place
            end.number = nil
            let verdict: MetRule.Verdict = chain.policy == "-" ? .return : chain.policy == "DROP" ? .drop : .accept
            return LegacyStep(MetRule(end, verdict), decision: decision(at: place))
        }
        let rule = chain.rules[number - 1]
        let leadsTo = rule.target.flatMap { target in
            chains[Place(tableFamily: place.tableFamily, table: place.table, chain: target)]?.policy == "-" ? target : nil
        }
        let verdict: MetRule.Verdict =
            leadsTo != nil ? (rule.isGoto ? .goto : .jump) : rule.target.flatMap { Self.verdicts[$0] } ?? .goesOn
        return LegacyStep(
            MetRule(place, verdict, text: rule.text, position: chain.rules[..<number].count { $0.ownPrefix == nil }),
            target: leadsTo, isProbe: rule.ownPrefix != nil, decision: decision(at: place))
    }

    /// What the targets return to `ipt_do_table` that do not let the packet go on (iptables-extensions(8)).
    private static let verdicts: [String: MetRule.Verdict] = [
        "ACCEPT": .accept, "DROP": .drop, "REJECT": .drop, "RETURN": .return, "QUEUE": .queue, "NFQUEUE": .queue,
        "DNAT": .accept, "SNAT": .accept, "MASQUERADE": .accept, "REDIRECT": .accept, "NETMAP": .accept,
    ]
}

/// The rules of iptables-legacy over time, as far as they have been read.
public struct LegacyRuleHistory: Sendable {
    private struct Epoch: Sendable {
        var rules: LegacyRules
        /// When they had been read first, and when reading them began last, in microseconds since 1970.
        var from: Int64
        var until: Int64
    }

    private var epochs: [Epoch] = []
    private static let most = 16
    /// A trace is received after its packet: by so many microseconds at most.
    private static let delay: Int64 = 100_000

    public init() {}

    public var latest: LegacyRules? { epochs.last?.rules }

    /// Takes the rules that were read from `begun` until `ended`.
    public mutating func add(_ rules: LegacyRules, begun: Int64, ended: Int64) {
        if let last = epochs.last, last.rules.agrees(with: rules) {
            epochs[epochs.count - 1].until = begun
            return
        }
        epochs.append(Epoch(rules: rules, from: ended, until: begun))
        if epochs.count > Self.most { epochs.removeFirst() }
    }

    /// What became, at `place`, of a packet whose trace was received at `time`.
    ///
    /// - Returns: `nil` where the rules may have been others then.
    public func step(at place: RulePlace, time: Int64) -> LegacyStep? {
        guard let before = epochs.lastIndex(where: { $0.from <= time - Self.delay }),
            let after = epochs.firstIndex(where: { $0.until >= time }), before <= after
        else { return nil }
        let rules = epochs[before].rules
        guard epochs[before...after].allSatisfy({ $0.rules.agrees(with: rules, at: place) }) else { return nil }
        return rules.step(at: place)
    }
}
