/// kube-router's network policies, also those of k3s: each pod and each policy has a chain, whose rules name it in a comment.
struct KubeRouterOwner: OwnerRule {
    let program = "kube-router"
    private static let chains = ["KUBE-POD-FW-", "KUBE-NWPLCY-"]

    func owner(of rule: OwnedRule) -> RuleOwner? {
        guard Self.chains.contains(where: rule.chainIsHash(behind:)) || rule.chain == "KUBE-NWPLCY-DEFAULT" else { return nil }
        return RuleOwner(program: program, object: rule.comments.lazy.compactMap(Self.pod).first)
    }

    /// `rule to REJECT traffic destined for POD name:web-0 namespace: default`; newer versions have no space behind the last colon.
    private static func pod(_ comment: String) -> String? {
        guard let name = comment.firstRange(of: "POD name:"), let namespace = comment.firstRange(of: " namespace:"),
            name.upperBound <= namespace.lowerBound
        else { return nil }
        let place = comment[namespace.upperBound...].drop { $0 == " " }
        return "pod \(place)/\(comment[name.upperBound..<namespace.lowerBound])"
    }
}
