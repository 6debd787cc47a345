internal import Diagnosis

extension FindingsReport {
    public func text(_ style: Style = .plain) -> TerminalText {
        var lines: [TerminalText] = ["\(Phrase.completeness(completeness))"]
        if findings.isEmpty { lines.append("\(nothingFound)") }
        for finding in findings {
            let severity = finding.severity == .problem ? style.bad("problem") : style.notable("\(finding.severity.rawValue)")
            lines += ["", "\(severity): \(style.bold("\(finding.title)"))", "  \(finding.reason)"]
            if finding.packets > 0 {
                lines.append(
                    "  shown by \(Phrase.count(finding.packets, "packet")), such as journey \(finding.journeys.first ?? "")"
                        + (finding.firstSeen.map { ", since \($0)" } ?? ""))
            }
            for cure in finding.cures {
                // A drop may be meant: then what would let the packets through mends nothing.
                lines.append("  \(finding.kind == "packets-dropped" ? "to let it through" : "to mend it"): \(cure.command)")
            }
        }
        return lines.joined(separator: "\n")
    }

    private var nothingFound: String {
        // Collectors of earlier versions had drops without a finding.
        guard let dropped, dropped > 0 else { return "Nothing was found to be wrong." }
        let packets = Phrase.count(dropped, "packet")
        return "\(packets) \(dropped == 1 ? "was" : "were") dropped: ipt-trace report drops says where."
    }

    public var markdown: MarkdownText {
        var lines: [MarkdownText] = ["# Findings", "", "\(Phrase.completeness(completeness)).", ""]
        if findings.isEmpty { lines.append("\(nothingFound)") }
        for finding in findings {
            lines += ["## \(finding.severity.rawValue): \(finding.title)", "", "\(finding.reason)", ""]
            for cure in finding.cures { lines += ["    \(code: cure.command)", ""] }
        }
        return lines.joined(separator: "\n")
    }
}
