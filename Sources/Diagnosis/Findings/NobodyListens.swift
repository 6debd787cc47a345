internal import Aggregation
internal import TraceModel

/// A connection arrived, and the machine itself answered at once that no process listens on the port (RFC 9293, 3.5.2).
struct NobodyListens: FindingRule {
    private struct Port: Hashable {
        var netns: String
        var address: IPAddress
        var port: UInt16

        var order: (String, IPAddress, UInt16) { (netns, address, port) }
    }

    func findings(in evidence: Evidence) -> [Finding] {
        let paths = Dictionary(evidence.paths.map { ($0.index, $0) }) { first, _ in first }
        var refused: [Port: [FlowEvidence]] = [:]
        for flow in evidence.flows where flow.record.isRefused && flow.record.original.outcomes[.delivered] > 0 {
            // As the answer left: behind DNAT that is the address of the server itself.
            guard let reply = flow.record.reply, let sender = paths[reply.paths.first ?? -1]?.steps.first?.probe,
                sender.hook == .output, let namespace = evidence.layout.namespace(sender.namespace),
                !isForwarded(flow, from: sender.namespace, evidence)
            else { continue }
            let port = Port(netns: namespace.name, address: reply.tuple.source, port: reply.tuple.sourcePort)
            refused[port, default: []].append(flow)
        }
        return refused.sorted { $0.key.order < $1.key.order }.map { port, flows in
            let address = port.address.family == .ipv6 ? "[\(port.address)]" : "\(port.address)"
            return Finding(
                "nobody-listens", .warning, "nothing listens on \(address):\(port.port) in \(port.netns)", in: port.netns,
                because:
                    "Connections to it passed all chains and were refused at once with a RST from \(port.netns) itself: no "
                    + "process listens on that address and port there.",
                packets: flows.reduce(0) { $0 + $1.record.original.packets },
                journeys: flows.map(\.record.original.latestJourney),
                paths: Set(flows.flatMap(\.record.original.paths)).sorted())
        }
    }

    /// Whether others reach a port elsewhere by this address: that local processes do not is another fault
    /// (`TranslationMissingForLocal`).
    private func isForwarded(_ flow: FlowEvidence, from namespace: Int, _ evidence: Evidence) -> Bool {
        var packet = RuleMatch.Packet(flow.record.original.tuple)
        packet.isLocal = true
        let redirections = evidence.namespaces.first { $0.indices.contains(namespace) }?.facts.redirections ?? []
        return redirections.contains { $0.isReachedFromPrerouting && $0.match.admits(packet) != false }
    }
}
