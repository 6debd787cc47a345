package import TraceModel

/// What a recording holds of the rules that packets met.
package enum WalkNote: Sendable {
    /// The rules that a packet met in a base chain, without the texts of nf_tables' rules; its time is that of its trace.
    case walk(RuleWalk, of: Packet, time: Int64)
    /// The text of such a rule was read.
    case rule(namespace: Int, RulePlace, RuleText)
}

/// What rule traces have told that a recording is to hold.
struct RuleTraceNotes {
    /// Nothing is kept otherwise.
    var isWanted = false
    private var walks: [WalkNote] = []
    private var known: [(namespace: Int, drop: RuleDrop)] = []
    /// Drops whose rule has been asked for.
    private var unnamed: [(namespace: Int, drop: RuleDrop)] = []
    private static let most = 1 << 14

    mutating func add(_ note: WalkNote) {
        guard isWanted, walks.count < Self.most else { return }
        walks.append(note)
    }

    /// A drop whose rule is named.
    mutating func add(_ drop: RuleDrop, namespace: Int) {
        guard isWanted, known.count < Self.most else { return }
        known.append((namespace, drop))
    }

    /// A drop whose rule is not yet named.
    mutating func addUnnamed(_ drop: RuleDrop, namespace: Int) {
        guard isWanted else { return }
        if unnamed.count >= Self.most { unnamed.removeAll() }
        unnamed.append((namespace, drop))
    }

    /// The rules at `places` have been read.
    mutating func name(_ places: Set<RulePlace>, namespace: Int, by texts: RuleTextTable) {
        for (index, drop) in unnamed where index == namespace && places.contains(drop.decision.place) {
            add(
                RuleDrop(packet: drop.packet, time: drop.time, decision: texts.named(drop.decision, namespace)),
                namespace: namespace)
        }
        unnamed.removeAll { $0.namespace == namespace && places.contains($0.drop.decision.place) }
    }

    mutating func takeWalks() -> [WalkNote] {
        guard !walks.isEmpty else { return [] }
        defer { walks.removeAll(keepingCapacity: true) }
        return walks
    }

    mutating func takeDrops() -> [(namespace: Int, drop: RuleDrop)] {
        guard !known.isEmpty else { return [] }
        defer { known.removeAll(keepingCapacity: true) }
        return known
    }
}
