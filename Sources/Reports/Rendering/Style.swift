internal import Diagnosis
internal import Aggregation
internal import TraceModel

/// Colours for a terminal, or none.
public struct Style: Sendable {
    private let isColored: Bool

    public init(isColored: Bool) { self.isColored = isColored }

    public static let plain = Style(isColored: false)

    func bold(_ text: TerminalText) -> TerminalText { wrap(text, "1") }
    func dim(_ text: TerminalText) -> TerminalText { wrap(text, "2") }
    func good(_ text: TerminalText) -> TerminalText { wrap(text, "32") }
    func bad(_ text: TerminalText) -> TerminalText { wrap(text, "31") }
    func notable(_ text: TerminalText) -> TerminalText { wrap(text, "33") }

    func outcome(_ name: String) -> TerminalText {
        switch name {
        case "delivered", "sent": good("\(name)")
        case "dropped": bad("\(name)")
        default: notable("\(name)")
        }
    }

    private func wrap(_ text: TerminalText, _ code: String) -> TerminalText {
        isColored ? "\u{1B}[\(code)m\(text)\u{1B}[0m" : text
    }
}

/// What several renderings share.
enum Phrase {
    static func count(_ number: UInt64, _ noun: String, _ plural: String? = nil) -> String {
        "\(number) \(number == 1 ? noun : plural ?? noun + "s")"
    }

    /// `eth0`, `br0 → eth0`, `→ eth0`.
    static func interfaces(_ input: String?, _ output: String?) -> String {
        switch (input, output) {
        case (nil, nil): ""
        case (let input?, nil): input
        case (nil, let output?): "→ \(output)"
        case (let input?, let output?): "\(input) → \(output)"
        }
    }

    /// `10.0.0.1:80`, `[2001:db8::1]:80`, or the address alone.
    static func end(_ address: String, _ port: Int?) -> String {
        guard let port else { return address }
        return address.contains(":") ? "[\(address)]:\(port)" : "\(address):\(port)"
    }

    static func ends(_ source: String, _ sourcePort: Int?, _ destination: String, _ destinationPort: Int?) -> String {
        "\(end(source, sourcePort)) → \(end(destination, destinationPort))"
    }

    static func translation(_ translation: TranslationReport) -> String {
        let name: String
        switch translation.kind {
        case "snat": name = "SNAT"
        case "dnat": name = "DNAT"
        case "snat_reply": name = "SNAT undone"
        default: name = "DNAT undone"
        }
        return "\(name) \(end(translation.from, translation.fromPort)) → \(end(translation.to, translation.toPort))"
    }

    /// Where and why a packet ended, as one sentence.
    static func ending(
        _ outcome: String, _ reason: String?, _ ending: PathReport.Ending?, _ last: StepReport?, _ decidedBy: DecidedBy?
    ) -> String {
        switch outcome {
        case "sent":
            guard let last else { return "left the namespaces being traced" }
            return "left \(last.netns)" + (last.out.map { " through \($0)" } ?? "")
        case "delivered": return "to the sockets of \(last?.netns ?? "?")"
        case "dropped":
            if let decidedBy, decidedBy.isRule { return decidedBy.text }
            if let decidedBy, decidedBy.evidence == "drop_reason" || decidedBy.kind == "conntrack" {
                return decidedBy.kernelText
            }
            guard let ending else { return "" }
            let causes = ending.causes.compactMap { RoutingCause(rawValue: $0)?.explanation }
            return "behind \(place(ending.after)), before " + ending.before.map(place).joined(separator: " or ")
                + (ending.suspects.isEmpty ? "" : ": lost in " + ending.suspects.joined(separator: " or "))
                + (causes.isEmpty
                    ? ""
                    : ending.evidence == "counter"
                        ? ", since \(causes.joined(separator: "; ")) (the kernel's counters say so)"
                        : " (\(causes.joined(separator: "; ")))")
        case "incomplete": return reason ?? ""
        default: return "may still go on"
        }
    }

    /// `; the rule of 1 of them is inferred`.
    static func inferred(_ packets: UInt64?, of all: UInt64) -> String {
        guard let packets, packets < all else { return "" }
        return "; the rule of \(packets) of them is inferred"
    }

    static func chain(_ chain: String, table: String, hook: String, backFrom: String?) -> String {
        let namesItsHook = chain.hasPrefix(hook) && (chain == hook || table == Table.sentinel.name)
        return chain + (namesItsHook ? "" : " (\(hook))") + (backFrom.map { ", back from \($0)" } ?? "")
    }

    static func place(_ step: StepReport) -> String {
        "\(step.table)/\(step.chainText) in \(step.netns)"
    }

    /// Losses that make the report incomplete; `nil` where there are none.
    static func doubts(_ completeness: Completeness) -> String? {
        var parts: [String] = []
        if completeness.lost > 0 { parts.append("\(completeness.lost) events lost") }
        if let traces = completeness.ruleTracesLost { parts.append("\(traces) deliveries of rule traces lost") }
        if let reasons = completeness.dropReasonsLost { parts.append("\(count(reasons, "drop reason")) of the kernel lost") }
        if let gaps = completeness.gaps { parts.append("\(count(gaps, "gap")) in the recording") }
        if let thinned = completeness.thinned { parts.append("\(thinned) events of flows that were not followed") }
        if let rate = completeness.followedOneIn { parts.append("1 flow in \(rate) is followed") }
        if let rate = completeness.sampledOneIn { parts.append("1 flow in \(rate) is reported") }
        if let count = completeness.namespacesLeftOut { parts.append("\(Self.count(count, "namespace")) not followed") }
        if let count = completeness.namespacesUnread { parts.append("the rules of \(Self.count(count, "namespace")) not read") }
        if let lag = completeness.behindUs { parts.append("receiving lags by \(lag / 1000) ms") }
        if completeness.overflows > 0 { parts.append(count(completeness.overflows, "receive buffer overflow")) }
        if completeness.incomplete > 0 { parts.append("\(completeness.incomplete) journeys incomplete") }
        if completeness.ambiguous > 0 { parts.append("\(completeness.ambiguous) ambiguous") }
        if completeness.unlisted > 0 { parts.append("\(completeness.unlisted) past the number of paths that are kept") }
        if completeness.evicted > 0 { parts.append("\(completeness.evicted) closed early") }
        if completeness.malformed > 0 { parts.append("\(completeness.malformed) messages not understood") }
        if completeness.unplaced > 0 { parts.append("\(completeness.unplaced) events with a prefix that no rule has") }
        return parts.isEmpty ? nil : parts.joined(separator: ", ")
    }

    static func completeness(_ completeness: Completeness) -> String {
        "\(count(completeness.events, "event")), \(count(completeness.journeys - completeness.own, "journey"))"
            + (completeness.own > 0 ? ", \(completeness.own) of our own left out" : "")
            + (completeness.unwanted.map { ", \(count($0, "copy", "copies")) of multicast that nobody had asked for" } ?? "")
            + (completeness.open > 0 ? ", \(completeness.open) under way" : "") + ", "
            + (doubts(completeness) ?? "nothing lost")
    }

    /// Columns with their widest cell's width, two blanks apart; no blanks at the end of a line.
    static func columns(_ cells: [[String]]) -> [TerminalText] {
        let rows = cells.map { $0.map(\.printable) }
        let count = rows.map(\.count).max() ?? 0
        let widths = (0..<count).map { column in rows.map { column < $0.count ? $0[column].count : 0 }.max() ?? 0 }
        return rows.map { row in
            var line = ""
            for (column, cell) in row.enumerated() {
                line += cell + String(repeating: " ", count: widths[column] - cell.count + 2)
            }
            while line.last == " " { line.removeLast() }
            return TerminalText(written: line)
        }
    }
}
