extension DropsReport {
    public func text(_ style: Style = .plain) -> TerminalText {
        var lines: [TerminalText] = ["\(Phrase.completeness(completeness))"]
        if drops.isEmpty { lines.append("No packet was seen to be dropped.") }
        for drop in drops {
            lines.append("")
            lines.append(
                style.bad("\(Phrase.count(drop.packets, "packet"))")
                    + " \(drop.decidedBy?.isReject == true ? "rejected" : "dropped") \(Phrase.ending("dropped", nil, drop.droppedBetween, nil, drop.decidedBy))"
            )
            let protocols = drop.protocols.sorted { $0.key < $1.key }.map { "\($0.value) \($0.key)" }
            lines.append(
                "  \(protocols.joined(separator: ", ")), \(Phrase.count(drop.bytes, "byte"))\(Phrase.inferred(drop.inferred, of: drop.packets))"
            )
            lines.append("  such as \(drop.example.title)")
            lines.append("  from \(drop.firstSeen) to \(drop.lastSeen)")
        }
        return lines.joined(separator: "\n")
    }

    public var markdown: MarkdownText {
        var lines: [MarkdownText] = [
            "# Drops", "", "\(Phrase.completeness(completeness)).", "", "| packets | where | such as |", "| --- | --- | --- |",
        ]
        for drop in drops {
            lines.append(
                "| \(drop.packets) | \(Phrase.ending("dropped", nil, drop.droppedBetween, nil, drop.decidedBy)) | "
                    + "\(drop.example.title) |")
        }
        return lines.joined(separator: "\n")
    }
}
