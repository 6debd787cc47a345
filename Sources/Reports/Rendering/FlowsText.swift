extension FlowsReport {
    public func text(_ style: Style = .plain) -> TerminalText {
        var lines: [TerminalText] = ["\(Phrase.completeness(completeness))"]
        for flow in flows {
            lines += ["", style.bold("\(flow.protocol) \(Self.ends(flow.original))")]
            lines.append("  original: \(Self.summary(flow.original))")
            lines.append(
                "  reply:    \(flow.reply.map { "\(Self.summary($0)), first seen as \(Self.ends($0))" } ?? "none seen")")
            if !flow.directionKnown {
                lines.append(style.notable("  its first packet was missed: which side began is not known"))
            }
            lines += (flow.icmpErrors ?? []).map {
                "  \(Phrase.count($0.packets, "ICMP error")) about it from \($0.source): \($0.message)"
            }
            lines += flow.translations.map { "  \(Phrase.translation($0)) in \($0.netns)" }
        }
        return lines.joined(separator: "\n")
    }

    private static func ends(_ side: FlowReport.Side) -> String {
        Phrase.ends(side.source, side.sourcePort, side.destination, side.destinationPort)
    }

    private static func summary(_ side: FlowReport.Side) -> String {
        let outcomes = side.outcomes.sorted { $0.key < $1.key }.map { "\($0.value) \($0.key)" }.joined(separator: ", ")
        return "\(Phrase.count(side.packets, "packet")), \(Phrase.count(side.bytes, "byte")) (\(outcomes))"
            + (side.sentAgain.map { ", \($0) of them sent again" } ?? "")
            + (side.closedWindows.map { ", \($0) with a window of 0" } ?? "")
    }
}
