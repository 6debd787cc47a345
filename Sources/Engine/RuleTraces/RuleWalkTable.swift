import TraceModel

/// The rules that packets met lately, to be found by the packet, and then by its journey.
struct RuleWalkTable {
    private struct Flow: Hashable {
        var namespace: Int
        var tuple: PacketTuple
    }

    private struct Entry {
        var packet: Packet
        var time: Int64
        var walk: RuleWalk
    }

    private var entries: [Flow: [Entry]] = [:]
    /// At least as many as `entries` has.
    private var count = 0
    /// By the journeys' serials, as far as they are kept.
    private(set) var kept: [UInt64: [RuleWalk]] = [:]
    private var latest = Int64.min / 2
    /// By namespace, the times in which trace messages were lost, oldest first: walks of those times may lack rules.
    private var losses: [Int: [ClosedRange<Int64>]] = [:]
    private static let most = 1 << 13
    private static let mostLosses = 64
    /// How long before and after a loss was noticed its messages may have been expected, in microseconds.
    private static let lossMargin: Int64 = 200_000

    /// Whether a packet was traced whose journey may end at `time`.
    func mayHaveWalks(at time: Int64) -> Bool { time - latest <= Journey.longestTraceWait }

    /// Keeps the rules that a packet met in a base chain that it has left.
    mutating func add(_ walk: RuleWalk, of packet: Packet, time: Int64) {
        if count >= Self.most { forget(before: time - Journey.longestTraceWait) }
        count += 1
        latest = max(latest, time)
        entries[Flow(namespace: walk.namespace, tuple: packet.tuple), default: []].append(
            Entry(packet: packet, time: time, walk: walk))
    }

    /// Messages were lost in a namespace, which was noticed at `time`.
    mutating func noteLoss(namespace: Int, at time: Int64) {
        var range = time - Self.lossMargin...time + Self.lossMargin
        if let last = losses[namespace]?.last, last.overlaps(range) {
            range = last.lowerBound...range.upperBound
            losses[namespace]?.removeLast()
        }
        losses[namespace, default: []].append(range)
        if losses[namespace, default: []].count > Self.mostLosses { losses[namespace]?.removeFirst() }
    }

    func mayLackRules(namespace: Int, time: Int64) -> Bool { losses[namespace]?.contains { $0.contains(time) } == true }

    /// Forgets walks of packets whose journeys have ended, or all where there are too many others.
    private mutating func forget(before time: Int64) {
        entries = entries.compactMapValues { list in
            let kept = list.filter { $0.time >= time }
            return kept.isEmpty ? nil : kept
        }
        count = entries.values.reduce(0) { $0 + $1.count }
        guard count > Self.most / 2 else { return }
        entries.removeAll(keepingCapacity: true)
        count = 0
    }

    /// The rules that the packet of a journey met. A base chain in which more than one packet may be meant, or of which messages may have
    /// been lost, is left out.
    ///
    /// - Returns: none where nothing was traced.
    mutating func walks(of journey: Journey) -> [RuleWalk] {
        let times = journey.traceTimes
        var found: [RuleWalk] = []
        var ambiguous: Set<RuleWalk> = []
        for leg in journey.legs {
            for tuple in leg.exit == leg.entry ? [leg.entry] : [leg.entry, leg.exit] {
                let flow = Flow(namespace: leg.namespace, tuple: tuple)
                entries[flow]?.removeAll { $0.time < journey.oldestTrace }
                for one in entries[flow] ?? []
                where times.contains(one.time) && one.packet.looksLike(journey.packet)
                    && !mayLackRules(namespace: leg.namespace, time: one.time)
                {
                    if let same = found.first(where: { $0.isOfSameChain(as: one.walk) }) {
                        if same != one.walk { ambiguous.insert(same) }
                    } else {
                        found.append(one.walk)
                    }
                }
            }
        }
        found.removeAll(where: ambiguous.contains)
        return found
    }

    /// Keeps the rules that the packet of an ended journey met, for its reports.
    ///
    /// - Returns: those rules.
    mutating func keep(_ journey: Journey) -> [RuleWalk] {
        let found = walks(of: journey)
        guard !found.isEmpty else { return [] }
        if kept.count >= Self.most { kept.removeAll(keepingCapacity: true) }
        kept[journey.serial] = found
        return found
    }
}

extension RuleWalk {
    fileprivate func isOfSameChain(as other: RuleWalk) -> Bool {
        namespace == other.namespace && tableFamily == other.tableFamily && table == other.table && chain == other.chain
            && backend == other.backend
    }
}
