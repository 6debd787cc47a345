private import Glibc
internal import LinuxSupport
internal import TraceModel
internal import WireFormat

/// Objects to delete from nf_tables in one transaction: probes, and the chains and tables that came with them.
package struct NFTablesRemoval: Sendable {
    /// Rules by their handles, each with its chain.
    package struct Rule: Hashable, Sendable {
        package var chain: NFChain
        package var handle: UInt64
    }

    package var rules: [Rule] = []
    /// Whole tables of our own, with all that is in them.
    package var ownTables: [NFTable] = []
    /// Chains and tables of iptables' that are dropped only if the kernel finds nothing else in them.
    package var emptyChains: [NFChain] = []
    package var emptyTables: [NFTable] = []

    package var isEmpty: Bool { rules.isEmpty && ownTables.isEmpty && emptyChains.isEmpty && emptyTables.isEmpty }

    /// The state before an installation, as its journal records it.
    package struct Record: Sendable {
        package var chainsBefore: Set<NFChain>
        package var tablesBefore: Set<NFTable>
        /// Tables that probes were put into.
        package var tables: Set<NFTable>

        package init(chainsBefore: Set<NFChain>, tablesBefore: Set<NFTable>, tables: Set<NFTable>) {
            self.chainsBefore = chainsBefore
            self.tablesBefore = tablesBefore
            self.tables = tables
        }
    }

    /// Works out the removal of the runs that `isChosen` accepts.
    ///
    /// With a record, chains that were not there before go if they are empty then. Without one nobody knows which chains were
    /// there before; those that held a probe and nothing else go, because an empty chain with policy ACCEPT decides nothing.
    package init(_ listing: NFTablesListing, record: Record?, runs isChosen: (String) -> Bool) {
        let probes = listing.rules.filter { $0.ownPrefix.map { isChosen($0.run) } == true }
        rules = probes.map { Rule(chain: $0.chainKey, handle: $0.handle) }
        ownTables = listing.tables.filter { SentinelTable.run(of: $0).map(isChosen) == true }.sorted()
        let handles = Set(rules)
        let empty = listing.emptyBaseChains { handles.contains(Rule(chain: $0.chainKey, handle: $0.handle)) }
        if let record {
            emptyChains = empty.filter { !record.chainsBefore.contains($0) && record.tables.contains($0.nfTable) }.sorted()
        } else {
            emptyChains = empty.intersection(probes.map(\.chainKey)).sorted()
        }
        let dropped = Set(emptyChains)
        let kept = Set(listing.chains.map(\.key).filter { !dropped.contains($0) }.map(\.nfTable))
        emptyTables =
            listing.tables.filter { table in
                guard table.iptables != nil, !kept.contains(table) else { return false }
                if let record { return !record.tablesBefore.contains(table) && record.tables.contains(table) }
                return dropped.contains { $0.nfTable == table }
            }.sorted()
    }

    /// Takes everything out of the rules that have `generation`, or nothing.
    ///
    /// The kernel checks in the same transaction that a chain or table is empty (`NLM_F_NONREC`); one that is not, for instance
    /// because of a set, stays.
    ///
    /// - Returns: false where the rules have another generation by now.
    func commit(generation: UInt32, in namespace: NetworkNamespace) throws -> Bool {
        var removal = self
        while !removal.isEmpty {
            let (batch, steps) = removal.batch(generation: generation)
            do {
                let socket = try namespace.enter { try NetlinkSocket(.netfilter) }
                try socket.commit(batch.bytes, operation: "take the probes out of namespace \(namespace.name)")
                return true
            } catch let refusal as NetlinkBatchError {
                if refusal.error.isOutdated || refusal.error.isAbsent { return false }
                guard refusal.error.isBusy, let sequence = refusal.sequence, Int(sequence) < steps.count else {
                    throw refusal.error
                }
                switch steps[Int(sequence)] {
                case .chain(let chain): removal.keep(chain)
                case .table(let table): removal.emptyTables.removeAll { $0 == table }
                case .other: throw refusal.error
                }
            }
        }
        return true
    }

    private mutating func keep(_ chain: NFChain) {
        emptyChains.removeAll { $0 == chain }
        emptyTables.removeAll { $0 == chain.nfTable }
    }

    private enum Step {
        case chain(NFChain)
        case table(NFTable)
        case other
    }

    /// The messages of the transaction, and what each does by its sequence.
    private func batch(generation: UInt32) -> (NetlinkRequest, [Step]) {
        var batch = NetlinkRequest()
        var steps: [Step] = []
        let count = rules.count + ownTables.count + emptyChains.count + emptyTables.count
        func add(
            _ step: Step, _ type: UInt16, family: UInt8, nonRecursive: Bool = false, attributes: (inout NetlinkRequest) -> Void
        ) {
            var flags: NetlinkRequest.Flags = .request
            if nonRecursive { flags.formUnion(.nonRecursive) }
            // The last one before the end of the batch answers for all.
            if steps.count == count { flags.formUnion(.acknowledge) }
            batch.append(
                type: type, flags: flags, sequence: UInt32(steps.count), body: NetlinkRequest.nfgenmsg(family: family),
                attributes: attributes)
            steps.append(step)
        }
        batch.beginTransaction(generation: generation)
        steps.append(.other)
        for rule in rules {
            add(.other, NFTablesMessage.deleteRule, family: rule.chain.family) {
                $0.attribute(1, text: rule.chain.table)  // NFTA_RULE_TABLE
                $0.attribute(2, text: rule.chain.name)  // NFTA_RULE_CHAIN
                $0.attribute(3, big: rule.handle)  // NFTA_RULE_HANDLE
            }
        }
        for table in ownTables {
            add(.other, NFTablesMessage.deleteTable, family: table.family) {
                $0.attribute(1, text: table.name)  // NFTA_TABLE_NAME
            }
        }
        for chain in emptyChains {
            add(.chain(chain), NFTablesMessage.deleteChain, family: chain.family, nonRecursive: true) {
                $0.attribute(1, text: chain.table)  // NFTA_CHAIN_TABLE
                $0.attribute(3, text: chain.name)  // NFTA_CHAIN_NAME
            }
        }
        for table in emptyTables {
            add(.table(table), NFTablesMessage.deleteTable, family: table.family, nonRecursive: true) {
                $0.attribute(1, text: table.name)  // NFTA_TABLE_NAME
            }
        }
        batch.endTransaction(sequence: UInt32(steps.count))
        return (batch, steps)
    }
}
