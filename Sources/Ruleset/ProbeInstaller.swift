private import Foundation
public import LinuxSupport
internal import TraceModel
private import WireFormat

/// Puts probes into namespaces: everywhere or nowhere. The caller holds `ProbeLock`.
public struct ProbeInstaller: Sendable {
    private let iptables: Iptables

    public struct Place: Sendable {
        public var number: Int
        public var namespace: NetworkNamespace
        public var sites: [ProbeSite]
        var sentinels: [SentinelTable] = []
        /// Chains that get no probe because their name leaves no room for a LOG prefix.
        public var leftOut: [LeftOutChain] = []
        /// nf_tables chains and tables of the user's.
        var chainsBefore: Set<NFChain> = []
        var tablesBefore: Set<NFTable> = []
        /// Standing runs whose probes are here already, complete or left by a crash. Runs that begin later are not touched.
        var earlierRuns: Set<String> = []

        /// The programs' input, each with a line that says which.
        public var inputs: [(title: String, text: String)] {
            sites.map { ("\($0.family.name), \($0.backend.rawValue)", $0.input.text) }
                + sentinels.map { ("\($0.family.name), nft -f", $0.text) }
        }
    }

    public struct Plan: Sendable {
        public var run: String
        public var options: ProbeOptions
        public var places: [Place]

        public var probeCount: Int {
            places.reduce(0) {
                $0 + $1.sites.reduce(0) { $0 + $1.entries.count } + $1.sentinels.reduce(0) { $0 + $1.entries.count }
            }
        }
    }

    public init() async throws { iptables = try await Iptables.discover() }

    /// Works out what would be applied, without changing anything.
    public func plan(_ options: ProbeOptions, in namespaces: [NetworkNamespace], purpose: RunName.Purpose = .standing)
        async throws
        -> Plan
    {
        let run = RunName.new(purpose)
        let journals = ProbeJournal.readAll()
        let sentinelMatches = try await sentinelMatches(options)
        let places = try await concurrently(Array(namespaces.enumerated())) { number, namespace in
            try await planPlace(
                options, run: run, number: number, namespace: namespace, journals: journals, sentinelMatches: sentinelMatches)
        }
        let leftOut = places.flatMap(\.leftOut)
        if places.allSatisfy({ $0.sites.isEmpty }), let reason = leftOut.first?.reason {
            throw RulesetError.invalidMatch(options.match.joined(separator: " "), reason: "no chain can have it: \(reason)")
        }
        for chain in options.chains
        where !places.contains(where: { $0.sites.contains { $0.entries.contains { $0.chain == chain } } }) {
            throw RulesetError.unknownChain(chain, tables: options.tables.isEmpty ? Table.iptables : options.tables)
        }
        return Plan(run: run, options: options, places: places)
    }

    /// What would be applied to namespaces with no rules: for those who may not read the rules that there are.
    public func planWithoutRules(_ options: ProbeOptions, in namespaces: [NetworkNamespace]) -> Plan {
        let run = RunName.new(.standing)
        let places = namespaces.enumerated().map { number, namespace in
            var place = Place(number: number, namespace: namespace, sites: [])
            for family in options.families {
                guard let backend = iptables.backends.first else { continue }
                let site = ProbeSite(
                    options, run: run, number: number, family: family, backend: backend,
                    tables: options.tables.isEmpty ? Table.iptables : options.tables, dump: nil)
                place.leftOut += site.leftOut
                if !site.entries.isEmpty { place.sites.append(site) }
            }
            return place
        }
        return Plan(run: run, options: options, places: places)
    }

    private func planPlace(
        _ options: ProbeOptions, run: String, number: Int, namespace: NetworkNamespace, journals: [ProbeJournal],
        sentinelMatches: [AddressFamily: String]
    ) async throws -> Place {
        let records = journals.compactMap { journal in journal.place(in: namespace).map { (journal.run, $0) } }
        var place = Place(number: number, namespace: namespace, sites: [])
        place.earlierRuns = Set(records.map(\.0))
        var listing = NFTablesListing()
        if iptables.backends.contains(.nft) {
            listing = try NFTablesListing.read(in: namespace)
            place.noteWhatWasThere(listing, records: records)
        }
        for family in options.families {
            var dumps: [Backend: RuleDump] = [:]
            for backend in iptables.backends {
                dumps[backend] =
                    backend == .nft
                    ? try await iptables.saveNFTables(family, in: namespace, known: listing)?.dump
                    : try await iptables.save(family, backend, in: namespace)
                for rule in dumps[backend]?.tables.flatMap(\.rules) ?? [] {
                    if let own = rule.ownPrefix { place.earlierRuns.insert(own.run) }
                }
            }
            let users = dumps.mapValues { $0.without { $0.ownPrefix != nil } }
            for backend in iptables.backends {
                let tables = (options.tables.isEmpty ? Table.iptables : options.tables).filter {
                    backends(for: $0, in: users).contains(backend)
                }
                var site = ProbeSite(
                    options, run: run, number: number, family: family, backend: backend, tables: tables, dump: dumps[backend])
                place.leftOut += site.leftOut
                guard !site.entries.isEmpty else { continue }
                site.generation = listing.generation
                if backend == .nft {
                    site.listingBefore = listing.comparable(family, users: place.chainsBefore)
                }
                site.before = before(
                    users[backend], family: family, backend: backend, chainsBefore: place.chainsBefore,
                    earlier: records.flatMap(\.1.sites).filter { $0.family == family && $0.backend == backend })
                place.sites.append(site)
            }
            if let match = sentinelMatches[family] {
                place.sentinels.append(
                    SentinelTable(
                        family: family, run: run, group: options.group, match: options.match, translatedMatch: match,
                        expires: options.expires))
            }
        }
        place.earlierRuns = place.earlierRuns.filter { RunName.purpose(of: $0) == .standing }
        return place
    }

    /// What sentinels match, by family, in nft's words; empty where none are wanted.
    private func sentinelMatches(_ options: ProbeOptions) async throws -> [AddressFamily: String] {
        guard options.includesSentinels else { return [:] }
        guard await Tool.isInstalled("nft") else { throw NamespaceError.toolMissing("nft") }
        var matches: [AddressFamily: String] = [:]
        for family in options.families where options.obstacle(in: family) == nil {
            matches[family] = try await SentinelTable.translate(options.match, family)
        }
        return matches
    }

    /// The backends that hold rules in `table`; where none does, the one that can be cleaned up without a trace.
    private func backends(for table: Table, in dumps: [Backend: RuleDump]) -> [Backend] {
        let holders = iptables.backends.filter { dumps[$0]?[table]?.isPristine == false }
        return holders.isEmpty ? Array(iptables.backends.prefix(1)) : holders
    }

    /// The user's rules as they will have to look afterwards: without tables that only our earlier probes brought.
    private func before(
        _ dump: RuleDump?, family: AddressFamily, backend: Backend, chainsBefore: Set<NFChain>, earlier: [ProbeJournal.Site]
    ) -> [String] {
        guard var dump else { return [] }
        dump.tables.removeAll { table in
            guard table.isPristine else { return false }
            switch backend {
            case .nft: return !chainsBefore.contains { $0.family == family.rawValue && $0.table == table.name }
            case .legacy: return earlier.contains { !$0.before.contains("*\(table.name)") }
            }
        }
        return dump.comparable
    }

    /// Applies `plan`: the journal first, then namespace by namespace, then the probes of earlier installations go. A
    /// failure undoes the changes made so far.
    ///
    /// - Returns: how many probes of earlier installations were replaced.
    public func install(_ plan: Plan, purpose: RunName.Purpose = .standing) async throws -> Int {
        var journal = ProbeJournal(
            run: plan.run, bootID: ProbeJournal.currentBootID, createdAt: Int64(Date().timeIntervalSince1970),
            target: plan.options.target, group: plan.options.group, expires: plan.options.expires,
            matches: Dictionary(uniqueKeysWithValues: plan.options.families.map { ($0, plan.options.match($0)) }),
            places: plan.places.map { place in
                ProbeJournal.Place(
                    number: place.number, name: place.namespace.name, inode: place.namespace.inode,
                    identity: place.namespace.identity, sites: place.sites.map(\.record),
                    sentinels: place.sentinels.map { ProbeJournal.Sentinels(family: $0.family, probes: $0.entries) },
                    progress: .installing, chainsBefore: place.chainsBefore, tablesBefore: place.tablesBefore)
            })
        try journal.write()
        let remover = ProbeRemover(iptables: iptables)
        do {
            let applied = try await concurrently(plan.places) { place in
                var sites: [ProbeSite] = []
                for site in place.sites {
                    try Task.checkCancellation()
                    sites.append(try await apply(site, plan, in: place.namespace))
                }
                for table in place.sentinels {
                    try Task.checkCancellation()
                    try await apply(table, in: place.namespace)
                }
                return sites
            }
            for (index, sites) in applied.enumerated() {
                journal.places[index].sites = sites.map(\.record)
                journal.places[index].progress = .installed
            }
            try journal.write()
        } catch {
            do {
                // In a task of its own: taking back must go on when this one has been cancelled.
                let namespaces = plan.places.map(\.namespace)
                _ = try await Task { try await remover.remove(from: namespaces, .only([plan.run])) }.value
            } catch let rollback {
                if case RulesetError.permission = error { throw error }
                throw RulesetError.notAllRemoved(["\(error)", "and taking back what was done failed: \(rollback)"])
            }
            throw error
        }
        guard purpose == .standing else { return 0 }
        let concerned = plan.places.filter { !$0.earlierRuns.isEmpty }
        guard !concerned.isEmpty else { return 0 }
        let earlier = concerned.reduce(into: Set<String>()) { $0.formUnion($1.earlierRuns) }
        let replaced = try await remover.remove(from: concerned.map(\.namespace), .only(earlier.subtracting([plan.run])))
        return replaced.reduce(0) { $0 + $1.removed }
    }

    // MARK: Applying

    private func apply(_ table: SentinelTable, in namespace: NetworkNamespace) async throws {
        do {
            try await table.install(in: namespace)
        } catch NamespaceError.toolFailed(_, _, let message) {
            try Task.checkCancellation()
            if message.contains("Operation not permitted") {
                throw RulesetError.permission("nft in namespace \(namespace.name)")
            }
            throw RulesetError.refused(
                namespace: namespace.name, tool: "nft", message: message, match: RuleWords.join(table.match))
        }
    }

    /// Applies the rules of one family and backend.
    ///
    /// - Returns: the site as it was applied, which differs from `planned` where the rules changed since they were read.
    private func apply(_ planned: ProbeSite, _ plan: Plan, in namespace: NetworkNamespace) async throws -> ProbeSite {
        switch planned.backend {
        case .legacy:
            // Nobody changes the rules between reading them and committing.
            return try await XtablesLock.whileHeld {
                let dump = try await iptables.save(planned.family, .legacy, in: namespace)
                let site = planned.replanned(plan.options, dump)
                try await restore(site, plan, in: namespace)
                let rules = try await iptables.save(planned.family, .legacy, in: namespace)?.tables.flatMap(\.rules) ?? []
                try confirm(
                    rules.count { $0.ownPrefix?.run == plan.run }, of: site.entries.count, site, plan, in: namespace)
                return site
            }
        case .nft: return try await applyNFTables(planned, plan, in: namespace)
        }
    }

    /// The heads of chains first, by iptables; then the probes behind jumps, each by the handle of its rule, since iptables could
    /// only count positions in rules that others change meanwhile.
    private func applyNFTables(_ planned: ProbeSite, _ plan: Plan, in namespace: NetworkNamespace) async throws -> ProbeSite {
        var site = planned
        for attempt in 0..<Self.mostAttempts {
            do {
                try await restore(site, plan, in: namespace)
                break
            } catch let error as RulesetError {
                // A chain that was read may be gone; where nothing has changed, trying again does not help.
                guard case .refused = error, attempt + 1 < Self.mostAttempts,
                    try NFTablesListing.generation(in: namespace) != site.generation
                else { throw error }
                try await takeBack(site, run: plan.run, in: namespace)
                let reading = try await iptables.saveNFTables(planned.family, in: namespace)
                site = planned.replanned(plan.options, reading?.dump)
                site.generation = try reading?.listing.generation ?? NFTablesListing.generation(in: namespace)
            }
        }
        let listing = try NFTablesListing.read(in: namespace)
        let heads = site.entries.count { ProbePrefix($0.prefix)?.backFrom == nil }
        let found = listing.rules.count { $0.family == site.family.rawValue && $0.ownPrefix?.run == plan.run }
        try confirm(found, of: heads, site, plan, in: namespace)
        guard plan.options.includesUserChains, plan.options.target == .nflog else { return site }
        for _ in 0..<Self.mostAttempts {
            let insertion = NFTablesInsertion(
                try NFTablesListing.read(in: namespace), family: site.family, run: plan.run,
                transport: plan.options.transport, tables: Set(site.tables.map(\.name)),
                isChosen: plan.options.hasProbeBehindJump)
            guard try insertion.commit(in: namespace) else { continue }
            site.noteReturns(insertion.rules.map { (table: $0.chain.table, chain: $0.chain.name, prefix: $0.prefix) })
            return site
        }
        throw RulesetError.keepsChanging(namespace: namespace.name)
    }

    /// A program that ends with 0 need not have done anything, and others may have flushed the rules at once.
    private func confirm(
        _ found: Int, of expected: Int, _ site: ProbeSite, _ plan: Plan, in namespace: NetworkNamespace
    ) throws(RulesetError) {
        guard found < expected else { return }
        throw .refused(
            namespace: namespace.name, tool: Iptables.tool(site.family, site.backend, "restore"),
            message: "it reported success, but \(expected - found) of \(expected) probes are not among the rules",
            match: RuleWords.join(plan.options.match))
    }

    private static let mostAttempts = 20

    /// Takes out the rules that one attempt has put in; the chains stay for the next.
    private func takeBack(_ site: ProbeSite, run: String, in namespace: NetworkNamespace) async throws {
        for _ in 0..<Self.mostAttempts {
            let listing = try NFTablesListing.read(in: namespace)
            var removal = NFTablesRemoval(listing, record: nil) { $0 == run }
            removal.rules.removeAll { $0.chain.family != site.family.rawValue }
            removal.ownTables = []
            removal.emptyChains = []
            removal.emptyTables = []
            if try removal.commit(generation: listing.generation, in: namespace) { return }
        }
        throw RulesetError.keepsChanging(namespace: namespace.name)
    }

    private func restore(_ site: ProbeSite, _ plan: Plan, in namespace: NetworkNamespace) async throws {
        do {
            try await iptables.restore(
                site.backend == .nft ? site.heads : site.input, site.family, site.backend, in: namespace)
        } catch NamespaceError.toolFailed(let command, let status, let message) {
            // A program that a signal ended was ended together with this process.
            try Task.checkCancellation()
            let tool = String(command.prefix { $0 != " " })
            if message.contains("Permission denied") || message.contains("must be root") {
                throw RulesetError.permission("\(tool) in namespace \(namespace.name)")
            }
            throw RulesetError.refused(
                namespace: namespace.name, tool: tool, message: message.isEmpty ? status : message,
                match: RuleWords.join(plan.options.match))
        }
    }
}

extension ProbeInstaller.Place {
    /// Takes in which chains and tables are the user's. What came with an earlier installation is not; without a record of it, a
    /// chain that holds its probes alone is taken for its own.
    mutating func noteWhatWasThere(_ listing: NFTablesListing, records: [(run: String, place: ProbeJournal.Place)]) {
        chainsBefore = Set(listing.chains.map(\.key).filter { $0.nfTable.iptables != nil })
        tablesBefore = listing.tables.filter { $0.iptables != nil }
        for (_, older) in records {
            chainsBefore.formIntersection(older.chainsBefore)
            tablesBefore.formIntersection(older.tablesBefore)
        }
        let recorded = Set(records.map(\.run))
        let removal = NFTablesRemoval(listing, record: nil) { !recorded.contains($0) }
        chainsBefore.subtract(removal.emptyChains)
        tablesBefore.subtract(removal.emptyTables)
        earlierRuns.formUnion(SentinelTable.present(in: listing.tables).map(\.run))
    }
}

/// Runs `body` for each of `items`, a few at a time, and gives the results in order. The first error is thrown once all
/// that were started have ended; no further ones are started after it.
@discardableResult
func concurrently<Item: Sendable, Result: Sendable>(
    _ items: [Item], width: Int = 4, _ body: @escaping @Sendable (Item) async throws -> Result
) async throws -> [Result] {
    try await withThrowingTaskGroup(of: (Int, Result).self) { group in
        var results = [Result?](repeating: nil, count: items.count)
        var next = 0
        func start() {
            guard next < items.count else { return }
            let index = next
            next += 1
            group.addTask { (index, try await body(items[index])) }
        }
        for _ in 0..<width { start() }
        var failure: (any Error)?
        while let outcome = await group.nextResult() {
            switch outcome {
            case .success(let (index, result)):
                results[index] = result
                if failure == nil { start() }
            case .failure(let error):
                failure = failure ?? error
            }
        }
        if let failure { throw failure }
        return results.compactMap { $0 }
    }
}
