internal import Namespaces
internal import Netlink
internal import TraceModel
internal import WireFormat

/// iptables-nft creates base chains and tables on first use and never drops them again. This drops the ones that came
/// with our probes, if nothing else is in them by then: the kernel itself checks that, in the same transaction
/// (`NLM_F_NONREC`, nf_tables_delchain in net/netfilter/nf_tables_api.c), so that a rule that somebody adds at the same
/// moment is safe.
enum TableCleanup {
    struct Chain: Hashable, Codable {
        var family: UInt8
        var table: String
        var name: String
    }

    /// The chains of iptables' tables in nf_tables, at this moment.
    static func chains(in namespace: NetworkNamespace) throws -> Set<Chain> { Set(try policies(in: namespace).keys) }

    /// The tables of nf_tables that hold a chain, of IPv4 and IPv6.
    static func tables(in namespace: NetworkNamespace) throws -> Set<NFTable> {
        Set(try allChains(in: namespace).map { NFTable(family: $0.family, name: $0.table) })
    }

    /// The base chains that neither iptables nor we have made.
    static func otherChains(in namespace: NetworkNamespace) throws -> [NamespaceFacts.OtherChain] {
        let inet: UInt8 = 1  // NFPROTO_INET
        return try allChains(in: namespace).compactMap { chain in
            guard let hook = chain.hook.flatMap({ Hook(rawValue: UInt8(truncatingIfNeeded: $0)) }),
                let priority = chain.priority,
                chain.family == inet || Table(name: chain.table) == nil, !SentinelTable.isOurs(chain.table)
            else { return nil }
            return NamespaceFacts.OtherChain(
                family: AddressFamily(rawValue: chain.family), table: chain.table, name: chain.name, hook: hook.name,
                priority: priority)
        }
    }

    struct NFTable: Hashable {
        var family: UInt8
        var name: String
    }

    /// The chains of iptables' tables with their policies; -1 for one without.
    private static func policies(in namespace: NetworkNamespace) throws -> [Chain: Int64] {
        var policies: [Chain: Int64] = [:]
        for chain in try allChains(in: namespace)
        where Table(name: chain.table) != nil && AddressFamily(rawValue: chain.family) != nil {
            let key = Chain(family: chain.family, table: chain.table, name: chain.name)
            policies[key] = chain.policy.map { Int64($0) } ?? -1
        }
        return policies
    }

    private static func allChains(in namespace: NetworkNamespace) throws -> [ChainMessage] {
        for _ in 0..<5 {
            do {
                return try allChainsOnce(in: namespace)
            } catch let error as NetlinkError where error.isInterrupted {
                // Somebody changed the rules while they were listed.
                continue
            }
        }
        return try allChainsOnce(in: namespace)
    }

    private static func allChainsOnce(in namespace: NetworkNamespace) throws -> [ChainMessage] {
        let socket = try namespace.enter { try NetlinkSocket(.netfilter) }
        var request = NetlinkRequest()
        request.append(
            type: Message.getChain, flags: [.request, .dump], body: NetlinkRequest.nfgenmsg(family: 0))
        var chains: [ChainMessage] = []
        try socket.ask(request.bytes, operation: "list nf_tables chains in namespace \(namespace.name)") {
            (bytes, message) throws(ParseError) in
            guard message.type == ChainMessage.newChain else { return }
            let chain = try ChainMessage(parsing: bytes, body: message.body)
            // NFPROTO_INET is both at once.
            if AddressFamily(rawValue: chain.family) != nil || chain.family == 1 { chains.append(chain) }
        }
        return chains
    }

    /// Drops those of `created` that are empty and the tables that are empty then; what is in use stays, and so does a
    /// chain that has been given a policy other than ACCEPT, which the kernel would not take for use.
    static func drop(_ created: Set<Chain>, in namespace: NetworkNamespace) throws {
        let accept: Int64 = 1
        let present = try policies(in: namespace).filter { created.contains($0.key) && $0.value == accept }.map(\.key)
        guard !present.isEmpty else { return }
        let socket = try namespace.enter { try NetlinkSocket(.netfilter) }
        for chain in present.sorted(by: { ($0.table, $0.name) < ($1.table, $1.name) }) {
            try transact(socket, type: Message.deleteChain, family: chain.family) {
                $0.attribute(1, text: chain.table)  // NFTA_CHAIN_TABLE
                $0.attribute(3, text: chain.name)  // NFTA_CHAIN_NAME
            }
        }
        let remaining = try chains(in: namespace)
        for (family, table) in Set(present.map { [String($0.family), $0.table] }).map({ ($0[0], $0[1]) }) {
            guard let family = UInt8(family), !remaining.contains(where: { $0.family == family && $0.table == table })
            else { continue }
            try transact(socket, type: Message.deleteTable, family: family) {
                $0.attribute(1, text: table)  // NFTA_TABLE_NAME
            }
        }
    }

    private static func transact(
        _ socket: borrowing NetlinkSocket, type: UInt16, family: UInt8, attributes: (inout NetlinkRequest) -> Void
    ) throws {
        var batch = NetlinkRequest()
        // The batch names its subsystem, NFNL_SUBSYS_NFTABLES, as its resource.
        batch.append(type: Message.batchBegin, flags: .request, body: NetlinkRequest.nfgenmsg(family: 0, resource: 10))
        batch.append(
            type: type, flags: [.request, .acknowledge, .nonRecursive], body: NetlinkRequest.nfgenmsg(family: family),
            attributes: attributes)
        batch.append(type: Message.batchEnd, flags: .request, body: NetlinkRequest.nfgenmsg(family: 0, resource: 10))
        do {
            try socket.ask(batch.bytes, operation: "drop an empty chain")
        } catch {
            // Somebody uses it, or it went before us: both are as it should be.
            guard error.isBusy || error.isAbsent else { throw error }
        }
    }

    /// `NFNL_MSG_BATCH_*` and `NFT_MSG_*` in `NFNL_SUBSYS_NFTABLES`.
    private enum Message {
        static let batchBegin: UInt16 = 0x10
        static let batchEnd: UInt16 = 0x11
        static let deleteTable: UInt16 = 0x0A02
        static let getChain: UInt16 = 0x0A04
        static let deleteChain: UInt16 = 0x0A05
    }
}
