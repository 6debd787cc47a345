/// Tailscale (util/linuxfw/iptables_runner.go).
struct TailscaleOwner: OwnerRule {
    let program = "tailscale"
    private static let chains: Set<String> = ["ts-input", "ts-forward", "ts-postrouting"]

    func owner(of rule: OwnedRule) -> RuleOwner? { Self.chains.contains(rule.chain) ? RuleOwner(program: program) : nil }
}
