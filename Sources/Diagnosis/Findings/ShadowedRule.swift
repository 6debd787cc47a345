internal import Aggregation
internal import TraceModel

/// Packets came by a rule that none can reach, since one before it decides about all that it would match.
struct ShadowedRule: FindingRule {
    func findings(in evidence: Evidence) -> [Finding] {
        evidence.namespaces.flatMap { namespace in
            namespace.facts.shadows.compactMap { finding($0, namespace, evidence) }
        }
    }

    private func finding(_ shadow: NamespaceFacts.Shadow, _ namespace: NamespaceEvidence, _ evidence: Evidence) -> Finding? {
        let shown = evidence.paths.filter { path in
            path.steps.contains {
                namespace.holds($0.probe) && $0.probe.family == shadow.family && $0.probe.table.name == shadow.table
                    && $0.probe.chain == shadow.chain && path.meets(shadow.match, at: $0)
            }
        }
        return Finding(
            "shadowed-rule", shadow.isRedundant ? .notice : .warning,
            "a rule of \(shadow.table)/\(shadow.chain) in \(namespace.name) can never match", in: namespace.name,
            shownBy: shown,
            because: "\"\(shadow.later)\" stands behind \"\(shadow.earlier)\", which decides about every packet that it would "
                + "match" + (shadow.match.isPartial ? ". Packets with its addresses and ports came by." : ", such as these.")
                + (shadow.isRedundant
                    ? "" : " Which of the two was meant, only whoever wrote them knows: move the one up, or delete it."),
            cure: evidence.deletion(in: namespace.name, shadow))
    }
}

extension PathEvidence {
    /// Whether its packets meet a rule that stands at a step, as far as can be told. Addresses count as they were at any
    /// point of the way.
    fileprivate func meets(_ match: RuleMatch, at step: PlacedStep) -> Bool {
        var packet = RuleMatch.Packet(example.packet.tuple)
        packet.inInterface = step.inInterface
        packet.outInterface = step.outInterface
        // Each condition looks at one of the values only.
        var variants = [packet]
        for translation in translations.map(\.record) {
            for (address, port) in [(translation.from, translation.fromPort), (translation.to, translation.toPort)] {
                var variant = packet
                variant.source = address
                variant.destination = address
                if translation.hasPorts {
                    variant.sourcePort = port
                    variant.destinationPort = port
                }
                variants.append(variant)
            }
        }
        return match.conditions.allSatisfy { condition in
            let alone = RuleMatch(conditions: [condition], isPartial: false)
            return variants.contains { alone.admits($0) != false }
        }
    }
}
