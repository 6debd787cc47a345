public import TraceModel

/// Adds journeys up to paths and flows, and keeps the latest for showing them.
public struct TraceAggregate: Sendable {
    public struct Limits: Sendable {
        public var paths = 10_000
        public var flows = 1 << 14
        public var recentJourneys = 1 << 10

        public init() {}
    }

    /// A TCP port on the loopback addresses of a namespace, which may be reported in two ways.
    public struct OwnEndpoint: Sendable, Equatable {
        /// Indices in the layout.
        public var namespaces: [Int]
        public var port: UInt16

        public init(namespaces: [Int], port: UInt16) {
            self.namespaces = namespaces
            self.port = port
        }
    }

    public private(set) var paths = PathTable()
    /// Journeys that belong to no path for want of room.
    public private(set) var unlisted: UInt64 = 0
    public private(set) var incomplete: UInt64 = 0
    public private(set) var own: UInt64 = 0
    public private(set) var transitTimes = TransitTimes()
    private var flowTable: FlowTable
    private let limits: Limits
    /// The collector's endpoint, or those of the collectors whose recordings are read: whoever asks for a report shall not
    /// find the question in it.
    public private(set) var ownEndpoints: [OwnEndpoint]

    private var index = PathIndex()
    private var familiar = AggregationCache()
    /// Paths and packets whose addresses were noted lately, by a few bits of their hash.
    private var noted = [UInt64](repeating: 0, count: 1 << 12)
    /// Translations of the present journey; the buffer is reused.
    private var translations: [TranslationRecord] = []
    /// Tallies of the present journey; the buffer is reused.
    private var tallies: [Int] = []

    private var recent: [JourneyRecord] = []
    private var nextRecent = 0

    public init(limits: Limits = Limits(), ownEndpoint: OwnEndpoint? = nil) {
        self.limits = limits
        ownEndpoints = ownEndpoint.map { [$0] } ?? []
        flowTable = FlowTable(capacity: limits.flows)
    }

    public var flows: [FlowRecord] { flowTable.flows }
    package var flowCount: Int { flowTable.flows.count }

    /// What dropped the packets that came before a trace was armed, by path.
    package var inferredDecisions: [Int: RuleDecision] { InferredDecisions.find(paths, flowTable.flows) }

    public struct Added: Sendable {
        /// Index of its path.
        public var path: Int
        /// Which way of its connection the packet went.
        public var direction: Direction
        /// Whether it is a TCP segment that was sent before.
        public var isSentAgain: Bool
    }

    /// Adds a journey that has ended.
    ///
    /// - Returns: `nil` for a journey that is in no report.
    @discardableResult
    public mutating func add(_ journey: Journey, history: EventHistory) -> Added? {
        if isOwn(journey) {
            own += 1
            return nil
        }
        if journey.outcome == .incomplete { incomplete += 1 }
        transitTimes.measure(journey, history)
        let signature = AggregationCache.signature(journey)
        if journey.decision == nil, let kind = familiar.kind(signature), flowTable.flows[Int(kind.flow)].version == kind.version
        {
            let isSentAgain = flowTable.addAgain(journey, flow: Int(kind.flow), direction: kind.direction)
            paths.count(journey, kind.direction, Int(kind.path))
            kind.forEachTally { paths.count($0) }
            keep(journey, kind.direction, isSentAgain)
            return Added(path: Int(kind.path), direction: kind.direction, isSentAgain: isSentAgain)
        }
        guard let path = path(of: journey, history) else {
            unlisted += 1
            return nil
        }
        if let decision = journey.decision?.rule { paths.note(decision, path) }
        let added = flowTable.add(journey, path: path)
        let (flow, direction) = (added.flow, added.direction)
        translations.removeAll(keepingCapacity: true)
        journey.addTranslations(direction, to: &translations)
        if let flow, !translations.isEmpty { flowTable.note(translations, flow: flow, path: path) }
        if paths.counts(path).packets == 0 { paths.setExampleDirection(direction, path) }
        paths.count(journey, direction, path, isGuess: added.isGuess)
        findTallies(journey, path)
        for tally in tallies { paths.count(tally) }
        noteEndpoints(journey, path)
        keep(journey, direction, added.isSentAgain)
        // Journeys like it are known from here on.
        if let flow, tallies.count <= AggregationCache.mostTallies, !added.isGuess, journey.decision == nil {
            familiar.insert(
                AggregationCache.Kind(
                    path: path, flow: flow, version: flowTable.flows[flow].version, direction: direction, tallies: tallies),
                signature)
        }
        return Added(path: path, direction: direction, isSentAgain: added.isSentAgain)
    }

    /// Where else a journey is counted: by protocol, and by what translated it, as far as its path has room.
    private mutating func findTallies(_ journey: Journey, _ path: Int) {
        tallies.removeAll(keepingCapacity: true)
        tallies.append(paths.tally(ofProtocol: journey.packet.tuple.transport, path))
        for translation in translations {
            if let tally = paths.tally(of: translation, path) { tallies.append(tally) }
        }
    }

    /// Adds an endpoint, unless it is there.
    public mutating func addOwn(_ endpoint: OwnEndpoint) {
        if !ownEndpoints.contains(endpoint) { ownEndpoints.append(endpoint) }
    }

    /// Whether it is of a collector's own endpoint.
    package func isOwn(_ journey: Journey) -> Bool { ownEndpoints.contains { isOf($0, journey) } }

    private func isOf(_ ownEndpoint: OwnEndpoint, _ journey: Journey) -> Bool {
        let tuple = journey.packet.tuple
        return tuple.transport == TransportProtocol.tcp
            && (tuple.sourcePort == ownEndpoint.port || tuple.destinationPort == ownEndpoint.port)
            && tuple.source.isLoopback && tuple.destination.isLoopback
            && journey.legs.allSatisfy { ownEndpoint.namespaces.contains($0.namespace) }
    }

    private mutating func path(of journey: Journey, _ history: EventHistory) -> Int? {
        if let known = index.path(of: journey) { return known }
        guard paths.count < limits.paths else { return nil }
        let example = JourneyRecord(
            journey: journey, details: journey.legs.map { history.details(upTo: $0.lastEvent) }, direction: .original)
        index.insert(journey)
        paths.append(PathRecord(example: example))
        return paths.count - 1
    }

    /// Adds a journey's addresses and ports to those of its path, unless they are there already.
    private mutating func noteEndpoints(_ journey: Journey, _ path: Int) {
        for index in journey.legs.indices {
            let entry = journey.legs[index].entry
            let exit = journey.legs[index].exit
            if index == 0 || entry != journey.legs[index - 1].exit { noteEndpoints(entry, path) }
            if exit != entry { noteEndpoints(exit, path) }
        }
    }

    private mutating func noteEndpoints(_ tuple: PacketTuple, _ path: Int) {
        let key = tuple.mixed ^ UInt64(path + 1) &* 0x9E37_79B9_7F4A_7C15
        let slot = Int(truncatingIfNeeded: key) & (noted.count - 1)
        guard noted[slot] != key else { return }
        noted[slot] = key
        paths.noteEndpoints(tuple, path)
    }

    /// Writes into a ring whose slots keep their buffers, so that nothing is allocated once it is full.
    private mutating func keep(_ journey: Journey, _ direction: Direction, _ isSentAgain: Bool) {
        if recent.count < limits.recentJourneys {
            recent.append(JourneyRecord(journey: journey, details: [], direction: direction))
            if isSentAgain { recent[recent.count - 1].journey.packet.segment.traits.insert(.sentAgain) }
            return
        }
        recent[nextRecent].journey.assign(journey)
        recent[nextRecent].direction = direction
        if isSentAgain { recent[nextRecent].journey.packet.segment.traits.insert(.sentAgain) }
        nextRecent = (nextRecent + 1) % recent.count
    }

    /// The latest journeys, oldest first, with their events as far as they are still known.
    public func recentJourneys(history: EventHistory) -> [JourneyRecord] {
        (recent[nextRecent...] + recent[..<nextRecent]).map { record in
            var record = record
            record.details = record.journey.legs.map { history.details(upTo: $0.lastEvent) }
            return record
        }
    }
}

extension Journey {
    /// Copies the values of `other` into the buffers that are there.
    fileprivate mutating func assign(_ other: Journey) {
        serial = other.serial
        legs.removeAll(keepingCapacity: true)
        legs.append(contentsOf: other.legs)
        outcome = other.outcome
        incompleteReason = other.incompleteReason
        isAmbiguous = other.isAmbiguous
        if !expected.isEmpty { expected.removeAll(keepingCapacity: true) }
        if !other.expected.isEmpty { expected.append(contentsOf: other.expected) }
        firstSeen = other.firstSeen
        lastSeen = other.lastSeen
        lastEvent = other.lastEvent
        // Most have none.
        if decision != nil || other.decision != nil { decision = other.decision }
        packet = other.packet
        timeToLive = other.timeToLive
        carries = other.carries
        carriedBy = other.carriedBy
    }

    /// Where addresses or ports were rewritten: within a leg, or between its last probe and the next leg.
    ///
    /// - Parameter direction: which way of its connection the packet goes, for namespaces where connection tracking did
    ///   not say.
    package func translations(_ direction: Direction) -> [TranslationRecord] {
        var found: [TranslationRecord] = []
        addTranslations(direction, to: &found)
        return found
    }

    fileprivate func addTranslations(_ direction: Direction, to found: inout [TranslationRecord]) {
        for index in legs.indices {
            let exit = index + 1 < legs.count ? legs[index + 1].entry : legs[index].exit
            let entry = legs[index].entry
            guard entry != exit else { continue }
            let isReply = (legs[index].direction ?? direction) == .reply
            if entry.destination != exit.destination || hasPort(entry) && entry.destinationPort != exit.destinationPort {
                let isPortOnly = entry.destination == exit.destination
                let hasPortChanged = entry.destinationPort != exit.destinationPort && hasPort(entry)
                found.append(
                    TranslationRecord(
                        kind: isReply ? .snatReply : .dnat, leg: index, from: entry.destination, to: exit.destination,
                        fromPort: hasPortChanged && (isPortOnly || !isReply) ? entry.destinationPort : 0,
                        toPort: hasPortChanged && (isPortOnly || !isReply) ? exit.destinationPort : 0))
            }
            if entry.source != exit.source || hasPort(entry) && entry.sourcePort != exit.sourcePort {
                let isPortOnly = entry.source == exit.source
                let hasPortChanged = entry.sourcePort != exit.sourcePort && hasPort(entry)
                found.append(
                    TranslationRecord(
                        kind: isReply ? .dnatReply : .snat, leg: index, from: entry.source, to: exit.source,
                        fromPort: hasPortChanged && (isPortOnly || isReply) ? entry.sourcePort : 0,
                        toPort: hasPortChanged && (isPortOnly || isReply) ? exit.sourcePort : 0))
            }
        }
    }

    private func hasPort(_ tuple: PacketTuple) -> Bool { !tuple.isICMP }
}
