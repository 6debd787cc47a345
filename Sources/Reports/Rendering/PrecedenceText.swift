extension PrecedenceReport {
    public func text(_ style: Style = .plain) -> TerminalText {
        var lines: [TerminalText] = ["\(Phrase.completeness(completeness))"]
        if roles.isEmpty { lines.append("No packet has ended its journey yet. Probes in place? ipt-trace probes") }
        for role in roles {
            lines += ["", style.bold("\(role.title)")]
            for order in role.orders {
                lines.append("  \(Self.name(order.direction)), \(Phrase.count(order.packets, "packet")):")
                lines += Self.wrapped(order.chains).map { "    \($0)" }
            }
        }
        if !conflicts.isEmpty {
            lines += ["", style.bad("Packets disagree:")]
            lines += conflicts.map { "  \(Self.sentence($0))" }
        }
        if !notes.isEmpty {
            lines += ["", "Notes:"]
            lines += notes.map { "  \($0)" }
        }
        return lines.joined(separator: "\n")
    }

    public var markdown: MarkdownText {
        var lines: [MarkdownText] = ["# Precedence", "", "\(Phrase.completeness(completeness)).", ""]
        for role in roles {
            lines += ["## \(role.title)", ""]
            for order in role.orders {
                lines += ["\(Self.name(order.direction)), \(Phrase.count(order.packets, "packet")):", ""]
                for (index, chain) in order.chains.enumerated() { lines.append("\(index + 1). \(chain)") }
                lines.append("")
            }
        }
        if !conflicts.isEmpty { lines += ["## Conflicts", ""] + conflicts.map { "- \(Self.sentence($0))" } + [""] }
        if !notes.isEmpty { lines += ["## Notes", ""] + notes.map { "- \($0)" } + [""] }
        return lines.joined(separator: "\n")
    }

    private static func name(_ direction: String) -> String {
        switch direction {
        case "out": "out (from a local process)"
        case "in": "in (to a local process)"
        default: "through (forwarded)"
        }
    }

    private static func sentence(_ conflict: Conflict) -> String {
        "\(conflict.netns), \(conflict.direction): \(Phrase.count(conflict.packets, "packet")) passed \(conflict.first) "
            + "before \(conflict.second), \(conflict.packetsOtherwise) the other way round"
    }

    /// Chains joined by arrows, in lines of at most 100 characters or so.
    private static func wrapped(_ chains: [String]) -> [String] {
        var lines: [String] = []
        var line = ""
        for (index, chain) in chains.enumerated() {
            let piece = index == 0 ? chain : "→ \(chain)"
            if !line.isEmpty, line.count + piece.count > 100 {
                lines.append(line)
                line = piece
            } else {
                line += line.isEmpty ? piece : " \(piece)"
            }
        }
        return line.isEmpty ? lines : lines + [line]
    }
}

extension PrecedenceReport.Role {
    var title: String { "\(netns) (\(role))\(medium == "log" ? ", by the kernel log" : "")" }
}
