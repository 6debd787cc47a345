internal import TraceModel

/// Another program took probes away.
struct ProbesMissing: FindingRule {
    func findings(in evidence: Evidence) -> [Finding] {
        evidence.namespaces.filter { !$0.facts.missingProbes.isEmpty }.map { namespace in
            Finding(
                "probe-missing", .warning, "probes were taken out of \(namespace.name)", in: namespace.name,
                because: "Another program replaced or flushed "
                    + "\(namespace.facts.missingProbes.sorted().joined(separator: ", ")), with the probes that stood there: "
                    + "what happens there is not seen.",
                cure: evidence.ownCommand("install-probes", in: namespace.name))
        }
    }
}
