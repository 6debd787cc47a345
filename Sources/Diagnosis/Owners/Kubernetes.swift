/// Rules that the kubelet writes in one version of Kubernetes, and kube-proxy in another.
struct KubernetesOwner: OwnerRule {
    let program = "kubernetes"

    func owner(of rule: OwnedRule) -> RuleOwner? { rule.chain == "KUBE-FIREWALL" ? RuleOwner(program: program) : nil }
}
