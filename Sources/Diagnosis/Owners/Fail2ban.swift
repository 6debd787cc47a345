/// fail2ban (config/action.d/iptables.conf, nftables.conf): chains and sets by the jail.
struct Fail2banOwner: OwnerRule {
    let program = "fail2ban"
    func owner(of rule: OwnedRule) -> RuleOwner? {
        if rule.table == "f2b-table" {
            // … ip saddr @addr-set-sshd reject
            let set = rule.text.split(separator: " ").first { $0.hasPrefix("@addr") && $0.contains("-set-") }
            let jail = set.flatMap { set in set.firstRange(of: "-set-").map { set[$0.upperBound...] } }
            return RuleOwner(program: program, object: jail.map { "jail \($0)" })
        }
        // Only what bans: people put rules of their own before it.
        guard rule.chain.hasPrefix("f2b-"), rule.chain.count > 4, rule.text.contains(" -s "),
            rule.text.contains("-j REJECT") || rule.text.contains("-j DROP")
        else { return nil }
        return RuleOwner(program: program, object: "jail \(rule.chain.dropFirst(4))")
    }
}
