public import Namespaces
private import TraceModel

/// Takes our probes out, and nothing else.
public struct ProbeRemover: Sendable {
    private let iptables: Iptables

    public init() async throws { iptables = try await Iptables.discover() }

    init(iptables: Iptables) { self.iptables = iptables }

    /// What happened in one namespace.
    public struct Report: Sendable {
        public var namespace: String
        public var removed: Int
        /// Lines that the removal itself changed beside our probes: must be none.
        public var damage: [String]
        /// Lines in which the rules differ from before the installation: what others changed meanwhile.
        public var drift: [String]
        /// Tables that the legacy backend keeps, empty, once it has been asked for them.
        public var emptyTables: [String]
    }

    /// Takes the probes of the runs that `runs` accepts out of `namespaces`, drops the chains and tables that came with
    /// them, and compares with the rules before.
    ///
    /// The rules themselves tell which are ours, so that it works without a journal too; with one, what iptables-nft
    /// created for them goes as well.
    public func remove(
        from namespaces: [NetworkNamespace], runs: @escaping @Sendable (String) -> Bool = { _ in true }
    ) async throws -> [Report] {
        let journals = ProbeJournal.readAll().filter { runs($0.run) }
        // Whoever collects meanwhile learns of it before the first probe falls silent.
        for var journal in journals where !journal.isBeingRemoved {
            journal.removing = true
            try? journal.write()
        }
        // Every namespace gets its turn, whatever goes wrong in another.
        let results = try await concurrently(namespaces) { namespace in
            do {
                return Result<Report, any Error>.success(
                    try await removePlace(namespace, runs: runs, journals: journals))
            } catch let error as RulesetError {
                return .failure(error)
            } catch {
                return .failure(RulesetError.stillThere(namespace: namespace.name, message: "\(error)"))
            }
        }
        var failures: [any Error] = []
        for case .failure(let error) in results { failures.append(error) }
        if failures.count == 1 { throw failures[0] }
        for case RulesetError.permission(let what) in failures { throw RulesetError.permission(what) }
        guard failures.isEmpty else { throw RulesetError.notAllRemoved(failures.map { "\($0)" }) }
        let reports = results.compactMap { try? $0.get() }
        // A namespace that is gone took its rules along; a journal whose namespaces are all done has nothing left to say.
        let done = Set(namespaces.map(\.inode))
        for journal in journals where journal.places.allSatisfy({ done.contains($0.inode) || !isPresent($0) }) {
            journal.erase()
        }
        return reports
    }

    private func removePlace(
        _ namespace: NetworkNamespace, runs: @Sendable (String) -> Bool, journals: [ProbeJournal]
    ) async throws -> Report {
        var report = Report(namespace: namespace.name, removed: 0, damage: [], drift: [], emptyTables: [])
        let places = journals.compactMap { $0.places.first { namespace.isSame(inode: $0.inode, identity: $0.identity) } }
        func isOurs(_ rule: RuleDump.Rule) -> Bool { rule.ownPrefix.map { runs($0.runName) } ?? false }
        let sites = AddressFamily.allCases.flatMap { family in iptables.backends.map { (family, $0) } }
        for table in try SentinelTable.present(in: namespace) where runs(table.run) {
            report.removed += try await SentinelTable.survey(table.family, run: table.run, in: namespace, index: 0).count
            try await SentinelTable.remove(table.family, run: table.run, in: namespace)
        }
        var expected: [String: RuleDump] = [:]
        // Chains with rules that stay.
        var busy: Set<TableCleanup.Chain> = []
        for (family, backend) in sites {
            report.removed += try await takeOut(family, backend, namespace, isOurs) { dump in
                expected["\(family)\(backend)"] = dump.without { $0.ownPrefix != nil }
                guard backend == .nft else { return }
                for table in dump.tables {
                    for rule in table.rules where !isOurs(rule) {
                        busy.insert(TableCleanup.Chain(family: family.rawValue, table: table.name, name: rule.chain))
                    }
                }
            }
        }
        let first = places.first
        if let first, iptables.backends.contains(.nft) {
            let tables = Set(places.flatMap(\.sites).flatMap { site in site.probes.map { [site.family.name, $0.table] } })
            let created = try TableCleanup.chains(in: namespace).subtracting(first.chainsBefore).subtracting(busy).filter {
                tables.contains([AddressFamily(rawValue: $0.family)?.name ?? "", $0.table]) && Hook(name: $0.name) != nil
            }
            try TableCleanup.drop(created, in: namespace)
        }
        for (family, backend) in sites {
            let after = (try await iptables.save(family, backend, in: namespace) ?? RuleDump()).without { $0.ownPrefix != nil }
            let site = first?.sites.first { $0.family == family && $0.backend == backend }
            var comparable = after
            comparable.tables.removeAll { table in
                let isNew = backend == .legacy && table.isPristine && site?.before.contains("*\(table.name)") == false
                if isNew { report.emptyTables.append("\(family.name) \(table.name)") }
                return isNew
            }
            let name = "\(namespace.name) \(family.name)"
            if let during = expected["\(family)\(backend)"] {
                report.damage += difference(
                    from: during.withoutPristineTables.comparable, to: after.withoutPristineTables.comparable, name)
            }
            if let site { report.drift += difference(from: site.before, to: comparable.comparable, name) }
        }
        return report
    }

    /// Deletes our rules of one family and backend, trying again where somebody changed the rules in between.
    private func takeOut(
        _ family: AddressFamily, _ backend: Backend, _ namespace: NetworkNamespace,
        _ isOurs: (RuleDump.Rule) -> Bool, expecting: (RuleDump) -> Void
    ) async throws -> Int {
        var attempts = 0
        while true {
            guard let dump = try await iptables.save(family, backend, in: namespace) else { return 0 }
            var input = RestoreInput()
            var count = 0
            // From the first table that a packet passes to the last, so that a packet on its way meets a gap, not an end.
            for content in dump.tables.sorted(by: { ($0.table?.rawValue ?? 9) < ($1.table?.rawValue ?? 9) }) {
                guard let table = content.table else { continue }
                for rule in content.rules where isOurs(rule) && isAsWeWroteIt(rule, in: table) {
                    input.delete(rule, from: table)
                    count += 1
                }
            }
            expecting(dump)
            if count == 0 { return 0 }
            do {
                try await iptables.restore(input, family, backend, in: namespace)
                return count
            } catch NamespaceError.toolFailed(_, _, let message) {
                attempts += 1
                if attempts == 3 { throw RulesetError.stillThere(namespace: namespace.name, message: message) }
            }
        }
    }

    private func isPresent(_ place: ProbeJournal.Place) -> Bool {
        var present = (try? NamespaceDirectory.resolve([.all])) ?? []
        // One that was given as a path may have no name and no process.
        if place.name.contains("/") { present += (try? NamespaceDirectory.resolve([.path(place.name)])) ?? [] }
        return present.contains { $0.isSame(inode: place.inode, identity: place.identity) }
    }

    /// Whether a rule with our prefix is where its prefix says, and says nothing that we never write: what is fed back to
    /// iptables-restore is not somebody else's text.
    private func isAsWeWroteIt(_ rule: RuleDump.Rule, in table: Table) -> Bool {
        guard let prefix = rule.ownPrefix, prefix.table == table, prefix.chain == rule.chain else { return false }
        let foreign: Set<String> = ["-M", "--modprobe", "-t", "--table", "-c", "--set-counters"]
        return !rule.words.contains { foreign.contains($0) }
    }

    /// Lines that are only in one of the two, as a diff shows them.
    private func difference(from old: [String], to new: [String], _ name: String) -> [String] {
        new.difference(from: old).map { change in
            switch change {
            case .insert(_, let line, _): "\(name): + \(line)"
            case .remove(_, let line, _): "\(name): - \(line)"
            }
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
