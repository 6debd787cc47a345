extension ReportFormat {
    /// https://mermaid.js.org: drawn by GitHub and GitLab where it stands in a document.
    public static let mermaid = ReportFormat("mermaid", offeredBy: { $0 is any DiagramReport.Type }) { report, _ in
        (report as? any DiagramReport).map { TerminalText(Diagram.mermaid($0.diagrams)) }
    }
}

extension Diagram {
    /// A flow chart: a box for each diagram, in it one for each group.
    public static func mermaid(_ diagrams: [Diagram]) -> MermaidText {
        var lines: [MermaidText] = ["flowchart LR"]
        for (number, diagram) in diagrams.enumerated() {
            let name = "d\(number)"
            lines.append("  subgraph \(name)[\"\(diagram.title)\"]")
            var previous: (node: String, notes: [String])?
            for (place, group) in diagram.groups.enumerated() {
                lines.append("    subgraph \(name)g\(place)[\"\(group.title)\"]")
                for (index, box) in group.boxes.enumerated() {
                    let node = "\(name)g\(place)b\(index)"
                    lines.append("      \(node)[\"\(box.text)\"]")
                    if let previous { lines.append("      \(previous.node) -->\(label(previous.notes)) \(node)") }
                    previous = (node, box.notes)
                }
                lines.append("    end")
            }
            if let ending = diagram.ending, let previous {
                lines.append("    \(previous.node) -->\(label(previous.notes)) \(name)end([\"\(ending)\"])")
            }
            lines.append("  end")
        }
        return lines.joined(separator: "\n")
    }

    /// The label of an arrow; nothing where there are no notes.
    private static func label(_ notes: [String]) -> MermaidText {
        notes.isEmpty ? "" : "|\"\(notes.map(MermaidText.init(escaping:)).joined(separator: "<br>"))\"|"
    }
}
