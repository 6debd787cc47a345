extension FindingsReport {
    public func text(_ style: Style = .plain) -> TerminalText {
        var lines: [TerminalText] = ["\(Phrase.completeness(completeness))"]
        if findings.isEmpty { lines.append("Nothing was found to be wrong.") }
        for finding in findings {
            let severity = finding.severity == .problem ? style.bad("problem") : style.notable("\(finding.severity.rawValue)")
            lines += ["", "\(severity): \(style.bold("\(finding.title)"))", "  \(finding.reason)"]
            if finding.packets > 0 {
                lines.append(
                    "  shown by \(Phrase.count(finding.packets, "packet")), such as journey \(finding.journeys.first ?? "")")
            }
            for cure in finding.cures { lines.append("  to mend it: \(cure.command)") }
        }
        return lines.joined(separator: "\n")
    }

    public var markdown: MarkdownText {
        var lines: [MarkdownText] = ["# Findings", "", "\(Phrase.completeness(completeness)).", ""]
        if findings.isEmpty { lines.append("Nothing was found to be wrong.") }
        for finding in findings {
            lines += ["## \(finding.severity.rawValue): \(finding.title)", "", "\(finding.reason)", ""]
            for cure in finding.cures { lines += ["    \(code: cure.command)", ""] }
        }
        return lines.joined(separator: "\n")
    }
}
