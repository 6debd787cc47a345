public import TraceModel

/// What may have taken a packet that vanished between two probes.
public enum Suspect: Sendable, Hashable {
    /// A built-in chain of iptables, with the user-defined chains that it jumps to.
    case chain(table: Table, hook: Hook)
    /// A base chain of nf_tables that is not iptables'.
    case nativeChain(table: String, name: String)
    case connectionTracking
    /// The rewriting of addresses by connection tracking, which drops packets that it cannot translate, such as redirects of a translated
    /// connection (`nf_nat_icmp_reply_translation` in net/netfilter/nf_nat_proto.c).
    case addressTranslation
    /// The routing decision behind PREROUTING.
    case routing
    /// The kernel's own work behind a hook's last chain.
    case kernel(behind: Hook)
    /// A bridge: its decision by which ports a frame leaves, if by any.
    case bridge(String, namespace: String)
    /// A flowtable of nf_tables, by which packets of connections it has taken over pass all chains.
    case flowtable(table: String, name: String)
    /// The links between two namespaces.
    case way(namespace: String)
}

extension Suspect {
    /// Whether a rule or policy may be part of it, by its table.
    func holds(_ place: RulePlace) -> Bool {
        switch self {
        case .chain(let table, _):
            place.table == table.name && AddressFamily.allCases.contains { $0.tableName == place.tableFamily }
        case .nativeChain(let table, _): place.table == table
        default: false
        }
    }
}

extension Suspect: CustomStringConvertible {
    /// `filter/FORWARD`, `routing`, `the way to guest`, …
    public var description: String {
        switch self {
        case .chain(let table, let hook): "\(table.name)/\(hook.name)"
        case .nativeChain(let table, let name): "\(table)/\(name) of nftables"
        case .connectionTracking: "connection tracking"
        case .addressTranslation: "address translation"
        case .routing: "routing"
        case .kernel(let hook): "the kernel behind \(hook.name)"
        case .bridge(let name, let namespace): "the bridge \(name) in \(namespace)"
        case .flowtable(let table, let name): "the flowtable \(table)/\(name) of nftables"
        case .way(let namespace): "the way to \(namespace)"
        }
    }
}
