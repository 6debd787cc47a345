public import LinuxSupport
private import TraceModel

/// Takes our probes out, and nothing else. The caller holds `ProbeLock`.
public struct ProbeRemover: Sendable {
    private let iptables: Iptables

    /// Probes in nf_tables go without any program too.
    public init() async throws { iptables = await Iptables.installed() }

    init(iptables: Iptables) { self.iptables = iptables }

    /// Whose probes are taken out.
    public enum Selection: Sendable {
        case all
        case only(Set<String>)

        func includes(_ run: String) -> Bool {
            switch self {
            case .all: true
            case .only(let runs): runs.contains(run)
            }
        }
    }

    /// What happened in one namespace.
    public struct Report: Sendable {
        public var namespace: String
        public var removed = 0
        /// Lines that the removal itself changed beside our probes: must be none.
        public var damage: [String] = []
        /// Lines in which the rules differ from before the installation: what others changed meanwhile.
        public var drift: [String] = []
        /// Tables that the legacy backend keeps, empty, once it has been asked for them.
        public var emptyTables: [String] = []
        /// Tables that iptables-save did not print, with the reason; they were compared by nf_tables' own listing.
        public var unprinted: [String] = []
        /// Runs whose probes were found and that no journal tells of, so that there are no rules from before to compare with.
        public var unrecorded: Set<String> = []
        /// Whether a journal has the rules from before the probes.
        public var isRecorded = false
        /// Rules of others that changed while the probes were taken out.
        public var changedMeanwhile = false
    }

    /// Takes the probes that `selection` names out of `namespaces`, drops the chains and tables that came with
    /// them, and compares with the rules before.
    ///
    /// The rules themselves tell which are ours, so that it works without a journal too; with one, what iptables-nft
    /// created for them goes as well. The journal changes last: whatever ends this process before, the next one goes on.
    public func remove(from namespaces: [NetworkNamespace], _ selection: Selection = .all) async throws -> [Report] {
        ProbeJournal.eraseDrafts()
        var journals = ProbeJournal.readAll().filter { selection.includes($0.run) }
        for index in journals.indices {
            do {
                // Whoever collects meanwhile learns of it before the first probe falls silent.
                try journals[index].mark(.removing, in: namespaces)
            } catch {
                // On a full disk the probes go all the same; the collector sees the rules change.
                continue
            }
        }
        // Every namespace gets its turn, whatever goes wrong in another.
        let results = try await concurrently(namespaces) { [journals] namespace in
            do {
                return Result<Report, any Error>.success(try await removePlace(namespace, selection, journals))
            } catch let error as RulesetError {
                return .failure(error)
            } catch {
                return .failure(RulesetError.stillThere(namespace: namespace.name, message: "\(error)"))
            }
        }
        var cleared: [NetworkNamespace] = []
        var failed: [NetworkNamespace] = []
        var reports: [Report] = []
        var failures: [any Error] = []
        for (namespace, result) in zip(namespaces, results) {
            switch result {
            case .success(let report):
                reports.append(report)
                cleared.append(namespace)
            case .failure(let error):
                failures.append(error)
                failed.append(namespace)
            }
        }
        let present = try? NamespaceDirectory.resolve([.all])
        for index in journals.indices {
            try journals[index].mark(.installed, in: failed)
            try journals[index].forget(cleared, present: present)
        }
        if failures.count == 1 { throw failures[0] }
        for case RulesetError.permission(let what) in failures { throw RulesetError.permission(what) }
        guard failures.isEmpty else { throw RulesetError.notAllRemoved(failures.map { "\($0)" }) }
        return reports
    }

    private func removePlace(
        _ namespace: NetworkNamespace, _ selection: Selection, _ journals: [ProbeJournal]
    ) async throws -> Report {
        var report = Report(namespace: namespace.name)
        let records = journals.compactMap { journal in journal.place(in: namespace).map { (run: journal.run, place: $0) } }
        let recorded = Set(records.map(\.run))
        report.isRecorded = !records.isEmpty
        if try hasNFTables(namespace, records.map(\.place)) {
            try await removeFromNFTables(namespace, selection, records.map(\.place), recorded, &report)
        }
        if iptables.backends.contains(.legacy) {
            for family in AddressFamily.allCases {
                try await removeFromLegacy(family, namespace, selection, records.first?.place, recorded, &report)
            }
        } else {
            try checkLegacyIsClear(namespace, records.map(\.place))
        }
        return report
    }

    // MARK: nf_tables

    /// Whether there are rules of nf_tables to look through. Where iptables-nft is not installed, the kernel may have none.
    private func hasNFTables(_ namespace: NetworkNamespace, _ records: [ProbeJournal.Place]) throws -> Bool {
        if iptables.backends.contains(.nft) || records.contains(where: { !$0.entries(.nft).isEmpty }) { return true }
        do {
            _ = try NFTablesListing.generation(in: namespace)
            return true
        } catch let error as NetlinkError where error.isUnsupported {
            return false
        }
    }

    private func removeFromNFTables(
        _ namespace: NetworkNamespace, _ selection: Selection, _ records: [ProbeJournal.Place], _ recorded: Set<String>,
        _ report: inout Report
    ) async throws {
        let (before, after) = try await clearNFTables(namespace, selection, records, recorded, &report)
        report.changedMeanwhile = after.listing.generation != before.listing.generation &+ before.commits
        let record = records.first
        for family in AddressFamily.allCases {
            let name = "\(namespace.name) \(family.name)"
            let users = record?.chainsBefore ?? []
            let now = after.listing.comparable(family, users: users)
            if !report.changedMeanwhile {
                report.damage += difference(from: before.listing.comparable(family, users: users), to: now, name)
            }
            let dump = after.dumps[family]
            for table in dump?.tables ?? [] where table.obstacle != nil {
                report.unprinted.append("\(name) \(table.name): \(table.obstacle ?? "")")
            }
            let text = dump?.without { $0.ownPrefix != nil }
            if !report.changedMeanwhile, let during = before.dumps[family] {
                let printed = during.without { $0.ownPrefix != nil }
                // A table that iptables-save prints only without the probes has been compared by its listing.
                let unprinted = Set((during.tables + (dump?.tables ?? [])).filter { $0.obstacle != nil }.map(\.name))
                report.damage += difference(
                    from: printed.withoutPristineTables.comparable.lines(ofTablesExcept: unprinted),
                    to: (text ?? RuleDump()).withoutPristineTables.comparable.lines(ofTablesExcept: unprinted), name)
            }
            guard let site = record?.sites.first(where: { $0.family == family && $0.backend == .nft }) else { continue }
            // Where a table is not printed, then or now, nf_tables' listing is compared instead of iptables' words.
            let unprinted = Set(dump?.tables.filter { $0.obstacle != nil }.map(\.name) ?? [])
                .union(site.tablesListedOnly)
            report.drift += difference(
                from: site.before.lines(ofTablesExcept: unprinted),
                to: (text?.comparable ?? []).lines(ofTablesExcept: unprinted), name)
            for table in unprinted.sorted() {
                report.drift += difference(
                    from: site.listingBefore.filter { $0.hasPrefix("*\(table) ") },
                    to: now.filter { $0.hasPrefix("*\(table) ") },
                    name)
            }
        }
    }

    /// The rules of one moment.
    private struct Moment {
        var listing: NFTablesListing
        var dumps: [AddressFamily: RuleDump] = [:]
        /// Transactions that were committed since.
        var commits: UInt32 = 0
    }

    private func read(_ namespace: NetworkNamespace) async throws -> Moment {
        var moment = Moment(listing: try NFTablesListing.read(in: namespace))
        for family in AddressFamily.allCases {
            guard let reading = try await iptables.saveNFTables(family, in: namespace, known: moment.listing) else { continue }
            moment.dumps[family] = reading.dump
            moment.listing = reading.listing
        }
        return moment
    }

    /// Takes everything out, again where the rules changed in between.
    private func clearNFTables(
        _ namespace: NetworkNamespace, _ selection: Selection, _ records: [ProbeJournal.Place], _ recorded: Set<String>,
        _ report: inout Report
    ) async throws -> (before: Moment, after: Moment) {
        func hasProbes(_ moment: Moment) -> Bool {
            moment.listing.rules.contains { $0.ownPrefix.map { selection.includes($0.run) } == true }
        }
        var before = try await read(namespace)
        for attempt in 0..<Self.mostAttempts {
            var listing = before.listing
            // The listing read for the comparison may be old by now.
            if try attempt > 0 || NFTablesListing.generation(in: namespace) != listing.generation {
                listing = try NFTablesListing.read(in: namespace)
            }
            var removal = NFTablesRemoval(
                listing, record: records.first.map { NFTablesRemoval.Record($0, all: records) }, runs: selection.includes)
            let probes = listing.rules.filter { $0.ownPrefix.map { selection.includes($0.run) } == true }
            report.unrecorded.formUnion(Set(probes.compactMap { $0.ownPrefix?.run }).subtracting(recorded))
            guard !removal.isEmpty else {
                let after = try await read(namespace)
                if hasProbes(after) { continue }
                return (before, after)
            }
            // A message that is too long is refused where the send buffer may not be made larger.
            let isPart = removal.rules.count > Self.mostRules
            if isPart { removal = removal.prefix(Self.mostRules) }
            let sentinels = listing.rules.count { rule in
                removal.ownTables.contains(rule.chainKey.nfTable)
            }
            guard try removal.commit(generation: listing.generation, in: namespace) else { continue }
            before.commits += 1
            report.removed += removal.rules.count + sentinels
            if isPart { continue }
            let after = try await read(namespace)
            // Somebody may have put back rules that were saved with the probes.
            if !hasProbes(after) { return (before, after) }
        }
        throw RulesetError.keepsChanging(namespace: namespace.name)
    }

    private static let mostAttempts = 100
    private static let mostRules = 1500

    // MARK: x_tables

    private func removeFromLegacy(
        _ family: AddressFamily, _ namespace: NetworkNamespace, _ selection: Selection, _ record: ProbeJournal.Place?,
        _ recorded: Set<String>, _ report: inout Report
    ) async throws {
        let site = record?.sites.first { $0.family == family && $0.backend == .legacy }
        let moments = try await XtablesLock.whileHeld { () -> (RuleDump, RuleDump, Int)? in
            guard let dump = try await iptables.save(family, .legacy, in: namespace) else { return nil }
            var input = RestoreInput()
            var count = 0
            // From the first table that a packet passes to the last, so that a packet on its way meets a gap, not an end.
            for content in dump.tables.sorted(by: { ($0.table?.rawValue ?? 9) < ($1.table?.rawValue ?? 9) }) {
                guard let table = content.table else { continue }
                for rule in content.rules where isOurs(rule, selection) {
                    input.delete(rule, from: table)
                    count += 1
                }
            }
            guard count > 0 else { return (dump, dump, 0) }
            do {
                try await iptables.restore(input, family, .legacy, in: namespace)
            } catch NamespaceError.toolFailed(_, _, let message) {
                throw RulesetError.stillThere(namespace: namespace.name, message: message)
            }
            return (dump, try await iptables.save(family, .legacy, in: namespace) ?? RuleDump(), count)
        }
        let left =
            moments?.1.tables.flatMap(\.rules).filter { $0.ownPrefix.map { selection.includes($0.run) } == true } ?? []
        if let first = left.first {
            throw RulesetError.stillThere(
                namespace: namespace.name,
                message: "\(Iptables.tool(family, .legacy, "restore")) left \(left.count) of them, such as \(first.text)")
        }
        let name = "\(namespace.name) \(family.name)"
        guard let (during, afterwards, count) = moments else {
            if let site { report.drift += difference(from: site.before, to: [], name) }
            return
        }
        report.removed += count
        let runs = during.tables.flatMap(\.rules).compactMap(\.ownPrefix?.run).filter(selection.includes)
        report.unrecorded.formUnion(Set(runs).subtracting(recorded))
        let before = during.without { $0.ownPrefix != nil }
        let after = afterwards.without { $0.ownPrefix != nil }
        report.damage += difference(
            from: before.withoutPristineTables.comparable, to: after.withoutPristineTables.comparable, name)
        guard let site else { return }
        var comparable = after
        comparable.tables.removeAll { table in
            let isNew = table.isPristine && !site.before.contains("*\(table.name)")
            if isNew { report.emptyTables.append("\(family.name) \(table.name)") }
            return isNew
        }
        report.drift += difference(from: site.before, to: comparable.comparable, name)
    }

    /// Where iptables-legacy is not installed, its probes cannot be taken out.
    private func checkLegacyIsClear(_ namespace: NetworkNamespace, _ records: [ProbeJournal.Place]) throws {
        let isRecorded = records.contains { !$0.entries(.legacy).isEmpty }
        guard try isRecorded && iptables.hasLegacyTables(in: namespace) || LegacyTable.hasProbes(in: namespace) else { return }
        throw RulesetError.stillThere(
            namespace: namespace.name, message: "\(NamespaceError.toolMissing(Iptables.tool(.ipv4, .legacy, "restore")))")
    }

    /// Whether a rule has our prefix, and says nothing that we never write: a rule that is fed back to iptables-restore is not somebody
    /// else's text.
    private func isOurs(_ rule: RuleDump.Rule, _ selection: Selection) -> Bool {
        guard let prefix = rule.ownPrefix, selection.includes(prefix.run) else { return false }
        let foreign: Set<String> = ["-M", "--modprobe", "-t", "--table", "-c", "--set-counters"]
        return !rule.words.contains { foreign.contains($0) }
    }

    /// Lines that are only in one of the two, as a diff shows them.
    private func difference(from old: [String], to new: [String], _ name: String) -> [String] {
        guard old != new else { return [] }
        return new.difference(from: old).map { change in
            switch change {
            case .insert(_, let line, _): "\(name): + \(line)"
            case .remove(_, let line, _): "\(name): - \(line)"
            }
        }
    }
}

extension ProbeJournal {
    /// Records the progress in those of `namespaces` that the run has probes in. The file changes only if one is.
    mutating func mark(_ progress: Progress, in namespaces: [NetworkNamespace]) throws(RulesetError) {
        var isChanged = false
        for index in places.indices where namespaces.contains(where: { $0.isSame(places[index]) }) {
            isChanged = isChanged || places[index].progress != progress
            places[index].progress = progress
        }
        if isChanged { try write() }
    }

    /// Strikes out the places of `cleared`, and those of namespaces that are gone with their rules. The file goes with the last place.
    ///
    /// - Parameter present: all namespaces of the machine; `nil` where they cannot be listed.
    mutating func forget(_ cleared: [NetworkNamespace], present: [NetworkNamespace]?) throws(RulesetError) {
        let count = places.count
        places.removeAll { place in
            if cleared.contains(where: { $0.isSame(place) }) { return true }
            // A namespace that was given as a path may have no name and no process.
            guard let present, !place.name.contains("/") else { return false }
            return !present.contains { $0.isSame(place) }
        }
        if places.isEmpty {
            try erase()
        } else if places.count != count {
            try write()
        }
    }
}

extension NetworkNamespace {
    fileprivate func isSame(_ place: ProbeJournal.Place) -> Bool { isSame(inode: place.inode, identity: place.identity) }
}

extension ProbeJournal.Site {
    /// Tables that nf_tables listed and iptables-save did not print when the probes were installed.
    fileprivate var tablesListedOnly: Set<String> {
        let listed = listingBefore.compactMap { $0.dropFirst().split(separator: " ").first.map(String.init) }
        return Set(listed).filter { !before.contains("*\($0)") }
    }
}

extension NFTablesRemoval.Record {
    fileprivate init(_ first: ProbeJournal.Place, all: [ProbeJournal.Place]) {
        let tables = Set(
            all.flatMap(\.sites).filter { $0.backend == .nft }.flatMap { site in
                site.probes.map { NFTable(family: site.family.rawValue, name: $0.table) }
            })
        self.init(chainsBefore: first.chainsBefore, tablesBefore: first.tablesBefore, tables: tables)
    }
}

extension NFTablesRemoval {
    /// The first `count` rules alone.
    fileprivate func prefix(_ count: Int) -> NFTablesRemoval {
        var part = self
        part.rules = Array(rules.prefix(count))
        part.ownTables = []
        part.emptyChains = []
        part.emptyTables = []
        return part
    }
}

extension [String] {
    /// The lines of `RuleDump.comparable` without those of some tables.
    fileprivate func lines(ofTablesExcept names: Set<String>) -> [String] {
        var isLeftOut = false
        return filter { line in
            if line.hasPrefix("*") { isLeftOut = names.contains(String(line.dropFirst())) }
            return !isLeftOut
        }
    }
}

extension RuleDump {
    var withoutPristineTables: RuleDump {
        var dump = self
        dump.tables.removeAll(where: \.isPristine)
        return dump
    }
}
