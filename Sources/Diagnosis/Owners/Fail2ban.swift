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
        // … -m set --match-set f2b-sshd src -j REJECT
        if let set = rule.word(after: "--match-set"), set.hasPrefix("f2b-"), set.count > 4, rule.isDrop {
            return RuleOwner(program: program, object: "jail \(set.dropFirst(4))")
        }
        // Only what bans: people put rules of their own before it.
        guard rule.chain.hasPrefix("f2b-"), rule.chain.count > 4, rule.text.contains(" -s "), rule.isDrop
        else { return nil }
        return RuleOwner(program: program, object: "jail \(rule.chain.dropFirst(4))")
    }
}

extension OwnedRule {
    fileprivate var isDrop: Bool { text.contains("-j REJECT") || text.contains("-j DROP") }
}
