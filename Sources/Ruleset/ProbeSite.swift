public import TraceModel

/// A chain that is asked for and gets no probe.
public struct LeftOutChain: Sendable, Hashable {
    /// `table/chain`.
    public var chain: String
    public var reason: String
}

/// Changes for one family and backend of one namespace, worked out from a dump of its rules. Reads and changes nothing.
public struct ProbeSite: Sendable {
    public var family: AddressFamily
    public var backend: Backend
    public var input = RestoreInput()
    /// `RuleDump.comparable` and `NFTablesListing.comparable` without probes, before these ones.
    var before: [String] = []
    var listingBefore: [String] = []
    package var entries: [ProbeJournal.Entry] = []
    package var leftOut: [LeftOutChain] = []
    /// `input` without the probes behind jumps, whose positions hold only while the rules are locked.
    var heads = RestoreInput()
    /// The generation of the dump that it was worked out from.
    var generation: UInt32 = 0

    private var run: String
    private var number: Int
    private(set) var tables: [Table]

    /// - Parameters:
    ///   - number: the namespace's number in LOG prefixes.
    ///   - tables: those that get probes.
    package init(
        _ options: ProbeOptions, run: String, number: Int, family: AddressFamily, backend: Backend, tables: [Table],
        dump: RuleDump?
    ) {
        self.family = family
        self.backend = backend
        self.run = run
        self.number = number
        self.tables = tables
        if let reason = options.obstacle(in: family) {
            leftOut.append(LeftOutChain(chain: "any chain of \(family.name)", reason: reason))
            return
        }
        for table in tables {
            // From the last to the first, and before the heads, so that the numbers of the rules still hold.
            for jump in options.jumps(of: table, in: dump?[table]).reversed() where options.obstacle(inChain: jump.chain) == nil
            {
                let prefix = ProbePrefix(run: run, backend: backend, table: table, chain: jump.chain, backFrom: jump.target)
                    .nflog
                insert(options, table, jump.chain, position: jump.position, prefix)
            }
            for chain in options.chains(of: table, in: dump?[table]) {
                if let reason = options.obstacle(inChain: chain) {
                    leftOut.append(LeftOutChain(chain: "\(table.name)/\(chain)", reason: reason))
                    continue
                }
                let prefix = ProbePrefix(run: run, backend: backend, table: table, chain: chain, namespace: number)
                guard let text = options.target == .nflog ? prefix.nflog : prefix.log else {
                    leftOut.append(
                        LeftOutChain(chain: "\(table.name)/\(chain)", reason: "its name leaves no room for a LOG prefix"))
                    continue
                }
                insert(options, table, chain, position: 0, text)
            }
            leftOut += options.unnamedChains(of: table, in: dump?[table]).map {
                LeftOutChain(chain: "\(table.name)/\($0)", reason: "iptables-restore cannot read its name")
            }
        }
    }

    private mutating func insert(_ options: ProbeOptions, _ table: Table, _ chain: String, position: Int, _ prefix: String) {
        let rule = ProbeRule(
            table: table, chain: chain, position: position, match: options.match(family), target: options.target,
            group: options.group, prefix: prefix, expires: options.expires)
        input.insert(rule)
        if position == 0 { heads.insert(rule) }
        entries.append(ProbeJournal.Entry(table: table.name, chain: chain, prefix: prefix))
    }

    /// This site, planned again for rules that have changed since.
    func replanned(_ options: ProbeOptions, _ dump: RuleDump?) -> ProbeSite {
        var site = ProbeSite(
            options, run: run, number: number, family: family, backend: backend, tables: tables, dump: dump)
        site.before = before
        site.listingBefore = listingBefore
        return site
    }

    /// Replaces the planned probes behind jumps by those that were put in.
    mutating func noteReturns(_ returns: [(table: String, chain: String, prefix: String)]) {
        entries.removeAll { ProbePrefix($0.prefix)?.backFrom != nil }
        entries += returns.map { ProbeJournal.Entry(table: $0.table, chain: $0.chain, prefix: $0.prefix) }
    }

    var record: ProbeJournal.Site {
        ProbeJournal.Site(
            family: family, backend: backend, before: before, listingBefore: listingBefore, probes: entries)
    }
}
