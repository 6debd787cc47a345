public import TraceModel

/// Input for `iptables-restore --noflush`: one transaction per table.
public struct RestoreInput: Sendable, Equatable {
    /// Commands (`-I …`, `-D …`) by table, in the order in which they are applied.
    public var commands: [(table: Table, lines: [String])] = []

    public init() {}

    public mutating func insert(_ rule: ProbeRule) {
        append("-I \(rule.chain) \(rule.position + 1) \(RuleWords.join(rule.words))", to: rule.table)
    }

    /// Takes out exactly the rule that iptables-save printed.
    public mutating func delete(_ rule: RuleDump.Rule, from table: Table) {
        // The printed form is what iptables-restore reads, but for the command letter.
        append("-D" + rule.text.dropFirst(2), to: table)
    }

    private mutating func append(_ line: String, to table: Table) {
        if let index = commands.firstIndex(where: { $0.table == table }) {
            commands[index].lines.append(line)
        } else {
            commands.append((table, [line]))
        }
    }

    public var isEmpty: Bool { commands.isEmpty }

    public var text: String {
        commands.map { "*\($0.table.name)\n" + $0.lines.map { $0 + "\n" }.joined() + "COMMIT\n" }.joined()
    }

    public static func == (left: RestoreInput, right: RestoreInput) -> Bool { left.text == right.text }
}
