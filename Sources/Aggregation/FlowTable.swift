public import TraceModel

/// A connection: its original and its reply packets, whatever translation did to the addresses.
public struct FlowRecord: Sendable {
    public struct Side: Sendable {
        /// Addresses and ports of its first packet, where that was first seen.
        public var tuple: PacketTuple
        public var packets: UInt64 = 0
        public var bytes: UInt64 = 0
        /// Indices of paths, at most `FlowRecord.pathLimit`.
        public var paths: [Int] = []
        public var outcomes = OutcomeCounts()
        /// TCP flags that any of its packets had.
        public var tcpFlags: TCPFlags = []
        /// TCP segments that were sent before: with data or SYN, and the sequence number and length of one of the four before.
        public var sentAgain: UInt64 = 0
        /// TCP segments with which this side told the other that its receive buffer is full.
        public var closedWindows: UInt64 = 0
        fileprivate var latestSegments: SIMD4<UInt32> = SIMD4(repeating: 0)
        public var latestJourney: UInt64 = 0
    }

    /// ICMP errors of one kind from one address about packets of the connection.
    public struct ErrorMessages: Sendable {
        /// One of them.
        public var packet: Packet
        public var packets: UInt64 = 0
        public var latestJourney: UInt64 = 0
        /// The path of the latest, by its index.
        public var path: Int

        func isLike(_ other: Packet) -> Bool {
            packet.tuple.source == other.tuple.source && packet.tuple.transport == other.tuple.transport
                && packet.icmpType == other.icmpType && packet.icmpCode == other.icmpCode
        }
    }

    public static let pathLimit = 16
    public static let errorLimit = 8
    public static let translationLimit = 8

    public var serial: UInt64
    public var original: Side
    public var reply: Side?
    /// What its own packets met, with the path that each is of; at most `FlowRecord.translationLimit`.
    public var translations: [(path: Int, translation: TranslationRecord)] = []
    /// ICMP errors about its packets, at most `FlowRecord.errorLimit` kinds.
    public internal(set) var errors: [ErrorMessages] = []
    public var firstSeen: Int64
    public var lastSeen: Int64
    /// Whether the first packet seen opened the connection; else it may have been a reply.
    public var isDirectionKnown: Bool
    /// Whether its sides have changed places.
    fileprivate var isTurned = false
    fileprivate var aliases: [FlowTable.Key] = []

    /// Whether a TCP connection was asked for, and nothing came back but a RST.
    public var isRefused: Bool {
        guard original.tuple.transport == TransportProtocol.tcp, let reply, isDirectionKnown else { return false }
        return original.tcpFlags.contains(.syn) && reply.tcpFlags.contains(.rst) && !reply.tcpFlags.contains(.syn)
    }

    /// Another number once its place is another flow's, or its sides have changed places.
    var version: UInt64 { serial << 1 | (isTurned ? 1 : 0) }
}

/// Ties journeys to connections: every pair of addresses that a packet had in a namespace names its connection there, in
/// both directions, as it does in the kernel's own connection tracking.
package struct FlowTable: Sendable {
    struct Key: Sendable {
        var namespace: Int
        /// In the one of its two directions that both share.
        var tuple: PacketTuple
    }

    private struct Entry: Sendable, BitwiseCopyable {
        var flow: Int
        /// Whether the normalized tuple goes as the original does.
        var isOriginal: Bool
    }

    package private(set) var flows: [FlowRecord] = []
    private var entries = ConnectionMap<Entry>()
    private let capacity: Int
    private var oldest = 0
    private var serial: UInt64 = 0
    /// ICMP errors whose packet's connection has no flow yet: an error mostly ends before the packet that it is about. By namespace and
    /// `Packet.quotedFlow`, at most `mostEarly`; past that all are forgotten.
    private var earlyErrors: [QuotedKey: [FlowRecord.ErrorMessages]] = [:]
    private static let mostEarly = 1 << 10

    private struct QuotedKey: Hashable {
        var namespace: Int
        var flow: UInt64
    }

    /// - Parameter capacity: flows kept; past it the oldest gives way.
    package init(capacity: Int) { self.capacity = capacity }

    package struct Added {
        /// An ICMP error belongs to the connection that it is about, without being one of its packets: `nil` then.
        package var flow: Int?
        /// Which way of the flow the journey goes.
        package var direction: Direction
        /// Whether nothing but the looks of the packet says so.
        package var isGuess: Bool
        /// Whether it is a TCP segment that was sent before.
        package var isSentAgain = false
    }

    /// Adds a journey to its flow.
    package mutating func add(_ journey: Journey, path: Int) -> Added {
        let told = journey.legs.lazy.compactMap(\.direction).first
        if journey.packet.quotedFlow != 0 {
            addError(journey, path: path)
            // It goes against the packet that it is about.
            return Added(flow: nil, direction: told ?? .reply, isGuess: told == nil)
        }
        let isReplyType = Self.isReply(journey.packet)
        var found: (flow: Int, direction: Direction)?
        for leg in journey.legs {
            found = find(leg.entry, leg.namespace, flip: isReplyType)
            if found == nil, leg.exit != leg.entry {
                found = find(leg.exit, leg.namespace, flip: isReplyType)
            }
            if found != nil { break }
        }
        let flow: Int
        let direction: Direction
        if let found {
            flow = found.flow
            let begins = Self.begins(journey.packet)
            // The packet sent first may have ended last.
            let isFirst = begins || journey.firstSeen < flows[flow].firstSeen
            let isTurned = found.direction == .reply && !flows[flow].isDirectionKnown && isFirst
            if isTurned { turn(flow) }
            direction = isTurned ? .original : found.direction
            if begins, direction == .original { flows[flow].isDirectionKnown = true }
        } else {
            // An error whose quotation is cut short.
            direction = told ?? (isReplyType || journey.packet.isICMPError ? .reply : .original)
            flow = open(journey, direction)
        }
        remember(journey, flow, direction, flip: isReplyType)
        let isSentAgain = count(journey, flow, direction, path)
        let isGuess = direction == .reply && !flows[flow].isDirectionKnown && flows[flow].original.packets == 0
        return Added(flow: flow, direction: direction, isGuess: isGuess, isSentAgain: isSentAgain)
    }

    private mutating func addError(_ journey: Journey, path: Int) {
        guard let namespace = journey.legs.first?.namespace else { return }
        let quoted = journey.packet.quotedFlow
        if let entry = entries.value(flow: quoted, in: namespace) {
            flows[entry.flow].errors.note(journey.packet, journey.serial, path: path)
            return
        }
        if earlyErrors.count >= Self.mostEarly { earlyErrors.removeAll(keepingCapacity: true) }
        earlyErrors[QuotedKey(namespace: namespace, flow: quoted), default: []].note(journey.packet, journey.serial, path: path)
    }

    /// Adds a journey that differs from one that was added before only in when it was.
    ///
    /// - Returns: whether it is a TCP segment that was sent before.
    mutating func addAgain(_ journey: Journey, flow: Int, direction: Direction) -> Bool {
        flows[flow].count(journey, direction)
    }

    /// A packet that was sent before has ended after one that was taken for the connection's first.
    private mutating func turn(_ flow: Int) {
        let original = flows[flow].original
        flows[flow].original = flows[flow].reply ?? FlowRecord.Side(tuple: original.tuple.reversed)
        flows[flow].reply = original.packets > 0 ? original : nil
        flows[flow].isTurned.toggle()
        for alias in flows[flow].aliases {
            guard let entry = entries[alias.tuple, in: alias.namespace], entry.flow == flow else { continue }
            entries[alias.tuple, in: alias.namespace] = Entry(flow: flow, isOriginal: !entry.isOriginal)
        }
    }

    private func find(_ tuple: PacketTuple, _ namespace: Int, flip: Bool) -> (flow: Int, direction: Direction)? {
        let (key, isForward) = Self.normalized(tuple, namespace: namespace, flip: flip)
        guard let entry = entries[key.tuple, in: key.namespace] else { return nil }
        return (entry.flow, entry.isOriginal == isForward ? .original : .reply)
    }

    /// Adds the translations that a journey of the flow met.
    mutating func note(_ translations: [TranslationRecord], flow: Int, path: Int) {
        for translation in translations where flows[flow].translations.count < FlowRecord.translationLimit {
            let isKnown = flows[flow].translations.contains {
                $0.translation.kind == translation.kind && $0.translation.from == translation.from
                    && $0.translation.to == translation.to && $0.translation.toPort == translation.toPort
            }
            if !isKnown { flows[flow].translations.append((path, translation)) }
        }
    }

    private mutating func open(_ journey: Journey, _ direction: Direction) -> Int {
        serial += 1
        let tuple = journey.packet.tuple
        let opens =
            journey.legs.contains(where: \.opensConnection) || journey.legs.contains { $0.direction != nil }
            || Self.begins(journey.packet) || Self.answers(journey.packet)
        let record = FlowRecord(
            serial: serial, original: FlowRecord.Side(tuple: direction == .original ? tuple : tuple.reversed), reply: nil,
            firstSeen: journey.firstSeen, lastSeen: journey.lastSeen, isDirectionKnown: opens)
        guard flows.count >= capacity else {
            flows.append(record)
            return flows.count - 1
        }
        let index = oldest
        oldest = (oldest + 1) % capacity
        for alias in flows[index].aliases where entries[alias.tuple, in: alias.namespace]?.flow == index {
            entries[alias.tuple, in: alias.namespace] = nil
        }
        flows[index] = record
        return index
    }

    private mutating func remember(_ journey: Journey, _ flow: Int, _ direction: Direction, flip: Bool) {
        for leg in journey.legs {
            remember(leg.entry, leg.namespace, flow, direction, flip: flip)
            if leg.exit != leg.entry { remember(leg.exit, leg.namespace, flow, direction, flip: flip) }
        }
    }

    private mutating func remember(
        _ tuple: PacketTuple, _ namespace: Int, _ flow: Int, _ direction: Direction, flip: Bool
    ) {
        let (key, isForward) = Self.normalized(tuple, namespace: namespace, flip: flip)
        guard flows[flow].aliases.count < 64, entries[key.tuple, in: key.namespace] == nil else { return }
        entries[key.tuple, in: key.namespace] = Entry(flow: flow, isOriginal: isForward == (direction == .original))
        flows[flow].aliases.append(key)
        guard !earlyErrors.isEmpty,
            let errors = earlyErrors.removeValue(forKey: QuotedKey(namespace: namespace, flow: key.tuple.flow))
        else { return }
        for error in errors {
            flows[flow].errors.note(error.packet, error.latestJourney, path: error.path, packets: error.packets)
        }
    }

    private mutating func count(_ journey: Journey, _ flow: Int, _ direction: Direction, _ path: Int) -> Bool {
        if direction == .original {
            // A reply may have ended before its original: what the original looked like was only inferred until now.
            if flows[flow].original.packets == 0 { flows[flow].original.tuple = journey.packet.tuple }
            flows[flow].original.note(path)
        } else {
            if flows[flow].reply == nil { flows[flow].reply = FlowRecord.Side(tuple: journey.packet.tuple) }
            flows[flow].reply?.note(path)
        }
        return flows[flow].count(journey, direction)
    }

    /// The tuple in the one of its two directions that both share, and whether it was that one already.
    private static func normalized(_ tuple: PacketTuple, namespace: Int, flip: Bool) -> (Key, isForward: Bool) {
        let source = (tuple.source.high, tuple.source.low, UInt64(tuple.sourcePort))
        let destination = (tuple.destination.high, tuple.destination.low, UInt64(tuple.destinationPort))
        if source == destination { return (Key(namespace: namespace, tuple: tuple), !flip) }
        let isForward = source < destination
        return (Key(namespace: namespace, tuple: isForward ? tuple : tuple.reversed), isForward)
    }

    /// Packets that can only begin a conversation: ICMP queries, and TCP's SYN without ACK.
    private static func begins(_ packet: Packet) -> Bool {
        switch packet.tuple.transport {
        case TransportProtocol.icmp: [8, 13, 15, 17].contains(packet.icmpType)
        case TransportProtocol.icmpv6: packet.icmpType == 128
        case TransportProtocol.tcp: packet.tcpFlags.opensConnection
        default: false
        }
    }

    /// Packets that can only be answers: ICMP replies (RFC 792, RFC 4443), and TCP's SYN-ACK (RFC 9293). RST-ACK is none: either side
    /// may send it at any time.
    private static func answers(_ packet: Packet) -> Bool {
        isReply(packet) && (packet.tuple.transport != TransportProtocol.tcp || packet.tcpFlags.acceptsConnection)
    }

    /// What mostly is an answer: besides these TCP's RST-ACK.
    static func isReply(_ packet: Packet) -> Bool {
        switch packet.tuple.transport {
        case TransportProtocol.icmp: [0, 14, 16, 18].contains(packet.icmpType)
        case TransportProtocol.icmpv6: packet.icmpType == 129
        case TransportProtocol.tcp: packet.tcpFlags.acceptsConnection || packet.tcpFlags.refusesConnection
        default: false
        }
    }
}

extension [FlowRecord.ErrorMessages] {
    fileprivate mutating func note(_ packet: Packet, _ journey: UInt64, path: Int, packets: UInt64 = 1) {
        var index = firstIndex { $0.isLike(packet) }
        if index == nil, count < FlowRecord.errorLimit {
            index = endIndex
            append(FlowRecord.ErrorMessages(packet: packet, path: path))
        }
        guard let index else { return }
        self[index].packets += packets
        self[index].latestJourney = journey
        self[index].path = path
    }
}

extension FlowRecord {
    /// - Returns: whether it is a segment that was counted before.
    fileprivate mutating func count(_ journey: Journey, _ direction: Direction) -> Bool {
        firstSeen = min(firstSeen, journey.firstSeen)
        lastSeen = max(lastSeen, journey.lastSeen)
        return direction == .original ? original.count(journey) : reply?.count(journey) ?? false
    }
}

extension FlowRecord.Side {
    /// - Returns: whether it is a segment that was counted before.
    fileprivate mutating func count(_ journey: Journey) -> Bool {
        packets += 1
        bytes += UInt64(journey.packet.length)
        outcomes.count(journey.outcome)
        tcpFlags.formUnion(journey.packet.tcpFlags)
        latestJourney = journey.serial
        // An incomplete journey may be the second half of a packet whose first half was counted: that is no segment sent again.
        if journey.packet.segment.traits.contains(.isRead), journey.outcome != .incomplete {
            return count(segment: journey.packet)
        }
        return false
    }

    private mutating func count(segment packet: Packet) -> Bool {
        if packet.segment.traits.contains(.closesWindow) { closedWindows += 1 }
        guard packet.segment.traits.contains(.hasData) || packet.tcpFlags.contains(.syn) else { return false }
        let key = UInt32(packet.segment.sequence) << 16 | UInt32(truncatingIfNeeded: packet.length) & 0xFFFF
        if (0..<4).contains(where: { latestSegments[$0] == key }) {
            sentAgain += 1
            return true
        }
        latestSegments = SIMD4(key, latestSegments[0], latestSegments[1], latestSegments[2])
        return false
    }

    fileprivate mutating func note(_ path: Int) {
        if paths.last != path, paths.count < FlowRecord.pathLimit, !paths.contains(path) { paths.append(path) }
    }
}
