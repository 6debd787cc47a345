internal import TraceModel

/// Packets go through untranslated, since raw exempts them from connection tracking.
struct TranslationWithoutTracking: FindingRule {
    func findings(in evidence: Evidence) -> [Finding] {
        evidence.namespaces.compactMap { namespace in
            guard namespace.facts.exemptsFromTracking, namespace.facts.translates else { return nil }
            let shown = evidence.paths.filter { path in
                let here = path.steps.filter { namespace.holds($0.probe) }
                return here.contains { $0.probe.hook == .forward } && !here.contains { $0.probe.table == .nat }
                    && !path.translations.contains { namespace.indices.contains($0.namespace) }
            }
            return Finding(
                "nat-without-tracking", .warning,
                "nat's rules in \(namespace.name) do not see packets that raw exempts from tracking", in: namespace.name,
                shownBy: shown,
                because: "A NOTRACK rule in raw keeps packets from connection tracking, and nat works on tracked connections "
                    + "only: these packets went through untranslated, though nat has rules.")
        }
    }
}
