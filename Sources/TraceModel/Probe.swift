/// A rule that reports every packet passing one point: ours, or a LOG/NFLOG rule that was there already.
public struct Probe: Sendable, Hashable {
    /// Index into the layout's namespaces.
    public var namespace: Int
    public var family: AddressFamily
    public var table: Table
    public var chain: String
    /// The hook that a packet is at when the probe fires. A user-defined chain is reached from several hooks; each is
    /// a probe of its own here.
    public var hook: Hook
    public var backend: Backend
    public var prefix: String
    /// The user-defined chain that packets come back from where the probe stands: behind the rule that jumps there. `nil` at
    /// a chain's head.
    public var backFrom: String?
    /// Which packets the probe reports.
    public var coverage: Coverage
    /// The rule or policy of a rule trace that ended the way of the packets that it reports; `nil` for a place in a chain.
    public var decision: RuleDecision?

    public init(
        namespace: Int, family: AddressFamily, table: Table, chain: String, hook: Hook, backend: Backend, prefix: String,
        backFrom: String? = nil, coverage: Coverage, decision: RuleDecision? = nil
    ) {
        self.decision = decision
        self.backFrom = backFrom
        self.namespace = namespace
        self.family = family
        self.table = table
        self.chain = chain
        self.hook = hook
        self.backend = backend
        self.prefix = prefix
        self.coverage = coverage
    }

    /// Where the probe's chain stands in the hook's order.
    public var priority: Int32 { sentinel?.priority(at: hook) ?? HookPriority.of(table, at: hook, backend: backend) }

    /// Which sentinel it is; `nil` for a rule of iptables.
    public var sentinel: Sentinel? { table == .sentinel ? Sentinel.parse(chain)?.sentinel : nil }

    /// Whether the probe stands in the one chain of its table that every packet at the hook enters.
    public var isInBaseChain: Bool { chain == hook.name || table == .sentinel }

    /// Which packets that traverse its chain a probe reports.
    public enum Coverage: Sendable, Hashable {
        /// Every packet that meets the condition, until the rule expires (seconds since 1970, `nil` for never).
        case every(Condition, until: Int64?)
        /// Some: it is below other rules, in a user-defined chain, rate-limited, or unknown.
        case some
        /// Each rule that a packet with the TRACE target meets is an event: several for one chain.
        case everyRule
    }
}

/// Condition of a probe's match.
public struct Condition: Sendable, Hashable {
    /// The match options in a fixed spelling; empty where every packet meets it.
    public var text: String
    public var dependence: MatchDependence
    /// Of how many flows one is reported; `nil` where all are.
    public var sampledOneIn: UInt64?

    public static let none = Condition(text: "", dependence: [])

    public init(text: String, dependence: MatchDependence, sampledOneIn: UInt64? = nil) {
        self.text = text
        self.dependence = dependence
        self.sampledOneIn = sampledOneIn
    }
}

/// Which of a packet's fields decide whether a probe's match accepts it.
public struct MatchDependence: OptionSet, Sendable, Hashable {
    public let rawValue: UInt8
    public init(rawValue: UInt8) { self.rawValue = rawValue }

    /// Source address or port, which source translation rewrites.
    public static let source = MatchDependence(rawValue: 1)
    /// Destination address or port, which destination translation rewrites.
    public static let destination = MatchDependence(rawValue: 2)
}
