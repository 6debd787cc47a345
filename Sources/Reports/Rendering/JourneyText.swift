extension JourneyReport {
    /// For a terminal: one journey as it ended, in two lines or, where steps are asked for, step by step.
    public func text(_ style: Style = .plain, showsSteps: Bool = false) -> TerminalText {
        let time = LocalTime.text(firstSeen)
        var title = "\(self.protocol) \(Phrase.ends(source, sourcePort, destination, destinationPort))"
        if let message { title += " \(message)" }
        if let tcpFlags { title += " \(tcpFlags)" }
        if closesWindow == true { title += " (window 0)" }
        if sentAgain == true { title += " (sent again)" }
        if let icmpSequence, icmpType == 8 || icmpType == 0 || icmpType == 128 || icmpType == 129 {
            title += " \(icmpSequence)"
        }
        let places = steps.map {
            StepReport(
                netns: $0.netns, family: $0.family, backend: $0.backend, hook: $0.hook, tableFamily: $0.tableFamily,
                table: $0.table, chain: $0.chain, priority: $0.priority, backFrom: $0.backFrom, in: $0.in, out: $0.out)
        }
        let ending = Phrase.ending(outcome, reason, droppedBetween, places.last, decidedBy)
        var lines: [TerminalText] = [
            "\(style.dim("\(time)")) \(style.bold("\(title)"))  \(style.outcome(outcome)) \(ending)"
                + (ambiguous ? style.notable("  (ambiguous)") : "")
        ]
        if showsSteps {
            var rows: [[String]] = []
            for (index, step) in places.enumerated() {
                rows += (routing ?? []).filter { $0.step == index }.compactMap(\.row)
                let met = (steps[index].rules ?? []).compactMap { met in met.rule.map { "\($0) (\(met.verdict))" } }
                let remarks = met + translations.filter { $0.step == index + 1 }.map(Phrase.translation)
                rows.append([
                    "  ", "\(index + 1)", step.netns, step.table, step.chainText, Phrase.interfaces(step.in, step.out),
                    remarks.joined(separator: "; "),
                ])
            }
            rows += (routing ?? []).filter { $0.step == places.count }.compactMap(\.row)
            lines += Phrase.columns(rows)
            if let about { lines.append("    about the packet \(about.protocol) \(about.source) → \(about.destination)") }
            lines += (icmpErrors ?? []).map { "    ICMP error about it from \($0.source): \($0.message)" }
        } else {
            lines.append("    \(summary(places))")
        }
        return lines.joined(separator: "\n")
    }

    /// `guest: raw, mangle, filter OUTPUT; mangle POSTROUTING → host: …`.
    private func summary(_ places: [StepReport]) -> String {
        var text = ""
        for (index, step) in places.enumerated() {
            let previous = index > 0 ? places[index - 1] : nil
            if previous?.netns != step.netns {
                if let previous { text += " \(previous.chainText) → " }
                text += "\(step.netns): \(step.table)"
            } else if previous?.chainText != step.chainText {
                text += " \(previous?.chainText ?? ""); \(step.table)"
            } else {
                text += ", \(step.table)"
            }
            for translation in translations where translation.step == index + 1 {
                text += " (\(Phrase.translation(translation)))"
            }
        }
        return text + (places.last.map { " \($0.chainText)" } ?? "")
    }
}
