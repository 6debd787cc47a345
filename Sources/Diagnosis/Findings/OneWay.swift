internal import Aggregation
internal import TraceModel

/// Connections whose packets arrived, and to which no answer was seen.
struct OneWay: FindingRule {
    /// Protocols in which the other side answers.
    private static let answered: Set<UInt8> = [TransportProtocol.tcp, TransportProtocol.icmp, TransportProtocol.icmpv6]

    func findings(in evidence: Evidence) -> [Finding] {
        let silent = evidence.flows.filter { flow in
            let outcomes = flow.record.original.outcomes
            // Members of a group answer by their own addresses.
            return flow.record.reply == nil && flow.record.isDirectionKnown
                && !flow.record.original.tuple.destination.isMulticast && Self.answered.contains(flow.transport)
                && Outcome.allCases.allSatisfy { $0 == .delivered || $0 == .sent || outcomes[$0] == 0 }
        }
        let paths = Set(silent.flatMap(\.record.original.paths))
        let shown = evidence.paths.filter { paths.contains($0.index) }
        let last = shown.first?.steps.last?.probe.namespace
        return [
            Finding(
                "one-way", .notice, "nothing came back for \(silent.count) connection\(silent.count == 1 ? "" : "s")",
                in: last.flatMap(evidence.layout.namespace)?.name ?? "", shownBy: shown,
                because: "Packets went all their way and no answer to them was seen: the other side did not answer, its answer "
                    + "took a way that is not watched, or found none.")
        ].compactMap(\.self)
    }
}
