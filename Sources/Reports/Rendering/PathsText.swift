extension PathsReport {
    /// For a terminal: every path step by step.
    public func text(_ style: Style = .plain) -> TerminalText {
        var lines: [TerminalText] = ["\(Phrase.completeness(completeness))"]
        if paths.isEmpty {
            lines.append("No packet has ended its journey yet. Probes in place? ipt-trace probes")
        }
        lines += unplaced.prefix(10).map { prefix in
            let place = prefix.netns.map { "namespace \($0)" } ?? "the kernel log"
            return style.notable(
                "\(Phrase.count(prefix.events, "event")) of \(place) with prefix \"\(prefix.prefix)\", which no rule explains")
        }
        if unplaced.count > 10 { lines.append(style.notable("and \(unplaced.count - 10) such prefixes more")) }
        for (index, path) in paths.enumerated() {
            lines.append("")
            lines += path.text(number: index + 1, style)
        }
        return lines.joined(separator: "\n")
    }

    public var markdown: MarkdownText {
        var lines: [MarkdownText] = ["# Paths", "", "\(Phrase.completeness(completeness)).", ""]
        for (index, path) in paths.enumerated() {
            lines.append("## \(index + 1). \(path.title), \(path.outcome)")
            lines += ["", "\(Phrase.count(path.packets, "packet")), \(Phrase.count(path.bytes, "byte")).", ""]
            lines += [
                "| # | namespace | hook | table | chain | in | out | |", "| --- | --- | --- | --- | --- | --- | --- | --- |",
            ]
            for (number, step) in path.steps.enumerated() {
                let remark = path.remarks(at: number).joined(separator: "; ")
                let cells = [
                    "\(number + 1)", step.netns, step.hook, step.table, step.chainText, step.in ?? "", step.out ?? "", remark,
                ]
                lines.append("| \(cells.map(MarkdownText.init(escaping:)).joined(separator: " | ")) |")
            }
            lines += ["", "**\(path.outcome)**: \(path.endingText)", ""]
        }
        return lines.joined(separator: "\n")
    }
}

extension PathReport.Example {
    /// `icmp 10.0.0.1 → 10.0.0.2 echo request`.
    var title: String {
        "\(self.protocol) \(Phrase.ends(source, sourcePort, destination, destinationPort))"
            + ((message ?? tcpFlags).map { " \($0)" } ?? "")
    }
}

extension RoutingReport {
    /// Among the rows of steps: number, namespace, table, chain, interfaces, remark. `nil` where nothing is known.
    var row: [String]? { fullText.map { ["  ", "", netns, "routing", "", "", $0] } }
}

extension PathReport {
    var title: String {
        example.title
    }

    var endingText: String { Phrase.ending(outcome, reason, droppedBetween, steps.last, decidedBy) }

    /// Translations that happened behind the step at `index`: the next one sees the packet rewritten.
    func remarks(at index: Int) -> [String] {
        translations.filter { $0.step == index + 1 }.map { translation in
            // Another packet of the path may have met another one, or none.
            let share = translation.packets < packets ? " (\(translation.packets) of \(packets) packets)" : ""
            return Phrase.translation(translation) + share
        }
    }

    /// - Parameter number: its place in a list.
    public func text(number: Int, _ style: Style = .plain) -> [TerminalText] {
        let shares = protocols.sorted { ($1.value, $0.key) < ($0.value, $1.key) }.map { "\($0.value) \($0.key)" }
        let mixture = shares.count > 1 ? " (\(shares.joined(separator: ", ")))" : ""
        let head: TerminalText =
            "\(number). \(title)  \(Phrase.count(packets, "packet"))\(mixture), \(Phrase.count(bytes, "byte"))  "
        var lines: [TerminalText] = [style.bold(head) + style.outcome(outcome) + (medium == "log" ? "  (kernel log)" : "")]
        if ambiguous > 0 {
            lines.append(
                style.notable(
                    "   \(ambiguous) of them ambiguous: another packet, or another rule with the same prefix, could have caused some events"
                ))
        }
        var rows: [[String]] = []
        for (index, step) in steps.enumerated() {
            rows += (routing ?? []).filter { $0.step == index }.compactMap(\.row)
            let chain = step.chainText
            rows.append(
                ["  ", "\(index + 1)", step.netns, step.table, chain, Phrase.interfaces(step.in, step.out)]
                    + [remarks(at: index).joined(separator: "; ")])
        }
        rows += (routing ?? []).filter { $0.step == steps.count }.compactMap(\.row)
        lines += Phrase.columns(rows)
        if let inner = example.carries {
            lines.append("   carries \(inner.protocol) \(inner.source) → \(inner.destination)")
        }
        if let outer = example.carriedBy {
            lines.append("   carried by \(outer.protocol) \(outer.source) → \(outer.destination)")
        }
        lines.append("   \(style.outcome(outcome)): \(endingText)")
        return lines
    }
}
