/// A probe between iptables' tables: a base chain of an nf_tables table of our own. It sees every packet that gets there, of
/// nat too, whose own chains see a connection's first packet only.
///
/// The heads of the tables' chains tell in which table a packet was lost as long as another head follows. Sentinels stand
/// where none does: before nat, and at the end of each hook.
public enum Sentinel: String, Sendable, Hashable, CaseIterable {
    case beforeNAT = "before-nat"
    case end

    /// Those of a hook, in the order in which a packet passes them.
    public static func all(at hook: Hook) -> [Sentinel] { hook == .forward ? [.end] : [.beforeNAT, .end] }

    /// The priority of the base chain.
    ///
    /// Before nat: one less than address translation's. At the end: behind everything that iptables registers, whichever its
    /// backend (150, security of `iptables-nft`), and before connection tracking's helpers (`NF_IP_PRI_CONNTRACK_HELPER`, 300).
    public func priority(at hook: Hook) -> Int32 {
        switch self {
        case .beforeNAT: HookPriority.of(.nat, at: hook, backend: .nft) - 1
        case .end: 299
        }
    }

    /// The name of the base chain: `PREROUTING-end`.
    public func chain(at hook: Hook) -> String { "\(hook.name)-\(rawValue)" }

    /// Reads `chain(at:)` back.
    public static func parse(_ chain: some StringProtocol) -> (sentinel: Sentinel, hook: Hook)? {
        let parts = chain.split(separator: "-", maxSplits: 1)
        guard parts.count == 2, let hook = Hook(name: parts[0]), let sentinel = Sentinel(rawValue: String(parts[1])),
            all(at: hook).contains(sentinel)
        else { return nil }
        return (sentinel, hook)
    }
}
