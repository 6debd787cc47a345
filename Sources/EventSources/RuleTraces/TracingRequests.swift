internal import TraceModel

/// Which packets are to be traced, for the journeys that ended without a rule's name: each sort once in a while.
struct TracingRequests {
    private struct Key: Hashable {
        var namespace: Int
        var traffic: TracedTraffic
    }

    /// When each was asked for, in microseconds since 1970.
    private var asked: [Key: Int64] = [:]

    /// An element of a set lasts for `RuleTraceTable.timeout`: asked for anew when it has gone.
    private static let period = Int64(RuleTraceTable.timeout) * 1_000_000
    private static let most = 1 << 12

    /// The traffic to trace in each namespace because of journeys that were dropped.
    mutating func take(_ undecided: inout [Journey], of layout: Layout, now: Int64) -> [Int: [TracedTraffic]] {
        guard !undecided.isEmpty else { return [:] }
        defer { undecided.removeAll(keepingCapacity: true) }
        if asked.count >= Self.most { asked = asked.filter { now - $0.value < Self.period } }
        var wanted: [Int: [TracedTraffic]] = [:]
        for journey in undecided {
            guard let last = journey.legs.last else { continue }
            // It may have been dropped where it was to come.
            let namespaces = Set([last.namespace] + journey.expected.map { layout.probes[Int($0)].namespace })
            for namespace in namespaces where layout.namespaces[namespace].channel == .nflog {
                for tuple in last.entry == last.exit ? [last.exit] : [last.entry, last.exit] {
                    let key = Key(namespace: namespace, traffic: TracedTraffic(likeness: .attempt, tuple: tuple))
                    guard asked.count < Self.most, now - (asked[key] ?? .min / 2) >= Self.period else { continue }
                    asked[key] = now
                    wanted[namespace, default: []].append(key.traffic)
                }
            }
        }
        return wanted
    }
}
