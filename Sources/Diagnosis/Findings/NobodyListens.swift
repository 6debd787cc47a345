internal import Aggregation
internal import TraceModel

/// Packets arrived where no process listens on their port: the kernel says so, or the machine itself answered at once with a RST
/// (RFC 9293, 3.5.2).
struct NobodyListens: FindingRule {
    private struct Port: Hashable {
        var netns: String
        var address: IPAddress
        var port: UInt16

        var order: (String, IPAddress, UInt16) { (netns, address, port) }

        var title: String {
            "nothing listens on \(address.family == .ipv6 ? "[\(address)]" : "\(address)"):\(port) in \(netns)"
        }
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
        let told = told(in: evidence)
        return told.values.sorted { $0.title < $1.title }
            + refused.filter { told[$0.key] == nil }.sorted { $0.key.order < $1.key.order }.map { port, flows in
                Finding(
                    "nobody-listens", .warning, port.title, in: port.netns,
                    because:
                        "Connections to it passed all chains and were refused at once with a RST from \(port.netns) itself: no "
                        + "process listens on that address and port there.",
                    packets: flows.reduce(0) { $0 + $1.record.original.packets },
                    journeys: flows.map(\.record.original.latestJourney),
                    paths: Set(flows.flatMap(\.record.original.paths)).sorted())
            }
    }

    /// The ports to which the kernel dropped packets for want of a socket.
    private func told(in evidence: Evidence) -> [Port: Finding] {
        var paths: [Port: [PathEvidence]] = [:]
        for path in evidence.paths where path.dropSite?.kernel?.isWithoutSocket == true {
            let flags = path.example.packet.tcpFlags
            guard let tuple = path.example.legs.last?.exit, tuple.hasPorts, let last = path.droppedAfter?.probe,
                // A segment of a connection that is not there says nothing of who listens.
                tuple.transport == TransportProtocol.tcp ? flags.opensConnection : !path.isReply,
                !evidence.flows(on: path).contains(where: { isForwarded($0, from: last.namespace, evidence) })
            else { continue }
            let netns = evidence.layout.namespaces[last.namespace].name
            paths[Port(netns: netns, address: tuple.destination, port: tuple.destinationPort), default: []].append(path)
        }
        var found: [Port: Finding] = [:]
        for (port, paths) in paths {
            found[port] = Finding(
                "nobody-listens", .warning, port.title, in: port.netns, shownBy: paths,
                because:
                    "Packets to it passed all chains, and no process listens on that address and port there. \(paths.witness(""))"
            )
        }
        return found
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
