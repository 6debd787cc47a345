extension FindingsReport {
    public func text(_ style: Style = .plain) -> String {
        var lines = [Phrase.completeness(completeness)]
        if findings.isEmpty { lines.append("Nothing was found to be wrong.") }
        for finding in findings {
            let severity = finding.severity == .problem ? style.bad("problem") : style.notable(finding.severity.rawValue)
            lines += ["", "\(severity): \(style.bold(finding.title))", "  \(finding.reason)"]
            if finding.packets > 0 {
                lines.append(
                    "  shown by \(Phrase.count(finding.packets, "packet")), such as journey \(finding.evidence.first ?? "")")
            }
            if let remedy = finding.remedy { lines.append("  to mend it: \(remedy)") }
        }
        return lines.joined(separator: "\n")
    }

    public var markdown: String {
        var lines = ["# Findings", "", Phrase.completeness(completeness) + ".", ""]
        if findings.isEmpty { lines.append("Nothing was found to be wrong.") }
        for finding in findings {
            lines += ["## \(finding.severity.rawValue): \(finding.title)", "", finding.reason, ""]
            if let remedy = finding.remedy { lines += ["    \(remedy)", ""] }
        }
        return lines.joined(separator: "\n")
    }
}
