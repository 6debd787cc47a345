internal import TraceModel

/// Packets vanish where they are routed, and the interface that they came by has a strict reverse-path filter.
struct ReversePathFilter: FindingRule {
    func findings(in evidence: Evidence) -> [Finding] {
        evidence.namespaces.flatMap { namespace in
            namespace.facts.strictInterfaces.sorted().compactMap { interface in
                guard namespace.facts.forwardsIPv4 != false else { return nil }
                let shown = evidence.lost(in: namespace, .ipv4, because: .reversePath).filter {
                    $0.droppedAfter?.inInterface == interface
                }
                let isCertain = shown.allSatisfy { $0.isLostInRoutingAlone && $0.dropSite?.causes == [.reversePath] }
                let isTold = shown.allSatisfy { $0.dropSite?.isToldByKernel == true }
                return Finding(
                    "reverse-path-filter", .warning,
                    "the reverse-path filter of \(interface) in \(namespace.name) \(isTold ? "drops" : "may drop") packets",
                    in: namespace.name,
                    shownBy: shown,
                    because: "Packets that arrived by \(interface) vanished where they are routed. Its reverse-path filter is "
                        + "strict: it drops what comes by another interface than answers would leave by."
                        + (isTold ? " \(shown.witness("IPReversePathFilter"))" : ""),
                    // The greater of the interface's setting and that of all decides, so that 2 is enough.
                    cure: isCertain ? evidence.setting(in: namespace.name, of: interface, "rp_filter", 2) : nil)
            }
        }
    }
}
