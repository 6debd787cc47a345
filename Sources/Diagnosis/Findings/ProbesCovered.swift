internal import TraceModel

/// Another program put rules before our probes.
struct ProbesCovered: FindingRule {
    func findings(in evidence: Evidence) -> [Finding] {
        evidence.namespaces.filter { !$0.facts.coveredProbes.isEmpty }.map { namespace in
            Finding(
                "probe-covered", .warning, "rules were put before probes in \(namespace.name)", in: namespace.name,
                because: "Another program inserted rules at the head of "
                    + "\(namespace.facts.coveredProbes.sorted().joined(separator: ", ")): packets that these rules decide "
                    + "about are not seen there.",
                cure: evidence.ownCommand("install-probes", in: namespace.name))
        }
    }
}
