private import Foundation
public import Namespaces
public import TraceModel

/// Puts probes into namespaces: everywhere or nowhere.
public struct ProbeInstaller: Sendable {
    private let iptables: Iptables

    /// What is to be applied to one family and backend of one namespace.
    public struct Site: Sendable {
        public var family: AddressFamily
        public var backend: Backend
        public var input: RestoreInput
        var before: [String]
        var entries: [ProbeJournal.Entry]
    }

    public struct Place: Sendable {
        public var number: Int
        public var namespace: NetworkNamespace
        public var sites: [Site]
        var sentinels: [SentinelTable] = []
        /// Chains that get no probe because their name leaves no room for a LOG prefix.
        public var leftOut: [String]
        var chainsBefore: Set<TableCleanup.Chain>
        /// Whether there are standing probes of earlier installations, or a journal says that there were.
        var hasEarlier = false

        /// What the programs will read, each with a line that says which.
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

    /// What the probes are for: those that stand until they are taken out or expire are replaced by the next
    /// installation; those of one `trace` are not.
    public enum Purpose: Sendable {
        case standing, trace
        var runPrefix: String { self == .trace ? "t" : "" }
    }

    public init() async throws { iptables = try await Iptables.discover() }

    /// Works out what would be applied, without changing anything.
    public func plan(_ options: ProbeOptions, in namespaces: [NetworkNamespace], purpose: Purpose = .standing) async throws
        -> Plan
    {
        let run = String((purpose.runPrefix + ProbeJournal.newRun()).prefix(6))
        let journals = ProbeJournal.readAll()
        let sentinelMatches = try await sentinelMatches(options)
        let places = try await concurrently(Array(namespaces.enumerated())) { number, namespace in
            try await planPlace(
                options, run: run, number: number, namespace: namespace, journals: journals, sentinelMatches: sentinelMatches)
        }
        for chain in options.chains
        where !places.contains(where: { $0.sites.contains { $0.entries.contains { $0.chain == chain } } }) {
            throw RulesetError.unknownChain(chain, tables: options.tables.isEmpty ? Table.iptables : options.tables)
        }
        return Plan(run: run, options: options, places: places)
    }

    private func planPlace(
        _ options: ProbeOptions, run: String, number: Int, namespace: NetworkNamespace, journals: [ProbeJournal],
        sentinelMatches: [AddressFamily: String]
    ) async throws -> Place {
        let earlier = journals.compactMap { $0.places.first { namespace.isSame(inode: $0.inode, identity: $0.identity) } }
        var place = Place(number: number, namespace: namespace, sites: [], leftOut: [], chainsBefore: [])
        place.hasEarlier = !earlier.isEmpty
        var inUse: Set<UInt8> = []
        if iptables.backends.contains(.nft) {
            place.chainsBefore = try TableCleanup.chains(in: namespace)
            inUse = Set(place.chainsBefore.map(\.family))
            place.hasEarlier = try place.hasEarlier || !SentinelTable.present(in: namespace).isEmpty
            // What came with an earlier installation is not the user's.
            for older in earlier { place.chainsBefore.formIntersection(older.chainsBefore) }
        }
        for family in options.families {
            var dumps: [Backend: RuleDump] = [:]
            for backend in iptables.backends {
                // Without a chain there is no rule, and no program has to be started to say so.
                guard backend != .nft || inUse.contains(family.rawValue) else { continue }
                dumps[backend] = try await iptables.save(family, backend, in: namespace)
            }
            if dumps.values.contains(where: { $0.tables.contains { $0.rules.contains { $0.ownPrefix != nil } } }) {
                place.hasEarlier = true
            }
            let users = dumps.mapValues { $0.without { $0.ownPrefix != nil } }
            for backend in iptables.backends {
                var site = Site(family: family, backend: backend, input: RestoreInput(), before: [], entries: [])
                for table in options.tables.isEmpty ? Table.iptables : options.tables
                where backends(for: table, in: users).contains(backend) {
                    // From the last to the first, and before the heads, so that the numbers of the rules still hold.
                    for jump in options.jumps(of: table, in: dumps[backend]?[table]).reversed() {
                        let prefix = ProbePrefix(
                            run: backend == .legacy ? run + "L" : run, table: table, chain: jump.chain, backFrom: jump.target
                        ).nflog
                        site.input.insert(
                            ProbeRule(
                                table: table, chain: jump.chain, position: jump.position, match: options.match(family),
                                target: options.target, group: options.group, prefix: prefix, expires: options.expires))
                        site.entries.append(ProbeJournal.Entry(table: table.name, chain: jump.chain, prefix: prefix))
                    }
                    for chain in options.chains(of: table, in: users[backend]?[table]) {
                        let prefix = ProbePrefix(
                            run: backend == .legacy ? run + "L" : run, table: table, chain: chain, namespace: number)
                        guard let text = options.target == .nflog ? prefix.nflog : prefix.log else {
                            place.leftOut.append("\(table.name)/\(chain)")
                            continue
                        }
                        site.input.insert(
                            ProbeRule(
                                table: table, chain: chain, match: options.match(family), target: options.target,
                                group: options.group, prefix: text, expires: options.expires))
                        site.entries.append(ProbeJournal.Entry(table: table.name, chain: chain, prefix: text))
                    }
                }
                guard !site.entries.isEmpty else { continue }
                site.before = before(
                    users[backend], family: family, backend: backend, chainsBefore: place.chainsBefore,
                    earlier: earlier.flatMap(\.sites).filter { $0.family == family && $0.backend == backend })
                place.sites.append(site)
            }
            if let match = sentinelMatches[family] {
                place.sentinels.append(
                    SentinelTable(
                        family: family, run: run, group: options.group, match: options.match, translatedMatch: match,
                        expires: options.expires))
            }
        }
        return place
    }

    /// What sentinels match, by family, in nft's words; empty where none are wanted.
    private func sentinelMatches(_ options: ProbeOptions) async throws -> [AddressFamily: String] {
        guard options.includesSentinels else { return [:] }
        guard await Tool.isInstalled("nft") else { throw NamespaceError.toolMissing("nft") }
        var matches: [AddressFamily: String] = [:]
        for family in options.families { matches[family] = try await SentinelTable.translate(options.match, family) }
        return matches
    }

    /// The backends that hold rules in `table`; where none does, the one that can be cleaned up without a trace.
    private func backends(for table: Table, in dumps: [Backend: RuleDump]) -> [Backend] {
        let holders = iptables.backends.filter { dumps[$0]?[table]?.isPristine == false }
        return holders.isEmpty ? Array(iptables.backends.prefix(1)) : holders
    }

    /// The user's rules as they will have to look afterwards: without tables that only our earlier probes brought.
    private func before(
        _ dump: RuleDump?, family: AddressFamily, backend: Backend, chainsBefore: Set<TableCleanup.Chain>,
        earlier: [ProbeJournal.Site]
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
    /// failure takes back what was done.
    ///
    /// - Returns: how many probes of earlier installations were replaced.
    public func install(_ plan: Plan, purpose: Purpose = .standing) async throws -> Int {
        let journal = ProbeJournal(
            run: plan.run, bootID: ProbeJournal.currentBootID, createdAt: Int64(Date().timeIntervalSince1970),
            target: plan.options.target, group: plan.options.group, expires: plan.options.expires,
            places: plan.places.map { place in
                ProbeJournal.Place(
                    number: place.number, name: place.namespace.name, inode: place.namespace.inode,
                    identity: place.namespace.identity,
                    sites: place.sites.map {
                        ProbeJournal.Site(family: $0.family, backend: $0.backend, before: $0.before, probes: $0.entries)
                    }, sentinels: place.sentinels.map { ProbeJournal.Sentinels(family: $0.family, probes: $0.entries) },
                    chainsBefore: place.chainsBefore)
            })
        try journal.write()
        let remover = ProbeRemover(iptables: iptables)
        let namespaces = plan.places.map(\.namespace)
        do {
            try await concurrently(plan.places) { place in
                for site in place.sites {
                    try Task.checkCancellation()
                    try await apply(site, in: place.namespace, match: plan.options.match)
                }
                for table in place.sentinels {
                    try Task.checkCancellation()
                    try await apply(table, in: place.namespace)
                }
            }
        } catch {
            do {
                // In a task of its own: taking back must go on when this one has been cancelled.
                _ = try await Task { try await remover.remove(from: namespaces, runs: { $0 == plan.run }) }.value
            } catch let rollback {
                if case RulesetError.permission = error { throw error }
                throw RulesetError.notAllRemoved(["\(error)", "and taking back what was done failed: \(rollback)"])
            }
            throw error
        }
        guard purpose == .standing else { return 0 }
        // Who installs at the same time has a journal by now.
        let journals = ProbeJournal.readAll().filter { $0.run != plan.run }
        let concerned = plan.places.filter { place in
            place.hasEarlier
                || journals.contains {
                    $0.places.contains { place.namespace.isSame(inode: $0.inode, identity: $0.identity) }
                }
        }
        let replaced = try await remover.remove(
            from: concerned.map(\.namespace), runs: { $0 != plan.run && !$0.hasPrefix("t") })
        return replaced.reduce(0) { $0 + $1.removed }
    }

    private func apply(_ table: SentinelTable, in namespace: NetworkNamespace) async throws {
        do {
            try await table.install(in: namespace)
        } catch NamespaceError.toolFailed(_, _, let message) {
            if message.contains("Operation not permitted") {
                throw RulesetError.permission("nft in namespace \(namespace.name)")
            }
            throw RulesetError.refused(
                namespace: namespace.name, tool: "nft", message: message, match: RuleWords.join(table.match))
        }
    }

    private func apply(_ site: Site, in namespace: NetworkNamespace, match: [String]) async throws {
        do {
            try await iptables.restore(site.input, site.family, site.backend, in: namespace)
        } catch NamespaceError.toolFailed(let command, _, let message) {
            let tool = String(command.prefix { $0 != " " })
            if message.contains("Permission denied") || message.contains("must be root") {
                throw RulesetError.permission("\(tool) in namespace \(namespace.name)")
            }
            throw RulesetError.refused(
                namespace: namespace.name, tool: tool, message: message, match: RuleWords.join(match))
        }
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
