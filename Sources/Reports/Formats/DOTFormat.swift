extension ReportFormat {
    /// Graphviz: `ipt-trace report paths --format dot | dot -Tsvg`.
    public static let dot = ReportFormat("dot", offeredBy: { $0 is any DiagramReport.Type }) { report, _ in
        (report as? any DiagramReport).map { TerminalText(Diagram.dot($0.diagrams)) }
    }
}

extension Diagram {
    /// A directed graph: a cluster for each diagram, in it one for each group.
    public static func dot(_ diagrams: [Diagram]) -> DOTText {
        var lines: [DOTText] = [
            "digraph {", "  rankdir=LR", "  node [shape=box, fontname=\"sans-serif\"]", "  fontname=\"sans-serif\"",
        ]
        for (number, diagram) in diagrams.enumerated() {
            let name = "d\(number)"
            lines += ["  subgraph cluster_\(name) {", "    label=\"\(diagram.title)\""]
            var previous: (node: String, notes: [String])?
            for (place, group) in diagram.groups.enumerated() {
                lines += ["    subgraph cluster_\(name)g\(place) {", "      label=\"\(group.title)\""]
                var arrows: [DOTText] = []
                for (index, box) in group.boxes.enumerated() {
                    let node = "\(name)g\(place)b\(index)"
                    lines.append("      \(node) [label=\"\(box.text)\"]")
                    if let previous { arrows.append("    \(previous.node) -> \(node)\(label(previous.notes))") }
                    previous = (node, box.notes)
                }
                // A node belongs to the cluster that names it first.
                lines += ["    }"] + arrows
            }
            if let ending = diagram.ending, let previous {
                let color: DOTText = diagram.isLoss ? ", color=red" : ""
                lines += [
                    "    \(name)end [shape=oval\(color), label=\"\(ending)\"]",
                    "    \(previous.node) -> \(name)end\(label(previous.notes))",
                ]
            }
            lines.append("  }")
        }
        return (lines + ["}"]).joined(separator: "\n")
    }

    private static func label(_ notes: [String]) -> DOTText {
        notes.isEmpty ? "" : " [label=\"\(notes.map(DOTText.init(escaping:)).joined(separator: "\\n"))\"]"
    }
}
