public import TraceModel

/// Output of one `iptables-save`: chains and rules by table, in order.
public struct RuleDump: Sendable, Equatable {
    public struct Chain: Sendable, Equatable {
        public var name: String
        /// `ACCEPT` or `DROP`; `-` for a user-defined chain.
        public var policy: String
    }

    public struct Rule: Sendable, Equatable {
        public var chain: String
        /// Behind `-A chain`.
        public var words: [String]
        /// The rule as printed, without counters: `-A INPUT -j ACCEPT`.
        public var text: String
        /// Packets counted, where the dump has counters (`iptables-save -c`).
        public var packets: UInt64?
        /// nf_tables' number of the rule; `nil` for the legacy backend and for files.
        public var handle: UInt64?

        /// The word behind `-j` or `-g`.
        public var target: String? {
            targetIndex.flatMap { $0 + 1 < words.count ? words[$0 + 1] : nil }
        }

        /// Whether the target does not return to the rule behind (`-g`).
        public var isGoto: Bool { targetIndex.map { ["-g", "--goto"].contains(words[$0]) } ?? false }

        /// The word behind `option`.
        public func argument(of option: String) -> String? {
            guard let index = index(where: { $0 == option }), index + 1 < words.count else { return nil }
            return words[index + 1]
        }

        /// The words before the target: the rule's matches.
        public var match: [String] { Array(words.prefix(targetIndex ?? words.count)) }

        /// The target with its options.
        var action: [String] { Array(words.dropFirst(targetIndex ?? words.count)) }

        private var targetIndex: Int? { index { ["-j", "-g", "--jump", "--goto"].contains($0) } }

        /// The index of an option: an argument of free text may look like one.
        private func index(where isWanted: (String) -> Bool) -> Int? {
            var index = 0
            while index < words.count {
                if isWanted(words[index]) { return index }
                index += Self.optionsWithText.contains(words[index]) ? 2 : 1
            }
            return nil
        }

        private static let optionsWithText: Set<String> = [
            "--comment", "--log-prefix", "--nflog-prefix", "--string", "--hex-string", "--name", "--hashlimit-name",
            "--match-set", "--bytecode", "--helper", "--path", "--rateest-name", "--nfacct-name", "--ulog-prefix",
        ]
    }

    public struct TableContent: Sendable, Equatable {
        /// `nil` where it is none of iptables' five.
        public var table: Table?
        public var name: String
        public var chains: [Chain] = []
        public var rules: [Rule] = []
        /// Whether its COMMIT was printed: a dump that ends before has lost rules.
        public var isComplete = false
        /// Why iptables-save does not print the table; its chains and rules are then taken from nf_tables' own listing, which
        /// has no text for conditions. `nil` where it was printed.
        public var obstacle: String?

        /// No rules, no chains of a user's, no policy but ACCEPT: as if the table were not there.
        public var isPristine: Bool {
            rules.isEmpty && chains.allSatisfy { $0.policy == "ACCEPT" }
        }
    }

    public var tables: [TableContent] = []

    public init() {}

    /// Parses the output of iptables-save, with or without counters.
    public init(parsing text: String) throws(RulesetError) {
        // By scalars: to Swift a colon and a combining accent behind it are one character.
        let lines = text.unicodeScalars.split(separator: "\n", omittingEmptySubsequences: false)
        for (index, line) in lines.enumerated() {
            try add(line: Substring(line.last == "\r" ? line.dropLast() : line), number: index + 1)
        }
    }

    private mutating func add(line: Substring, number: Int) throws(RulesetError) {
        if line == "COMMIT", !tables.isEmpty { tables[tables.count - 1].isComplete = true }
        guard let first = line.unicodeScalars.first, first != "#", line != "COMMIT" else { return }
        if first == "*" {
            let name = String(line.unicodeScalars.dropFirst())
            tables.append(TableContent(table: Table(name: name), name: name))
            return
        }
        guard !tables.isEmpty else { throw .malformedDump(line: number, text: String(line.prefix(200))) }
        let last = tables.count - 1
        if first == ":" {
            let parts = line.unicodeScalars.dropFirst().split(separator: " ")
            guard parts.count >= 2 else { throw .malformedDump(line: number, text: String(line.prefix(200))) }
            tables[last].chains.append(Chain(name: String(parts[0]), policy: String(parts[1])))
            return
        }
        var rest = line
        var packets: UInt64?
        if first == "[", let end = line.firstIndex(of: "]") {
            packets = UInt64(line[line.index(after: line.startIndex)..<end].prefix { $0 != ":" })
            rest = line[line.index(after: end)...].drop { $0 == " " }
        }
        let words = try RuleWords.splitPrinted(rest)
        guard words.count >= 2, words[0] == "-A" else {
            throw .malformedDump(line: number, text: String(line.prefix(200)))
        }
        tables[last].rules.append(
            Rule(chain: words[1], words: Array(words.dropFirst(2)), text: String(rest), packets: packets))
    }

    public subscript(table: Table) -> TableContent? { tables.first { $0.table == table } }

    /// A copy without the rules for which `isExcluded` holds.
    public func without(_ isExcluded: (Rule) -> Bool) -> RuleDump {
        var dump = self
        for index in dump.tables.indices { dump.tables[index].rules.removeAll(where: isExcluded) }
        return dump
    }

    /// The tables that were printed, as lines that can be compared: no counters, no comments, tables by name.
    public var comparable: [String] {
        tables.filter { $0.obstacle == nil }.sorted { $0.name < $1.name }.flatMap { table in
            ["*\(table.name)"] + table.chains.map { ":\($0.name) \($0.policy)" } + table.rules.map(\.text)
        }
    }
}
