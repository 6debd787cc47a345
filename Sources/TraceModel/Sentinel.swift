/// A probe between iptables' tables: a base chain of an nf_tables table of our own. It sees every packet that gets there, of
/// nat too, whose own chains see a connection's first packet only.
///
/// The heads of the tables' chains tell in which table a packet was lost as long as another head follows. Sentinels stand
/// where none does: before nat, and at the end of each hook.
public enum Sentinel: String, Sendable, Hashable, CaseIterable {
    case beforeNAT = "before-nat"
    case end

    /// The sentinels of a hook, in the order in which a packet passes them.
    public static func all(at hook: Hook) -> [Sentinel] { hook == .forward ? [.end] : [.beforeNAT, .end] }

    /// Where it stands among the tables: before nat, one less than address translation's priority; at the end, behind all
    /// tables of either backend.
    public func priority(at hook: Hook) -> Int32 {
        switch self {
        case .beforeNAT: HookPriority.of(.nat, at: hook, backend: .nft) - 1
        case .end: 299
        }
    }

    /// The priority that the base chain is registered with.
    ///
    /// At the end that is the last there is. Connection tracking has it too where it confirms a connection
    /// (`NF_IP_PRI_CONNTRACK_CONFIRM`), and of hooks with equal priority the one registered later comes first
    /// (`nf_hook_entries_grow` in net/netfilter/core.c): a first packet that it drops, because another connection has the
    /// same translated addresses, has passed the sentinel.
    public func registeredPriority(at hook: Hook) -> Int32 { self == .end ? .max : priority(at: hook) }

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
