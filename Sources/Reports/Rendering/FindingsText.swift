extension FindingsReport {
    public func text(_ style: Style = .plain) -> TerminalText {
        var lines: [TerminalText] = ["\(Phrase.completeness(completeness))"]
        if findings.isEmpty { lines.append("Nothing was found to be wrong.") }
        for finding in findings {
            let severity = finding.severity == .problem ? style.bad("problem") : style.notable("\(finding.severity.rawValue)")
            lines += ["", "\(severity): \(style.bold("\(finding.title)"))", "  \(finding.reason)"]
            if finding.packets > 0 {
                lines.append(
                    "  shown by \(Phrase.count(finding.packets, "packet")), such as journey \(finding.evidence.first ?? "")")
            }
            if let remedy = finding.remedy { lines.append("  to mend it: \(remedy)") }
        }
        return lines.joined(separator: "\n")
    }

    public var markdown: MarkdownText {
        var lines: [MarkdownText] = ["# Findings", "", "\(Phrase.completeness(completeness)).", ""]
        if findings.isEmpty { lines.append("Nothing was found to be wrong.") }
        for finding in findings {
            lines += ["## \(finding.severity.rawValue): \(finding.title)", "", "\(finding.reason)", ""]
            if let remedy = finding.remedy { lines += ["    \(code: remedy)", ""] }
        }
        return lines.joined(separator: "\n")
    }
}
