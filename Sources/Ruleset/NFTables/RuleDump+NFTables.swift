internal import TraceModel
internal import WireFormat

extension RuleDump {
    /// Joins what iptables-nft-save printed with nf_tables' own listing: printed rules get their handles, and tables
    /// that were not printed, not to their end, or at another generation, are taken from the listing.
    init(
        _ family: AddressFamily, listing: NFTablesListing, printed: Iptables.Printed, isOneGeneration: Bool
    ) {
        var printed = printed
        var text = RuleDump()
        do {
            text = try RuleDump(parsing: Self.lastTableWithoutBrokenLine(printed))
        } catch {
            printed.complaint = "\(error)"
        }
        let chains = Dictionary(grouping: listing.chains.filter { $0.family == family.rawValue }, by: \.table)
        let rules = Dictionary(grouping: listing.rules.filter { $0.family == family.rawValue }, by: \.table)
        tables = text.tables.filter { $0.table == nil && $0.isComplete }
        for table in Table.iptables {
            let listed = rules[table.name] ?? []
            if isOneGeneration, var content = text[table], content.isComplete, content.takeHandles(listed) {
                tables.append(content)
            } else if let chains = chains[table.name] {
                let obstacle =
                    isOneGeneration
                    ? Self.obstacle(table, printed) : "the rules kept changing while \(printed.tool) printed them"
                tables.append(TableContent(table, chains, listed, obstacle: obstacle))
            }
        }
    }

    /// Why iptables-save did not print a table.
    private static func obstacle(_ table: Table, _ printed: Iptables.Printed) -> String {
        let incompatible = "# Table `\(table.name)' is incompatible"
        if printed.standardOutput.contains(incompatible) {
            return "\(printed.tool): table \(table.name) is incompatible (it holds rules that iptables has no words for)"
        }
        if let complaint = printed.complaint?.split(separator: "\n").first { return "\(printed.tool): \(complaint)" }
        return "\(printed.tool) does not print table \(table.name) as nf_tables lists it"
    }

    /// A program that gave up in the middle may have printed half a line.
    private static func lastTableWithoutBrokenLine(_ printed: Iptables.Printed) -> String {
        guard printed.complaint != nil, let end = printed.standardOutput.lastIndex(of: "\n") else {
            return printed.standardOutput
        }
        return String(printed.standardOutput[...end])
    }
}

extension RuleDump.TableContent {
    /// Gives each printed rule the handle of the listed one at its place.
    ///
    /// - Returns: false where the two do not have the same number of rules in each chain.
    mutating func takeHandles(_ listed: [RuleMessage]) -> Bool {
        var handles: [String: ArraySlice<UInt64>] = Dictionary(grouping: listed, by: \.chain).mapValues {
            ArraySlice($0.map(\.handle))
        }
        for index in rules.indices {
            guard let handle = handles[rules[index].chain]?.popFirst() else { return false }
            rules[index].handle = handle
        }
        return handles.values.allSatisfy(\.isEmpty)
    }

    /// A table as nf_tables lists it: which chains and jumps there are, and which rules report packets. Of the other rules it is
    /// known that they are there.
    init(_ table: Table, _ chains: [ChainMessage], _ rules: [RuleMessage], obstacle: String) {
        self.init(table: table, name: table.name)
        self.obstacle = obstacle
        isComplete = true
        self.chains = chains.map { chain in
            RuleDump.Chain(
                name: chain.name, policy: chain.hook == nil ? "-" : chain.policy == 0 ? "DROP" : "ACCEPT")
        }
        self.rules = rules.map(RuleDump.Rule.init)
    }
}

extension RuleDump.Rule {
    /// A listed rule without its conditions.
    init(_ rule: RuleMessage) {
        var words: [String] = []
        // iptables' own word for what needs connection tracking.
        let needsConntrack: Set<String> = ["ct", "nat", "masq", "redir", "connlimit", "tproxy", "synproxy"]
        if rule.expressions.contains(where: needsConntrack.contains) { words += ["-m", "conntrack"] }
        if rule.isOnlyLogging, let log = rule.log {
            if let group = log.group {
                words += ["-j", "NFLOG", "--nflog-prefix", log.prefix, "--nflog-group", String(group)]
            } else {
                words += ["-j", "LOG", "--log-prefix", log.prefix]
            }
        } else if let verdict = rule.verdict, let chain = verdict.chain {
            words += [verdict.code == RuleMessage.Verdict.goto ? "-g" : "-j", chain]
        }
        self.init(
            chain: rule.chain, words: words, text: rule.summary, packets: rule.packets, handle: rule.handle)
    }
}
