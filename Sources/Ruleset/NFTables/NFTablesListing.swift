private import Glibc
internal import LinuxSupport
package import TraceModel
package import WireFormat

/// An nf_tables table by its family and name.
package struct NFTable: Hashable, Codable, Comparable {
    /// `NFPROTO_*`.
    package var family: UInt8
    package var name: String

    package init(family: UInt8, name: String) {
        self.family = family
        self.name = name
    }

    package static func < (one: NFTable, other: NFTable) -> Bool { (one.family, one.name) < (other.family, other.name) }

    /// The table of iptables or ip6tables that it is; `nil` for any other program's.
    var iptables: (family: AddressFamily, table: Table)? {
        guard let family = AddressFamily(rawValue: family), let table = Table(name: name) else { return nil }
        return (family, table)
    }
}

/// An nf_tables chain by its table and name.
package struct NFChain: Hashable, Codable, Comparable {
    package var family: UInt8
    package var table: String
    package var name: String

    package init(family: UInt8, table: String, name: String) {
        self.family = family
        self.table = table
        self.name = name
    }

    package static func < (one: NFChain, other: NFChain) -> Bool {
        (one.family, one.table, one.name) < (other.family, other.table, other.name)
    }

    var nfTable: NFTable { NFTable(family: family, name: table) }
}

extension ChainMessage {
    /// `NFPROTO_INET`, `NFPROTO_NETDEV` and `NFPROTO_BRIDGE` of linux/netfilter.h.
    private static let inet: UInt8 = 1
    private static let netdev: UInt8 = 5
    private static let bridge: UInt8 = 7

    /// The hook of a base chain that is not iptables', as `NamespaceFacts.OtherChain` names it; `nil` for all others.
    var otherHook: NativeHook? {
        guard let number = hook else { return nil }
        let inetIngress: UInt32 = 5  // NF_INET_INGRESS
        switch family {
        case Self.inet where number == inetIngress: return .ingress
        case Self.netdev: return number == 0 ? .ingress : .egress
        case Self.bridge: return Hook(rawValue: UInt8(truncatingIfNeeded: number)).map { .bridge($0) }
        case Self.inet: return Hook(rawValue: UInt8(truncatingIfNeeded: number)).map { .ip($0) }
        default:
            guard AddressFamily(rawValue: family) != nil, Table(name: table) == nil else { return nil }
            return Hook(rawValue: UInt8(truncatingIfNeeded: number)).map { .ip($0) }
        }
    }

    var key: NFChain { NFChain(family: family, table: table, name: name) }
}

extension RuleMessage {
    var chainKey: NFChain { NFChain(family: family, table: table, name: chain) }
}

/// The tables, chains and rules of one namespace as nf_tables itself lists them, of all families, at one generation.
///
/// This is the truth about rules of iptables-nft: iptables-nft-save prints no table that holds a rule it has no words for.
package struct NFTablesListing: Sendable {
    /// Which commit of the namespace's rules this shows.
    package var generation: UInt32 = 0
    package var tables: Set<NFTable> = []
    package var chains: [ChainMessage] = []
    /// The rules of one chain, in their order.
    package var rules: [RuleMessage] = []
    package var flowtables: [FlowtableMessage] = []

    package init() {}

    /// Reads the listing, again where the rules changed meanwhile.
    ///
    /// - Throws: `NetlinkError`; `RulesetError.keepsChanging` after fifty attempts.
    static func read(in namespace: NetworkNamespace) throws -> NFTablesListing {
        for attempt in 0..<50 {
            if attempt > 0 { usleep(UInt32(min(attempt, 20)) * 1000) }
            do {
                let listing = try readOnce(in: namespace)
                if try generation(in: namespace) == listing.generation { return listing }
            } catch let error as NetlinkError where error.isInterrupted {
                continue
            }
        }
        throw RulesetError.keepsChanging(namespace: namespace.name)
    }

    /// The present generation of the namespace's rules (`NFT_MSG_GETGEN`).
    static func generation(in namespace: NetworkNamespace) throws -> UInt32 {
        let socket = try namespace.enter { try NetlinkSocket(.netfilter) }
        return try generation(socket, namespace.name)
    }

    private static func generation(_ socket: borrowing NetlinkSocket, _ namespace: String) throws -> UInt32 {
        var request = NetlinkRequest()
        request.append(type: NFTablesMessage.getGeneration, flags: .request, body: NetlinkRequest.nfgenmsg(family: 0))
        return try socket.askOnce(request.bytes, operation: "read the generation of the rules in namespace \(namespace)") {
            (bytes, message) throws(ParseError) in
            try GenerationMessage(parsing: bytes, body: message.body).generation
        }
    }

    private static func readOnce(in namespace: NetworkNamespace) throws -> NFTablesListing {
        let socket = try namespace.enter { try NetlinkSocket(.netfilter) }
        var listing = NFTablesListing()
        listing.generation = try generation(socket, namespace.name)
        func dump(
            _ type: UInt16, _ what: String, _ handle: (RawSpan, NetlinkMessage) throws(ParseError) -> Void
        ) throws(NetlinkError) {
            var request = NetlinkRequest()
            // NFPROTO_UNSPEC lists all families.
            request.append(type: type, flags: [.request, .dump], body: NetlinkRequest.nfgenmsg(family: 0))
            try socket.ask(
                request.bytes, operation: "list nf_tables \(what) in namespace \(namespace.name)", handle: handle)
        }
        try dump(NFTablesMessage.getTable, "tables") { (bytes, message) throws(ParseError) in
            guard message.type == TableMessage.newTable else { return }
            let table = try TableMessage(parsing: bytes, body: message.body)
            listing.tables.insert(NFTable(family: table.family, name: table.name))
        }
        guard !listing.tables.isEmpty else { return listing }
        try dump(NFTablesMessage.getChain, "chains") { (bytes, message) throws(ParseError) in
            guard message.type == ChainMessage.newChain else { return }
            listing.chains.append(try ChainMessage(parsing: bytes, body: message.body))
        }
        try dump(NFTablesMessage.getRule, "rules") { (bytes, message) throws(ParseError) in
            guard message.type == RuleMessage.newRule else { return }
            listing.rules.append(try RuleMessage(parsing: bytes, body: message.body))
        }
        try dump(NFTablesMessage.getFlowtable, "flowtables") { (bytes, message) throws(ParseError) in
            guard message.type == FlowtableMessage.newFlowtable else { return }
            listing.flowtables.append(try FlowtableMessage(parsing: bytes, body: message.body))
        }
        return listing
    }

    /// Base chains that neither iptables nor this program has made.
    package var otherChains: [NamespaceFacts.OtherChain] {
        chains.compactMap { chain in
            guard let hook = chain.otherHook, let priority = chain.priority, !SentinelTable.isOurs(chain.table) else {
                return nil
            }
            return NamespaceFacts.OtherChain(
                family: AddressFamily(rawValue: chain.family), table: chain.table, name: chain.name, hook: hook,
                priority: priority, devices: chain.devices.isEmpty ? nil : chain.devices)
        }
    }

    package var offloads: [NamespaceFacts.Flowtable] {
        flowtables.map { flowtable in
            NamespaceFacts.Flowtable(
                family: AddressFamily(rawValue: flowtable.family), table: flowtable.table, name: flowtable.name,
                devices: flowtable.devices)
        }
    }

    /// Base chains of iptables' tables that decide nothing: no rules but those that `isIgnored` accepts, policy ACCEPT.
    func emptyBaseChains(ignoring isIgnored: (RuleMessage) -> Bool) -> Set<NFChain> {
        var busy: Set<NFChain> = []
        for rule in rules where !isIgnored(rule) { busy.insert(rule.chainKey) }
        let accept: UInt32 = 1  // NF_ACCEPT
        return Set(
            chains.filter {
                $0.key.nfTable.iptables != nil && Hook(name: $0.name) != nil && $0.hook != nil && $0.policy == accept
                    && !busy.contains($0.key)
            }.map(\.key))
    }

    /// What of the rules and policies of iptables' tables is not ours, one line each, for comparing two listings. Counters and
    /// handles are left out; so are chains that decide nothing and are not the user's.
    ///
    /// - Parameter users: the chains that were there before the probes.
    package func comparable(_ family: AddressFamily, users: Set<NFChain>) -> [String] {
        let empty = emptyBaseChains { $0.isProbe }
        let chainLines = chains.filter {
            $0.family == family.rawValue && $0.key.nfTable.iptables != nil
                && (users.contains($0.key) || !empty.contains($0.key))
        }.map { chain in
            let policy = chain.policy.map { $0 == 1 ? "ACCEPT" : "DROP" } ?? "-"
            return "*\(chain.table) :\(chain.name) \(policy)"
        }
        let ruleLines = rules.filter {
            $0.family == family.rawValue && $0.chainKey.nfTable.iptables != nil && !$0.isProbe
        }.map { "*\($0.table) \($0.summary)" }
        return chainLines.sorted() + ruleLines
    }
}

extension RuleMessage {
    /// What our prefix says, where the rule is one of our probes: it logs and decides nothing. Its chain may have been renamed, or
    /// the rule copied to another. Sentinels are no probes by themselves; they go with their table.
    var ownPrefix: ProbePrefix? {
        guard let log, isOnlyLogging, !SentinelTable.isOurs(table) else { return nil }
        return ProbePrefix(log.prefix)
    }

    var isProbe: Bool { ownPrefix != nil }

    /// A line that tells the rule from others, for a table that no program has words for.
    var summary: String {
        let digits = String(digest, radix: 16)
        return "-A \(chain) (nf_tables: \(expressions.joined(separator: " ")); digest \(digits))"
    }
}

extension NetlinkRequest {
    /// Begins a transaction of nf_tables.
    ///
    /// - Parameter generation: the generation of the rules that it is made for; with another the kernel refuses it. `nil`: any.
    mutating func beginTransaction(generation: UInt32? = nil) {
        append(
            type: NFTablesMessage.batchBegin, flags: .request, sequence: 0,
            body: NetlinkRequest.nfgenmsg(family: 0, resource: NFTablesMessage.subsystem)
        ) {
            if let generation { $0.attribute(1, big: generation) }  // NFNL_BATCH_GENID
        }
    }

    /// Ends the transaction; the kernel commits it then.
    mutating func endTransaction(sequence: UInt32) {
        append(
            type: NFTablesMessage.batchEnd, flags: .request, sequence: sequence,
            body: NetlinkRequest.nfgenmsg(family: 0, resource: NFTablesMessage.subsystem))
    }
}

/// `NFT_MSG_*` of linux/netfilter/nf_tables.h in `NFNL_SUBSYS_NFTABLES` (10), and the frame of a transaction.
enum NFTablesMessage {
    /// `NFNL_SUBSYS_NFTABLES`, which a transaction names as its resource.
    static let subsystem: UInt16 = 10
    static let batchBegin: UInt16 = 0x10  // NFNL_MSG_BATCH_BEGIN
    static let batchEnd: UInt16 = 0x11  // NFNL_MSG_BATCH_END
    static let getTable: UInt16 = 0x0A01
    static let deleteTable: UInt16 = 0x0A02
    static let getChain: UInt16 = 0x0A04
    static let deleteChain: UInt16 = 0x0A05
    static let newRule: UInt16 = 0x0A06
    static let getRule: UInt16 = 0x0A07
    static let deleteRule: UInt16 = 0x0A08
    static let getGeneration: UInt16 = 0x0A10
    static let getFlowtable: UInt16 = 0x0A17
}
