/// firewalld (src/firewall/core/nftables.py): a table of its own, whose chains name the zone. Its chains of iptables have names that
/// people give, too.
struct FirewalldOwner: OwnerRule {
    let program = "firewalld"
    private static let stages = ["_pre", "_log", "_deny", "_allow", "_post"]
    private static let ways = ["IN", "FWD", "FWDI", "FWDO", "PRE", "POST"]

    func owner(of rule: OwnedRule) -> RuleOwner? {
        guard rule.table == "firewalld", ["inet", "ip", "ip6"].contains(rule.tableFamily) else { return ownerOfIptables(rule) }
        // filter_IN_public_deny
        let parts = rule.chain.split(separator: "_", maxSplits: 2)
        guard parts.count == 3, Self.ways.contains(String(parts[1])), parts[2] != "ZONES", !parts[2].hasPrefix("POLICIES")
        else {
            return RuleOwner(program: program)
        }
        return RuleOwner(program: program, object: "zone \(Self.zone(parts[2]))")
    }

    /// Without nf_tables its chains are among iptables' (`IN_public_deny`), where anybody may have a chain `IN_web`: what leads there tells.
    private func ownerOfIptables(_ rule: OwnedRule) -> RuleOwner? {
        guard !Self.dispatchers.isDisjoint(with: rule.way),
            let way = Self.ways.first(where: { rule.chain.hasPrefix($0 + "_") })
        else { return nil }
        return RuleOwner(program: program, object: "zone \(Self.zone(rule.chain.dropFirst(way.count + 1)))")
    }

    private static func zone(_ name: Substring) -> Substring {
        stages.first(where: name.hasSuffix).map { name.dropLast($0.count) } ?? name
    }

    private static let dispatchers: Set<String> = [
        "INPUT_ZONES", "INPUT_ZONES_SOURCE", "FORWARD_IN_ZONES", "FORWARD_IN_ZONES_SOURCE", "FORWARD_OUT_ZONES",
        "FORWARD_OUT_ZONES_SOURCE", "PREROUTING_ZONES", "PREROUTING_ZONES_SOURCE",
    ]
}
