internal import Aggregation
internal import TraceModel

/// Errors that tell senders how large their packets may be are dropped on their way: connections stand, and hang with the first large
/// packet (RFC 2923, 2.1).
struct PathMTUBlocked: FindingRule {
    private struct Place: Hashable {
        var netns: String
        var decision: RuleDecision?
    }

    func findings(in evidence: Evidence) -> [Finding] {
        var order: [Place] = []
        var groups: [Place: [PathEvidence]] = [:]
        for path in evidence.paths where path.example.packet.tellsPathMTU {
            guard let site = path.dropSite, let last = path.droppedAfter?.probe else { continue }
            let place = Place(
                netns: evidence.layout.namespaces[site.decision?.namespace ?? last.namespace].name, decision: site.decision)
            if groups[place] == nil { order.append(place) }
            groups[place, default: []].append(path)
        }
        return order.compactMap { finding($0, groups[$0] ?? [], evidence) }
    }

    private func finding(_ place: Place, _ errors: [PathEvidence], _ evidence: Evidence) -> Finding? {
        guard let first = errors.first else { return nil }
        let lost = Set(errors.map(\.index))
        // Packets that the errors are about, and whose sender goes on with the same size.
        let large = Set(
            evidence.flows.filter { $0.record.errors.contains { lost.contains($0.path) } }.flatMap {
                $0.record.original.paths + ($0.record.reply?.paths ?? [])
            })
        let rule =
            place.decision.map { decision in
                decision.kind == .policy
                    ? " The policy of \(decision.place.table)/\(decision.place.chain) drops them."
                    : decision.text.map { " The rule that drops them: \($0)." } ?? ""
            } ?? ""
        var finding = Finding(
            "path-mtu-blocked", .problem,
            "\(place.netns) drops the errors that tell senders how large packets may be", in: place.netns, shownBy: errors,
            because:
                "They come from \(first.example.packet.tuple.source) for \(first.example.packet.tuple.destination). Without them a "
                + "sender goes on with packets that do not fit: connections are opened, and hang with the first large packet.\(rule)"
        )
        finding?.paths += evidence.paths.filter { large.contains($0.index) && $0.outcome == .dropped }.map(\.index)
        if let decision = place.decision,
            let cure = evidence.acceptance(of: first, past: decision, in: place.netns)
        {
            finding?.cures = [cure]
        }
        return finding
    }
}
