internal import TraceModel

/// The paths met so far. Every journey changes plain numbers only, which are apart from the rest: a snapshot shares the records, and
/// the next journey copies numbers rather than a thousand records with all that they refer to.
public struct PathTable: Sendable {
    /// Sums over a path's journeys.
    public struct Counts: Sendable, BitwiseCopyable {
        public var packets: UInt64 = 0
        public var bytes: UInt64 = 0
        /// Packets that another packet's events may be part of.
        public var ambiguous: UInt64 = 0
        /// Dropped packets with no hops left to live.
        public var spent: UInt64 = 0
        /// Dropped packets whose source cannot come from a network.
        public var martian: UInt64 = 0
        /// Packets that went as their connection's first one did; the others are replies, or not known to be either.
        public var originals: UInt64 = 0
        public var replies: UInt64 = 0
        public var firstSeen: Int64
        public var lastSeen: Int64
    }

    private var records: [PathRecord] = []
    private var counts: [Counts] = []
    private var tallies: [UInt64] = []

    public init() {}

    public var count: Int { records.count }
    public var indices: Range<Int> { records.indices }

    /// Lent: records are large, and refer to much.
    public subscript(index: Int) -> PathRecord {
        _read { yield records[index] }
    }

    public func counts(_ index: Int) -> Counts { counts[index] }

    /// With how many packets each.
    public func protocols(_ index: Int) -> [(transport: UInt8, packets: UInt64)] {
        records[index].protocols.map { ($0.key, tallies[$0.tally]) }
    }

    /// With how many packets each.
    public func translations(_ index: Int) -> [(translation: TranslationRecord, packets: UInt64)] {
        records[index].translations.map { ($0.key, tallies[$0.tally]) }
    }

    // MARK: Adding

    mutating func append(_ record: PathRecord) {
        records.append(record)
        counts.append(Counts(firstSeen: record.example.journey.firstSeen, lastSeen: record.example.journey.lastSeen))
    }

    mutating func setExampleDirection(_ direction: Direction, _ index: Int) { records[index].example.direction = direction }

    /// The rule's text may have been read only after its first packet.
    mutating func note(_ decision: RuleDecision, _ index: Int) {
        if records[index].decision?.rule?.text == nil { records[index].decision = .rule(decision) }
    }

    /// The number under which packets of a protocol are counted, for `count`.
    mutating func tally(ofProtocol transport: UInt8, _ index: Int) -> Int {
        if let known = records[index].protocols.first(where: { $0.key == transport }) { return known.tally }
        tallies.append(0)
        records[index].protocols.append((transport, tallies.count - 1))
        return tallies.count - 1
    }

    /// The number under which packets with a translation are counted, for `count`; `nil` where the path has no room for it.
    mutating func tally(of translation: TranslationRecord, _ index: Int) -> Int? {
        if let known = records[index].translations.first(where: { $0.key == translation }) { return known.tally }
        guard records[index].translations.count < PathRecord.translationLimit else { return nil }
        tallies.append(0)
        records[index].translations.append((translation, tallies.count - 1))
        return tallies.count - 1
    }

    @inline(__always)
    mutating func count(_ tally: Int) { tallies[tally] += 1 }

    /// - Parameter isGuess: whether the direction is not to be counted.
    mutating func count(_ journey: Journey, _ direction: Direction, _ index: Int, isGuess: Bool = false) {
        counts[index].count(journey, isGuess ? nil : direction)
    }

    mutating func noteEndpoints(_ tuple: PacketTuple, _ index: Int) { records[index].noteEndpoints(tuple) }
}

extension PathTable.Counts {
    @inline(__always)
    fileprivate mutating func count(_ journey: Journey, _ direction: Direction?) {
        packets += 1
        bytes += UInt64(journey.packet.length)
        if journey.isAmbiguous { ambiguous += 1 }
        if journey.outcome == .dropped {
            if journey.isSpent { spent += 1 }
            if journey.hasMartianSource { martian += 1 }
        }
        switch direction {
        case .original?: originals += 1
        case .reply?: replies += 1
        case nil: break
        }
        firstSeen = min(firstSeen, journey.firstSeen)
        lastSeen = max(lastSeen, journey.lastSeen)
    }
}

extension PathRecord {
    fileprivate mutating func noteEndpoints(_ tuple: PacketTuple) {
        if addresses.count < PathRecord.endpointLimit {
            addresses.insert(tuple.source)
            addresses.insert(tuple.destination)
        }
        if ports.count < PathRecord.endpointLimit {
            ports.insert(tuple.sourcePort)
            ports.insert(tuple.destinationPort)
        }
    }
}
