/// libvirt's networks (src/network/network_iptables.c, network_nftables.c).
struct LibvirtOwner: OwnerRule {
    let program = "libvirt"
    private static let chains: Set<String> = [
        "LIBVIRT_INP", "LIBVIRT_OUT", "LIBVIRT_FWI", "LIBVIRT_FWO", "LIBVIRT_FWX", "LIBVIRT_PRT",
    ]

    func owner(of rule: OwnedRule) -> RuleOwner? {
        guard Self.chains.contains(rule.chain) || rule.table == "libvirt_network" else { return nil }
        let names = ["-o", "-i", "oifname", "iifname"].compactMap { rule.word(after: $0) }
        let bridge = names.first?.filter { $0 != "\"" }
        return RuleOwner(program: program, object: bridge.map { "network \($0)" })
    }
}
