/// What a rule of iptables-legacy, or the end of a chain's rules, does to a packet that comes to it.
public struct LegacyStep: Sendable {
    /// Without a number: the policy of a base chain, or the end of a user-defined one, which returns.
    public var rule: MetRule
    /// The chain that it leads to; `nil` where it leads to none.
    public var target: String?
    /// Whether it is the rule of one of our probes.
    public var isProbe: Bool
    /// `nil` where the packet is not dropped.
    public var decision: RuleDecision?

    public init(_ rule: MetRule, target: String? = nil, isProbe: Bool = false, decision: RuleDecision? = nil) {
        self.rule = rule
        self.target = target
        self.isProbe = isProbe
        self.decision = decision
    }
}
