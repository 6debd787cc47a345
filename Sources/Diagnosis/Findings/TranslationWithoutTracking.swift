internal import Aggregation
internal import TraceModel

/// Packets go through untranslated, since raw exempts them from connection tracking.
struct TranslationWithoutTracking: FindingRule {
    func findings(in evidence: Evidence) -> [Finding] {
        evidence.namespaces.compactMap { namespace in
            guard namespace.facts.exemptsFromTracking, namespace.facts.translates,
                evidence.watchesTranslation(in: namespace)
            else { return nil }
            let shown = evidence.paths.filter { path in
                let here = path.steps.filter { namespace.holds($0.probe) }
                return here.contains { $0.probe.hook == .forward } && !here.contains { $0.probe.table == .nat }
                    && !path.translations.contains { namespace.indices.contains($0.namespace) }
                    && evidence.hasUntrackedOpening(path, in: namespace)
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

extension Evidence {
    /// Whether probes of nat would have reported a connection's first packet on its way in.
    fileprivate func watchesTranslation(in namespace: NamespaceEvidence) -> Bool {
        layout.probes.indices.contains {
            let probe = layout.probes[$0]
            return layout.isInForce[$0] && namespace.holds(probe) && probe.table == .nat && probe.hook == .prerouting
        }
    }

    /// Whether a connection of a path was followed from its first packet on, and nat saw none of it: later packets of a tracked
    /// connection do not pass nat either.
    fileprivate func hasUntrackedOpening(_ path: PathEvidence, in namespace: NamespaceEvidence) -> Bool {
        flows(on: path).contains { flow in
            flow.record.isDirectionKnown
                && !flow.translations.contains { namespace.indices.contains($0.namespace) }
                && flow.record.original.paths.allSatisfy { index in
                    paths.first { $0.index == index }?.steps.allSatisfy {
                        $0.probe.table != .nat || !namespace.holds($0.probe)
                    } ?? false
                }
        }
    }
}
