/// A table that probes stand in: iptables' five, and our own of sentinels.
public enum Table: UInt8, Sendable, Hashable {
    case raw, mangle, nat, filter, security
    /// Of nf_tables, with a base chain for each `Sentinel`.
    case sentinel

    /// The five tables of iptables, in the order in which hooks run them.
    public static let iptables: [Table] = [.raw, .mangle, .nat, .filter, .security]

    public var name: String {
        switch self {
        case .raw: "raw"
        case .mangle: "mangle"
        case .nat: "nat"
        case .filter: "filter"
        case .security: "security"
        case .sentinel: "sentinel"
        }
    }

    /// Finds one of iptables' tables by its name.
    public init?(name: some StringProtocol) {
        guard let table = Table.iptables.first(where: { $0.name == name }) else { return nil }
        self = table
    }

    /// Any table by its name, as probes' prefixes and recordings give it.
    public init?(probeTable name: some StringProtocol) {
        guard let table = Table(name: name) ?? (name == Table.sentinel.name ? .sentinel : nil) else { return nil }
        self = table
    }

    /// The hooks at which the table has a built-in chain (`valid_hooks` in the kernel's iptable_*.c).
    public var hooks: [Hook] {
        switch self {
        case .raw: [.prerouting, .output]
        case .mangle: [.prerouting, .input, .forward, .output, .postrouting]
        case .nat: [.prerouting, .input, .output, .postrouting]
        case .filter, .security: [.input, .forward, .output]
        case .sentinel: Hook.allCases
        }
    }
}

/// Which of the two kernel interfaces holds an iptables rule.
public enum Backend: String, Sendable, Hashable, Codable, CaseIterable {
    /// `iptables-nft`: the rules are nf_tables rules.
    case nft
    /// `iptables-legacy`: the rules are x_tables blobs.
    case legacy
}

/// Where in a hook's order a table stands: lower is earlier.
public enum HookPriority {
    /// Source and destination translation happen at these priorities (`NF_IP_PRI_NAT_DST`, `NF_IP_PRI_NAT_SRC`).
    public static let destinationTranslation: Int32 = -100
    public static let sourceTranslation: Int32 = 100

    /// Connection tracking at PREROUTING and OUTPUT (`NF_IP_PRI_CONNTRACK`).
    public static let connectionTracking: Int32 = -200

    /// The priority of a table's built-in chain.
    ///
    /// Measured with iptables 1.8.9: `iptables-nft` registers `security` at 150, hence after `nat` in INPUT;
    /// x_tables registers it at 50 (`NF_IP_PRI_SECURITY`), hence before.
    public static func of(_ table: Table, at hook: Hook, backend: Backend) -> Int32 {
        switch table {
        case .raw: -300
        case .mangle: -150
        case .nat: hook == .prerouting || hook == .output ? destinationTranslation : sourceTranslation
        case .filter: 0
        case .security: backend == .nft ? 150 : 50
        case .sentinel: Sentinel.end.priority(at: hook)
        }
    }
}
