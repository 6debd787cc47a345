/// The rules that a packet met in one base chain, and in the chains that this one led to, by the kernel's rule trace.
public struct RuleWalk: Sendable, Hashable {
    /// Index into the layout's namespaces.
    public var namespace: Int
    /// The family of the base chain's table: `ip`, `ip6`, `inet`, `netdev`, `bridge`.
    public var tableFamily: String
    public var table: String
    /// The base chain.
    public var chain: String
    /// In the order in which the packet met them, at most `mostRules`.
    public var rules: [MetRule]

    public static let mostRules = 64

    /// Whose chain it is; both may have one of the same name.
    public var backend: Backend { rules.first?.place.backend ?? .nft }

    public init(namespace: Int, tableFamily: String, table: String, chain: String, rules: [MetRule]) {
        self.namespace = namespace
        self.tableFamily = tableFamily
        self.table = table
        self.chain = chain
        self.rules = rules
    }
}

/// A rule that matched a packet, or the policy that its way through a base chain ended with.
public struct MetRule: Sendable, Hashable {
    /// What becomes of the packet by it (linux/netfilter.h, linux/netfilter/nf_tables.h).
    public enum Verdict: String, Sendable, Codable {
        case accept, drop, queue, jump, goto, `return`
        /// It goes on with the next rule.
        case goesOn = "continue"

        /// Whether no further rule of the base chain is asked.
        public var endsBaseChain: Bool { self == .accept || self == .drop || self == .queue }
    }

    public var place: RulePlace
    public var verdict: Verdict
    /// As the tool printed it; `nil` for a policy, and where it could not be read or is gone.
    public var text: String?
    /// Its number in its chain, from 1 on, without our probes; `nil` where it is not known.
    public var position: Int?

    /// Whether it is no rule, but the chain's policy.
    public var isPolicy: Bool { place.handle == nil && place.number == nil }

    public init(_ place: RulePlace, _ verdict: Verdict, text: String? = nil, position: Int? = nil) {
        self.place = place
        self.verdict = verdict
        self.text = text
        self.position = position
    }
}
