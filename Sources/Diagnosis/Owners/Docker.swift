/// Docker's bridge networks (daemon/libnetwork/drivers/bridge and daemon/libnetwork/iptables of Moby). `DOCKER-USER` is for its users.
struct DockerOwner: OwnerRule {
    let program = "docker"
    private static let chains: Set<String> = [
        "DOCKER", "DOCKER-ISOLATION-STAGE-1", "DOCKER-ISOLATION-STAGE-2", "DOCKER-FORWARD", "DOCKER-CT", "DOCKER-BRIDGE",
        "DOCKER-INTERNAL", "DOCKER-INGRESS",
    ]

    func owner(of rule: OwnedRule) -> RuleOwner? {
        if rule.table == "docker-bridges" { return RuleOwner(program: program, object: network(rule)) }
        if Self.chains.contains(rule.chain) { return RuleOwner(program: program, object: network(rule)) }
        // Since version 28 packets to containers that come by another interface are dropped early.
        guard rule.table == "raw", rule.chain == "PREROUTING", rule.text.contains(" ! -i "), rule.text.hasSuffix("-j DROP"),
            let bridge = rule.word(after: "-i"), Self.isBridge(bridge)
        else { return nil }
        return RuleOwner(program: program, object: "network \(bridge)")
    }

    private func network(_ rule: OwnedRule) -> String? {
        let names = [rule.word(after: "-o"), rule.word(after: "-i")].compactMap(\.self)
        return names.first(where: Self.isBridge).map { "network \($0)" }
    }

    /// `docker0`, `docker_gwbridge`, or `br-` with the first twelve digits of a network's id.
    private static func isBridge(_ name: String) -> Bool {
        name == "docker0" || name == "docker_gwbridge"
            || name.hasPrefix("br-") && name.count == 15 && name.dropFirst(3).allSatisfy(\.isHexDigit)
    }
}
