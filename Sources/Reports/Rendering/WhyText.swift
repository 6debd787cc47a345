internal import Diagnosis
internal import TraceModel

extension WhyAnswer {
    /// For a terminal: in under ten lines.
    public func text(_ style: Style = .plain) -> TerminalText {
        guard let flow else { return "\(remark ?? "No such packet was seen.")" }
        let ends = Phrase.ends(
            flow.original.source, flow.original.sourcePort, flow.original.destination, flow.original.destinationPort)
        var lines: [TerminalText] = ["\(style.bold("\(flow.protocol) \(ends)")) \(verdict(style))"]
        if outcome == .dropped || outcome == .incomplete {
            let lost = isReplyLost ? replyPath : path
            if let decidedBy, decidedBy.isRule {
                lines.append(
                    "  \(decidedBy.kind == "policy" ? "policy" : "rule  ")  \(decidedBy.ruleText)\(decidedBy.invalidText)")
                lines.append("          \(decidedBy.numberedPlaceText)")
                if let way = decidedBy.way { lines.append("  by      \(way.joined(separator: ", then "))") }
                if let nearest = decidedBy.nearest?.first { lines.append("  nearest \(nearest.text)") }
            } else if let decidedBy, decidedBy.evidence == "drop_reason" || decidedBy.kind == "conntrack" {
                lines.append("  kernel  \(decidedBy.kernelText)")
            } else if let lost {
                lines.append("  ended   \(Phrase.ending(lost.outcome, lost.reason, lost.droppedBetween, lost.steps.last, nil))")
            }
        }
        for error in flow.icmpErrors ?? [] { lines.append("  told    by ICMP from \(error.source): \(error.message)") }
        // The drop's own finding has been told above.
        for finding in findings where finding.kind != "packets-dropped" { lines.append("  fault   \(finding.title)") }
        if let path { lines.append("  way     \(way(path))") }
        if let replyPath { lines.append("  back    \(way(replyPath))") }
        for cure in cures.prefix(2) {
            lines.append("  cure    \(cure.command)")
            lines.append("          \(style.dim("\(cure.reason)"))")
            if let trial = cure.trial { lines.append("          \(trial.text(of: cure, style))") }
        }
        if let remark { lines.append("  \(remark)") }
        return lines.joined(separator: "\n")
    }

    private var isReplyLost: Bool { direction == "reply" }

    private func verdict(_ style: Style) -> TerminalText {
        let arrived = path?.steps.last?.netns ?? "?"
        switch outcome {
        case .answered: return style.good("gets through, and an answer comes back.")
        case .refused: return style.bad("arrives in \(arrived) and is refused at once: nothing listens there.")
        case .unanswered:
            let end =
                isReplyLost
                ? "arrives in \(arrived), and its answer goes astray."
                : path?.outcome == "sent"
                    ? "leaves \(arrived)\(path?.steps.last?.out.map { " through \($0)" } ?? ""), and no answer was seen to come back."
                    : "arrives in \(arrived), and no answer was seen."
            return style.notable("\(end)")
        case .dropped:
            let place = decidedBy?.netns ?? (isReplyLost ? replyPath : path)?.droppedBetween?.after.netns ?? "?"
            let verb = decidedBy?.isReject == true ? "rejects" : "drops"
            return isReplyLost
                ? style.bad("arrives, but its answer does not come back: \(place) \(verb) it.")
                : style.bad("does not get through: \(place) \(verb) it.")
        case .incomplete: return style.notable("cannot be told: some of what it met was not seen.")
        case .notSendable, .notSeen: return "\(remark ?? "")"
        }
    }

    /// `guest (default via 10.0.1.1 dev eth0) → host (DNAT 10.0.0.1:80 → 10.0.1.2:8080) → web, last seen in filter/INPUT`.
    private func way(_ path: PathReport) -> String {
        var places: [String] = []
        var untold = path.translations
        for step in path.steps where places.last != step.netns { places.append(step.netns) }
        let named = places.map { place in
            let own = untold.filter { $0.netns == place }
            untold.removeAll { $0.netns == place }
            // Where it has arrived, the route is that it is its own address.
            let isArrival = place == places.last && path.outcome == "delivered"
            let routed = isArrival ? [] : (path.routing ?? []).filter { $0.netns == place }
            let notes = own.map(Phrase.translation) + routed.compactMap(\.text)
            return place + (notes.isEmpty ? "" : " (\(notes.joined(separator: "; ")))")
        }
        let last = path.steps.last { $0.table != Table.sentinel.name }
        let end =
            switch path.outcome {
            case "delivered": ": delivered"
            case "sent": last?.out.map { ": sent through \($0)" } ?? ": sent"
            default: last.map { ", last seen in \($0.table)/\($0.chainText)" } ?? ""
            }
        return named.joined(separator: " → ") + end
    }
}

extension DecidedBy {
    fileprivate var numberedPlaceText: String {
        let number = position.map { "rule \($0) of " } ?? ""
        return
            "\(number)\(placeText)\(ownerText) (\(backend ?? "?")), \(evidence == "trace" ? "as the kernel's own trace says" : "inferred")"
    }
}

extension CureTrial {
    fileprivate func text(of cure: Cure, _ style: Style) -> TerminalText {
        switch result {
        case .mends: style.good("tried on a copy of the rules of \(cure.netns): the packet gets past them")
        case .fails: style.bad("tried on a copy of the rules of \(cure.netns): the packet is still dropped")
        case .refused: style.bad("refused by a copy of the rules of \(cure.netns): \(detail ?? "?")")
        case .untried: style.dim("not tried on a copy of the rules: \(detail ?? "?")")
        }
    }
}
