/// Istio's sidecars (tools/istio-iptables/pkg/constants/constants.go).
struct IstioOwner: OwnerRule {
    let program = "istio"
    private static let chains: Set<String> = [
        "ISTIO_INBOUND", "ISTIO_OUTPUT", "ISTIO_REDIRECT", "ISTIO_IN_REDIRECT", "ISTIO_DIVERT", "ISTIO_TPROXY", "ISTIO_DROP",
        "ISTIO_PRERT", "ISTIO_POSTRT",
    ]

    func owner(of rule: OwnedRule) -> RuleOwner? { Self.chains.contains(rule.chain) ? RuleOwner(program: program) : nil }
}
