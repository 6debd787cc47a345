/// ufw (src/backend_iptables.py): its chains by name, those of IPv6 with a 6.
struct UfwOwner: OwnerRule {
    let program = "ufw"
    private static let directions = ["input", "output", "forward"]
    private static let kinds = [
        "before", "after", "user", "reject", "track", "before-logging", "after-logging", "user-logging", "skip-to-policy",
    ]
    private static let others: Set<String> = [
        "not-local", "logging-allow", "logging-deny", "user-limit", "user-limit-accept", "caps-test",
    ]

    func owner(of rule: OwnedRule) -> RuleOwner? {
        guard let prefix = ["ufw-", "ufw6-"].first(where: rule.chain.hasPrefix) else { return nil }
        let name = String(rule.chain.dropFirst(prefix.count))
        if Self.others.contains(name) { return RuleOwner(program: program) }
        for kind in Self.kinds {
            guard let direction = Self.directions.first(where: { name == "\(kind)-\($0)" }) else { continue }
            switch kind {
            case "user": return RuleOwner(program: program, object: "user rules for \(direction)")
            case "skip-to-policy": return RuleOwner(program: program, object: "default policy for \(direction)")
            default: return RuleOwner(program: program)
            }
        }
        return nil
    }
}
