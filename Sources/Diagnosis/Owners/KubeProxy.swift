/// kube-proxy, in iptables and in nftables mode (pkg/proxy/iptables/proxier.go, pkg/proxy/nftables/proxier.go of Kubernetes).
struct KubeProxyOwner: OwnerRule {
    let program = "kube-proxy"
    private static let chains: Set<String> = [
        "KUBE-SERVICES", "KUBE-EXTERNAL-SERVICES", "KUBE-NODEPORTS", "KUBE-POSTROUTING", "KUBE-MARK-MASQ", "KUBE-MARK-DROP",
        "KUBE-FORWARD", "KUBE-PROXY-FIREWALL", "KUBE-PROXY-CANARY",
    ]
    private static let perService = ["KUBE-SVC-", "KUBE-SVL-", "KUBE-SEP-", "KUBE-EXT-", "KUBE-FW-", "KUBE-XLB-"]

    func owner(of rule: OwnedRule) -> RuleOwner? {
        if rule.table == "kube-proxy", rule.tableFamily == "ip" || rule.tableFamily == "ip6" {
            // service-ULMVA6XW-default/nginx/tcp/http
            let parts = rule.chain.split(separator: "-", maxSplits: 2)
            let isNamed = parts.count == 3 && ["service", "endpoint", "external"].contains(parts[0]) && parts[1].count == 8
            // endpoint-5OJB2KTY-default/nginx/tcp/http__10.244.1.5/8080
            let service = isNamed ? parts[2].firstRange(of: "__").map { parts[2][..<$0.lowerBound] } ?? parts[2] : nil
            return RuleOwner(program: program, object: service.map(String.init))
        }
        let isPerService = Self.perService.contains(where: rule.chainIsHash(behind:))
        guard Self.chains.contains(rule.chain) || isPerService else { return nil }
        return RuleOwner(program: program, object: rule.comments.lazy.compactMap(Self.service).first)
    }

    /// `default/web:http has no endpoints`, `kube-system/kube-dns:dns cluster IP`.
    private static func service(_ comment: String) -> String? {
        guard let word = comment.split(separator: " ").first, word.contains("/"), !word.hasPrefix("/") else { return nil }
        return String(word)
    }
}
