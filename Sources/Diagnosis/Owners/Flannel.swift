/// flannel (pkg/trafficmngr/iptables/iptables.go).
struct FlannelOwner: OwnerRule {
    let program = "flannel"
    private static let chains: Set<String> = ["FLANNEL-FWD", "FLANNEL-POSTRTG"]
    private static let tables: Set<String> = ["flannel-ipv4", "flannel-ipv6"]

    func owner(of rule: OwnedRule) -> RuleOwner? {
        Self.chains.contains(rule.chain) || Self.tables.contains(rule.table) ? RuleOwner(program: program) : nil
    }
}
