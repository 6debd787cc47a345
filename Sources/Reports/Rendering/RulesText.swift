extension RulesReport {
    public func text(_ style: Style = .plain) -> TerminalText {
        var lines: [TerminalText] = ["\(Phrase.completeness(completeness))"]
        if rules.isEmpty { lines.append("No rule was seen to drop a packet.") }
        for rule in rules {
            lines += [
                "", style.bad("\(Phrase.count(rule.packets, "packet"))") + " dropped \(rule.decidedBy.text)",
                "  \(Phrase.count(rule.bytes, "byte")), from \(rule.firstSeen) to \(rule.lastSeen), such as \(rule.example.title)",
            ]
            // The rules that came closest to accepting the example's packet.
            lines += (rule.decidedBy.nearest ?? []).map { "  \($0.text)" }
        }
        if let remark { lines += ["", "\(remark)"] }
        return lines.joined(separator: "\n")
    }

    private var remark: String? {
        unnamed > 0
            ? "\(Phrase.count(unnamed, "dropped packet")) without a rule's name: ipt-trace report drops says where." : nil
    }

    public var markdown: MarkdownText {
        var lines: [MarkdownText] = [
            "# Rules", "", "\(Phrase.completeness(completeness)).", "", "| packets | dropped | such as |",
            "| --- | --- | --- |",
        ]
        for rule in rules { lines.append("| \(rule.packets) | \(rule.decidedBy.text) | \(rule.example.title) |") }
        if let remark { lines += ["", "\(remark)"] }
        return lines.joined(separator: "\n")
    }
}
