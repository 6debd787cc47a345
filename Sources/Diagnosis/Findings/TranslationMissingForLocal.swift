internal import Aggregation
internal import TraceModel

/// A forwarded port that processes of the machine itself do not reach: their packets pass OUTPUT, where no DNAT rule stands.
struct TranslationMissingForLocal: FindingRule {
    func findings(in evidence: Evidence) -> [Finding] {
        let paths = Dictionary(evidence.paths.map { ($0.index, $0) }) { first, _ in first }
        return evidence.namespaces.flatMap { namespace -> [Finding] in
            let forwarded = namespace.facts.redirections.filter { $0.isReachedFromPrerouting && $0.match.namesDestination }
            guard !forwarded.isEmpty else { return [] }
            let failures = evidence.flows.filter { failed($0, in: namespace, paths) }
            return forwarded.compactMap { finding($0, namespace, failures, evidence) }
        }
    }

    /// Whether a process of a namespace began the connection to the namespace itself, and it came to nothing.
    private func failed(_ flow: FlowEvidence, in namespace: NamespaceEvidence, _ paths: [Int: PathEvidence]) -> Bool {
        guard !flow.isAnswered, flow.record.isDirectionKnown, !flow.translations.contains(.dnat, in: namespace.indices) else {
            return false
        }
        return flow.record.original.paths.compactMap { paths[$0] }.contains { path in
            guard let first = path.steps.first?.probe else { return false }
            return namespace.holds(first) && first.hook == .output && path.staysLocal
        }
    }

    private func finding(
        _ rule: NamespaceFacts.Redirection, _ namespace: NamespaceEvidence, _ failed: [FlowEvidence], _ evidence: Evidence
    ) -> Finding? {
        let facts = namespace.facts
        let shown = failed.filter { flow in
            let packet = flow.packetInOutput
            let isTranslated = facts.redirections.contains {
                $0.isReachedFromOutput && $0.family == rule.family && $0.match.admits(packet) != false
            }
            // From a loopback address no answer of another machine comes back, whatever nat does.
            return rule.match.admits(packet) == true && !isTranslated && !packet.source.isLoopback
        }
        guard let first = shown.first else { return nil }
        let place = ["\(first.record.original.tuple.destination)"] + (first.destinationPort.map { ["\($0)"] } ?? [])
        let chain = facts.chains?.first {
            $0.table == "nat" && $0.name == "OUTPUT" && $0.family == rule.family && $0.backend == rule.backend
        }
        return Finding(
            "dnat-missing-for-local", .problem, "processes of \(namespace.name) itself do not reach the forwarded port",
            in: namespace.name,
            because: "nat/PREROUTING rewrites \(place.joined(separator: ":")), but what a local process sends passes OUTPUT "
                + "instead, where no such rule stands.",
            packets: shown.reduce(0) { $0 + $1.record.original.packets },
            journeys: shown.map(\.record.original.latestJourney),
            paths: Set(shown.flatMap(\.record.original.paths)).sorted(),
            cure: chain.flatMap { chain in
                rule.outputArguments.flatMap { evidence.insertion(in: namespace.name, chain, $0) }
            })
    }
}

extension PathEvidence {
    /// Whether its packets do not leave the namespace that sent them.
    fileprivate var staysLocal: Bool {
        guard let sender = steps.first?.probe.namespace else { return false }
        return steps.allSatisfy { $0.probe.namespace == sender }
            && steps.contains { ($0.probe.hook == .output && $0.outInterface == "lo") || $0.probe.hook == .input }
    }
}

extension FlowEvidence {
    /// Whether the other side took part: a TCP connection that is refused at once is two packets.
    fileprivate var isAnswered: Bool {
        guard let reply = record.reply else { return false }
        return transport != TransportProtocol.tcp || (record.original.packets > 2 && reply.packets > 1)
    }

    /// The first packet as its sender's OUTPUT chains see it.
    fileprivate var packetInOutput: RuleMatch.Packet {
        var packet = RuleMatch.Packet(record.original.tuple)
        packet.isLocal = true
        return packet
    }
}
