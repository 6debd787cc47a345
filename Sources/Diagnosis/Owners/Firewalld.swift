/// firewalld (src/firewall/core/nftables.py): a table of its own, whose chains name the zone. Its chains of iptables have names that
/// people give, too.
struct FirewalldOwner: OwnerRule {
    let program = "firewalld"
    private static let stages = ["_pre", "_log", "_deny", "_allow", "_post"]
    private static let ways = ["IN", "FWD", "FWDI", "FWDO", "PRE", "POST"]

    func owner(of rule: OwnedRule) -> RuleOwner? {
        guard rule.table == "firewalld", ["inet", "ip", "ip6"].contains(rule.tableFamily) else { return nil }
        // filter_IN_public_deny
        let parts = rule.chain.split(separator: "_", maxSplits: 2)
        guard parts.count == 3, Self.ways.contains(String(parts[1])), parts[2] != "ZONES", !parts[2].hasPrefix("POLICIES")
        else {
            return RuleOwner(program: program)
        }
        var zone = String(parts[2])
        if let stage = Self.stages.first(where: zone.hasSuffix) { zone.removeLast(stage.count) }
        return RuleOwner(program: program, object: "zone \(zone)")
    }
}
