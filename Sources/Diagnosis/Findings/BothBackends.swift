internal import TraceModel

/// A namespace has rules of iptables-nft and of iptables-legacy.
struct BothBackends: FindingRule {
    func findings(in evidence: Evidence) -> [Finding] {
        evidence.namespaces.filter { $0.facts.backends.count > 1 }.map { namespace in
            Finding(
                "both-backends", .notice, "\(namespace.name) has rules of iptables-nft and of iptables-legacy",
                in: namespace.name,
                because: "Each program shows its own rules only, and packets pass both: what one accepts the other may drop.")
        }
    }
}
