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

    private struct Edge: Hashable {
        var node: UInt32
        var value: UInt64
    }

    public private(set) var paths: [PathRecord] = []
    /// Journeys that belong to no path for want of room.
    public private(set) var unlisted: UInt64 = 0
    public private(set) var incomplete: UInt64 = 0
    public private(set) var own: UInt64 = 0
    private var flowTable: FlowTable
    private let limits: Limits
    /// The collector's endpoint, or those of the collectors whose recordings are read: whoever asks for a report shall not
    /// find the question in it.
    public private(set) var ownEndpoints: [OwnEndpoint]

    // A path is found by walking its routes, then its end, through a tree.
    private var edges: [Edge: UInt32] = [:]
    private var nodes: UInt32 = 1
    private var pathByNode: [UInt32: Int] = [:]
    private var lastPath = -1
    private var lastTuple: PacketTuple?

    private var recent: [JourneyRecord] = []
    private var nextRecent = 0

    public init(limits: Limits = Limits(), ownEndpoint: OwnEndpoint? = nil) {
        self.limits = limits
        ownEndpoints = ownEndpoint.map { [$0] } ?? []
        flowTable = FlowTable(capacity: limits.flows)
    }

    public var flows: [FlowRecord] { flowTable.flows }

    /// Adds a journey that has ended.
    ///
    /// - Returns: the index of its path, and which way of its connection the packet went; `nil` for a journey that is in no
    ///   report.
    @discardableResult
    public mutating func add(_ journey: Journey, history: EventHistory) -> (path: Int, direction: Direction)? {
        if isOwn(journey) {
            own += 1
            return nil
        }
        if journey.outcome == .incomplete { incomplete += 1 }
        guard let path = path(of: journey, history) else {
            unlisted += 1
            return nil
        }
        let (flow, direction) = flowTable.add(journey, path: path)
        let translations = journey.mayBeTranslated ? journey.translations(direction) : []
        if !translations.isEmpty { flowTable.note(translations, flow: flow, path: path) }
        let isNewTuple = path != lastPath || lastTuple != journey.packet.tuple
        lastPath = path
        lastTuple = journey.packet.tuple
        if paths[path].packets == 0 { paths[path].example.direction = direction }
        paths[path].count(journey, direction, translations, isNewTuple: isNewTuple)
        keep(journey, direction)
        return (path, direction)
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
            && journey.segments.allSatisfy { ownEndpoint.namespaces.contains($0.namespace) }
    }

    private mutating func path(of journey: Journey, _ history: EventHistory) -> Int? {
        if lastPath >= 0, paths[lastPath].isPath(of: journey) { return lastPath }
        var node: UInt32 = 0
        for segment in journey.segments { node = step(node, UInt64(segment.route)) }
        node = step(node, 1 << 63 | UInt64(journey.outcome.rawValue) << 8 | UInt64(journey.doubt.rawValue))
        if let known = pathByNode[node] { return known }
        guard paths.count < limits.paths else { return nil }
        let example = JourneyRecord(
            journey: journey, events: journey.segments.map { history.events(upTo: $0.lastEvent) }, direction: .original)
        pathByNode[node] = paths.count
        paths.append(
            PathRecord(
                routes: journey.segments.map(\.route), outcome: journey.outcome, doubt: journey.doubt,
                expected: journey.expected, firstSeen: journey.firstSeen, lastSeen: journey.lastSeen, example: example))
        return paths.count - 1
    }

    private mutating func step(_ node: UInt32, _ value: UInt64) -> UInt32 {
        let edge = Edge(node: node, value: value)
        if let next = edges[edge] { return next }
        let next = nodes
        nodes += 1
        edges[edge] = next
        return next
    }

    /// Writes into a ring whose slots keep their buffers, so that nothing is allocated once it is full.
    private mutating func keep(_ journey: Journey, _ direction: Direction) {
        if recent.count < limits.recentJourneys {
            recent.append(JourneyRecord(journey: journey, events: [], direction: direction))
            return
        }
        recent[nextRecent].journey.assign(journey)
        recent[nextRecent].direction = direction
        nextRecent = (nextRecent + 1) % recent.count
    }

    /// The latest journeys, oldest first, with their events as far as they are still known.
    public func recentJourneys(history: EventHistory) -> [JourneyRecord] {
        (recent[nextRecent...] + recent[..<nextRecent]).map { record in
            var record = record
            record.events = record.journey.segments.map { history.events(upTo: $0.lastEvent) }
            return record
        }
    }
}

extension Journey {
    /// Copies the values of `other` into the buffers that are there.
    fileprivate mutating func assign(_ other: Journey) {
        serial = other.serial
        segments.removeAll(keepingCapacity: true)
        segments.append(contentsOf: other.segments)
        outcome = other.outcome
        doubt = other.doubt
        isAmbiguous = other.isAmbiguous
        expected.removeAll(keepingCapacity: true)
        expected.append(contentsOf: other.expected)
        firstSeen = other.firstSeen
        lastSeen = other.lastSeen
        packet = other.packet
        timeToLive = other.timeToLive
        carries = other.carries
        carriedBy = other.carriedBy
    }

    /// Where addresses or ports were rewritten: within a segment, or between its last probe and the next segment.
    ///
    /// - Parameter direction: which way of its connection the packet goes, for namespaces where connection tracking did
    ///   not say.
    package func translations(_ direction: Direction) -> [TranslationRecord] {
        var found: [TranslationRecord] = []
        for (index, segment) in segments.enumerated() {
            let exit = index + 1 < segments.count ? segments[index + 1].entry : segment.exit
            let entry = segment.entry
            guard entry != exit else { continue }
            let isReply = (segment.direction ?? direction) == .reply
            if entry.destination != exit.destination || hasPort(entry) && entry.destinationPort != exit.destinationPort {
                let isPortOnly = entry.destination == exit.destination
                let hasPortChanged = entry.destinationPort != exit.destinationPort && hasPort(entry)
                found.append(
                    TranslationRecord(
                        kind: isReply ? .snatReply : .dnat, segment: index, from: entry.destination, to: exit.destination,
                        fromPort: hasPortChanged && (isPortOnly || !isReply) ? entry.destinationPort : 0,
                        toPort: hasPortChanged && (isPortOnly || !isReply) ? exit.destinationPort : 0))
            }
            if entry.source != exit.source || hasPort(entry) && entry.sourcePort != exit.sourcePort {
                let isPortOnly = entry.source == exit.source
                let hasPortChanged = entry.sourcePort != exit.sourcePort && hasPort(entry)
                found.append(
                    TranslationRecord(
                        kind: isReply ? .dnatReply : .snat, segment: index, from: entry.source, to: exit.source,
                        fromPort: hasPortChanged && (isPortOnly || isReply) ? entry.sourcePort : 0,
                        toPort: hasPortChanged && (isPortOnly || isReply) ? exit.sourcePort : 0))
            }
        }
        return found
    }

    /// Whether anything was rewritten on its way, at a glance.
    fileprivate var mayBeTranslated: Bool { segments.count > 1 || segments.contains { $0.entry != $0.exit } }

    private func hasPort(_ tuple: PacketTuple) -> Bool { !tuple.isICMP }
}

extension PathRecord {
    fileprivate func isPath(of journey: Journey) -> Bool {
        guard outcome == journey.outcome, doubt == journey.doubt, routes.count == journey.segments.count else { return false }
        for index in routes.indices where routes[index] != journey.segments[index].route { return false }
        return true
    }

    fileprivate mutating func count(
        _ journey: Journey, _ direction: Direction, _ met: [TranslationRecord], isNewTuple: Bool
    ) {
        packets += 1
        bytes += UInt64(journey.packet.length)
        if journey.isAmbiguous { ambiguous += 1 }
        if journey.outcome == .dropped {
            if journey.isSpent { spent += 1 }
            if journey.hasMartianSource { martian += 1 }
        }
        if direction == .original { originals += 1 } else { replies += 1 }
        firstSeen = min(firstSeen, journey.firstSeen)
        lastSeen = max(lastSeen, journey.lastSeen)
        protocols[journey.packet.tuple.transport, default: 0] += 1
        for translation in met {
            if let known = translations[translation] {
                translations[translation] = known + 1
            } else if translations.count < PathRecord.translationLimit {
                translations[translation] = 1
            }
        }
        guard isNewTuple else { return }
        for segment in journey.segments {
            for tuple in [segment.entry, segment.exit] {
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
    }
}
