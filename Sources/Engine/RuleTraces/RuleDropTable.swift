import TraceModel

/// The drops that rule traces have told of lately, to be found by the packet that was dropped.
struct RuleDropTable {
    private struct Flow: Hashable {
        var namespace: Int
        var tuple: PacketTuple
    }

    /// Oldest first.
    private var drops: [Flow: [RuleDrop]] = [:]
    private var count = 0
    private static let most = 1 << 14

    mutating func add(_ drop: RuleDrop, _ namespace: Int) {
        if count >= Self.most {
            drops.removeAll(keepingCapacity: true)
            count = 0
        }
        count += 1
        drops[Flow(namespace: namespace, tuple: drop.packet.tuple), default: []].append(drop)
    }

    /// What dropped the packet of a journey, and in which namespace.
    ///
    /// - Parameter next: the namespaces that it was to come to.
    /// - Returns: `nil` where none tells, or several drops of such a packet at that time were of different rules.
    mutating func decision(of journey: Journey, next: Set<Int>) -> (decision: RuleDecision, namespace: Int)? {
        guard !drops.isEmpty, let leg = journey.legs.last else { return nil }
        let times = journey.traceTimes
        var found: (decision: RuleDecision, namespace: Int)?
        for namespace in next.union([leg.namespace]) {
            for tuple in leg.exit == leg.entry ? [leg.exit] : [leg.exit, leg.entry] {
                for candidate in candidates(Flow(namespace: namespace, tuple: tuple), since: journey.oldestTrace)
                where times.contains(candidate.time) && candidate.packet.looksLike(journey.packet) {
                    if let found, found.decision != candidate.decision || found.namespace != namespace { return nil }
                    found = (candidate.decision, namespace)
                }
            }
        }
        return found
    }

    /// The drops of a flow; older ones are forgotten.
    private mutating func candidates(_ flow: Flow, since: Int64) -> [RuleDrop] {
        guard var candidates = drops[flow] else { return [] }
        let before = candidates.count
        candidates.removeAll { $0.time < since }
        count -= before - candidates.count
        drops[flow] = candidates.isEmpty ? nil : candidates
        return candidates
    }
}
