extension ReportFormat {
    /// A picture that browsers, documents and tickets show.
    public static let svg = ReportFormat("svg", offeredBy: { $0 is any DiagramReport.Type }) { report, _ in
        (report as? any DiagramReport).map { TerminalText(Diagram.svg($0.diagrams)) }
    }
}

extension Diagram {
    // Pixels. Text is not measured: a letter is taken as wide as most are.
    private static let width = 1100
    private static let margin = 16
    private static let letter = 8
    private static let box = (height: 24, gap: 22, row: 50)

    /// The diagrams one below the other, each group in rows of boxes that arrows join.
    public static func svg(_ diagrams: [Diagram]) -> XMLText {
        var body: [XMLText] = []
        var y = margin
        for diagram in diagrams {
            body.append(text(margin, y + 14, diagram.title, "title"))
            y += 28
            for (index, group) in diagram.groups.enumerated() { body += draw(group, isFirst: index == 0, &y) }
            if let ending = diagram.ending {
                body.append(text(margin + 8, y + 14, "→ \(ending)", diagram.isLoss ? "loss" : "ending"))
                y += 24
            }
            y += margin
        }
        let style: XMLText = """
            <style>text{font:13px sans-serif;fill:#1b1f24}.title{font-weight:bold}.group{fill:#f5f7f9;stroke:#c8ced6}\
            .box{fill:#fff;stroke:#57606a}.arrow{stroke:#57606a;fill:none;marker-end:url(#head)}.name{fill:#57606a;font-size:12px}\
            .chain{font-size:12px}.note{fill:#6b21c8;font-size:11px}.loss{fill:#b3151f;font-weight:bold}.ending{fill:#0a6e2e}</style>
            """
        let head: XMLText = """
            <defs><marker id="head" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="7" markerHeight="7" orient="auto">\
            <path d="M0 0L8 4L0 8z" fill="#57606a"/></marker></defs>
            """
        let start: XMLText =
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 \(width) \(y)\" width=\"\(width)\" height=\"\(y)\">"
        let back: XMLText = "<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>"
        return ([start, style, head, back] + body + ["</svg>"]).joined(separator: "\n")
    }

    private static func draw(_ group: Group, isFirst: Bool, _ y: inout Int) -> [XMLText] {
        let top = y
        var inner: [XMLText] = [text(margin + 8, y + 16, group.title, "name")]
        y += 26
        var x = margin + box.gap
        for (index, one) in group.boxes.enumerated() {
            let width = max(44, one.text.unicodeScalars.count * letter + 16)
            if x + width > Self.width - margin - 8, x > margin + box.gap {
                x = margin + box.gap
                y += box.row
            }
            // The way from the group before comes from above.
            if index > 0 || !isFirst { inner.append(line(x - box.gap + 2, y + box.height / 2, x)) }
            inner.append("<rect class=\"box\" x=\"\(x)\" y=\"\(y)\" width=\"\(width)\" height=\"\(box.height)\" rx=\"4\"/>")
            inner.append(text(x + 8, y + 16, one.text, "chain"))
            if !one.notes.isEmpty { inner.append(text(x, y + box.height + 13, one.notes.joined(separator: "; "), "note")) }
            x += width + box.gap
        }
        y += box.row
        let frame: XMLText =
            "<rect class=\"group\" x=\"\(margin)\" y=\"\(top)\" width=\"\(width - 2 * margin)\" height=\"\(y - top - 6)\" rx=\"6\"/>"
        return [frame] + inner
    }

    private static func line(_ from: Int, _ y: Int, _ to: Int) -> XMLText {
        "<path class=\"arrow\" d=\"M\(from) \(y)H\(to)\"/>"
    }

    private static func text(_ x: Int, _ y: Int, _ text: String, _ kind: String) -> XMLText {
        "<text class=\"\(kind)\" x=\"\(x)\" y=\"\(y)\">\(text)</text>"
    }
}
