package import TraceModel
internal import WireFormat

/// A message from a collector to its recorder.
package enum RecordItem: Sendable {
    case events(RecordedDatagram)
    /// A fact that the correlator was told beside events.
    case note(RecordedNote)
    /// - Parameter ownPort: of the collector's endpoint, with the namespace that it is in.
    case layout(Layout, ownPort: OwnPort?)
    /// A leg (`JourneyLeg.firstEvent`) is part of a journey that took `path`; 0 for one that is in no report.
    case ended(leg: UInt64, path: UInt64)
}

/// Where the collector served HTTP on loopback: that traffic is in no report.
package struct OwnPort: Codable, Sendable, Equatable {
    /// Indices in the layout.
    package var namespaces: [Int]
    package var port: UInt16

    package init(namespaces: [Int], port: UInt16) {
        self.namespaces = namespaces
        self.port = port
    }
}

/// A datagram of NFLOG, as received.
package struct RecordedDatagram: Sendable {
    package var bytes: [UInt8]
    package var namespace: Int
    /// Microseconds since 1970: when it was received.
    package var time: Int64
    /// The leg of each message, `UInt64.max` for one that belongs to none.
    package var tags: [UInt64]

    package init(_ bytes: RawSpan, namespace: Int, time: Int64, tags: [UInt64]) {
        self.bytes = unsafe bytes.withUnsafeBytes { unsafe Array($0) }
        self.namespace = namespace
        self.time = time
        self.tags = tags
    }
}

/// Events that are in no file of a recording, because it could not be written for a while.
package struct RecordingGap: Equatable, Sendable {
    /// Microseconds since 1970: events received before are not missing on account of this.
    package var since: Int64
    package var events: UInt64

    package init(since: Int64, events: UInt64) {
        self.since = since
        self.events = events
    }
}

/// Why a file of a recording ends.
package enum RecordingEnd: UInt8, Sendable {
    /// The recorder was closed.
    case closed
    /// Another file follows, and nothing is missing between them.
    case continued
    /// `RecordingLimits.total` is reached.
    case limit
    /// It could not be written.
    case failed
}

/// A fact that a correlator learns beside events, and how a recording's files belong together. Its form in a file, all numbers
/// little-endian: one byte kind, one byte flag, two bytes namespace, then two tuples for a connection, or numbers of eight bytes.
package enum RecordedNote: Equatable, Sendable {
    case connection(namespace: Int, original: PacketTuple, reply: PacketTuple, isNew: Bool)
    /// Events of the namespace were lost.
    case loss(namespace: Int)
    /// Events reported before this time (microseconds since 1970) were received before the events that follow, from all
    /// namespaces.
    case complete(Int64)
    /// A section begins, and will end with `end`: one that does not was cut off. Sections of earlier versions have neither.
    ///
    /// - Parameters:
    ///   - part: number of the recording's file, from 1.
    ///   - time: when the latest event before it was received, in microseconds since 1970.
    ///   - gap: events missing before it.
    case begin(part: UInt64, time: Int64, gap: RecordingGap?)
    /// - Parameters:
    ///   - time: microseconds since 1970.
    ///   - leftOut: events of the whole recording so far that are in no file, because writing did not keep up.
    case end(RecordingEnd, time: Int64, leftOut: UInt64)
    /// A rule trace told what dropped a packet.
    case drop(namespace: Int, RecordedTrace)
    /// A rule trace told which rules a packet met in a base chain.
    case walk(namespace: Int, RecordedTrace)
    /// The text of a rule that packets met was read.
    ///
    /// - Parameter json: of `RecordedRule`.
    case rule(namespace: Int, json: [UInt8])
    /// The kernel told why it dropped a packet.
    case kernelDrop(KernelDrop)
    /// More drops of the kernel than are recorded came up to this time (microseconds since 1970).
    case kernelDropsMissing(Int64)
    /// The routing tables of a namespace answered.
    case route(namespace: Int, RecordedRoute)
    /// By how much the kernel's counters of drops have risen in a namespace since it began to be followed.
    ///
    /// - Parameter json: of `DropCounters`.
    case counters(namespace: Int, json: [UInt8])
    /// Routes of a namespace changed, not before this time (microseconds since 1970).
    case routesChanged(namespace: Int, after: Int64)

    /// When it was made, in microseconds since 1970; `nil` where it does not say.
    package var time: Int64? {
        switch self {
        case .complete(let time), .begin(_, let time, _), .end(_, let time, _): time
        case .connection, .loss, .drop, .kernelDrop, .kernelDropsMissing, .route, .routesChanged, .walk, .rule, .counters: nil
        }
    }

    private static let tupleLength = 40

    package var bytes: [UInt8] {
        switch self {
        case .connection(let namespace, let original, let reply, let isNew):
            [1, isNew ? 1 : 0] + Self.little(UInt64(namespace), 2) + Self.encode(original) + Self.encode(reply)
        case .loss(let namespace):
            [2, 0] + Self.little(UInt64(namespace), 2)
        case .complete(let time):
            [3, 0, 0, 0] + Self.little(UInt64(bitPattern: time), 8)
        case .begin(let part, let time, let gap):
            [4, gap == nil ? 0 : 1, 0, 0] + Self.little(part, 8) + Self.little(UInt64(bitPattern: time), 8)
                + Self.little(UInt64(bitPattern: gap?.since ?? 0), 8) + Self.little(gap?.events ?? 0, 8)
        case .end(let reason, let time, let leftOut):
            [5, reason.rawValue, 0, 0] + Self.little(UInt64(bitPattern: time), 8) + Self.little(leftOut, 8)
        case .drop(let namespace, let trace): [6, 0] + Self.little(UInt64(namespace), 2) + Self.encode(trace)
        case .walk(let namespace, let trace): [11, 0] + Self.little(UInt64(namespace), 2) + Self.encode(trace)
        case .rule(let namespace, let json): [12, 0] + Self.little(UInt64(namespace), 2) + json
        case .counters(let namespace, let json): [13, 0] + Self.little(UInt64(namespace), 2) + json
        case .kernelDropsMissing(let time): [8, 0, 0, 0] + Self.little(UInt64(bitPattern: time), 8)
        case .route(let namespace, let route):
            [9, 0] + Self.little(UInt64(namespace), 2) + Self.little(UInt64(bitPattern: route.since), 8)
                + Self.little(UInt64(bitPattern: route.asked), 8) + Self.encode(route.tuple)
                + Self.little(UInt64(route.inInterface), 4) + Self.little(UInt64(route.mark), 4) + route.decision
        case .routesChanged(let namespace, let time):
            [10, 0] + Self.little(UInt64(namespace), 2) + Self.little(UInt64(bitPattern: time), 8)
        case .kernelDrop(let drop):
            [7, Self.code(drop.decision.route), drop.family.rawValue, drop.endpoints == nil ? 0 : 1]
                + Self.little(UInt64(bitPattern: drop.time), 8) + Self.encode(drop.tuple)
                + Array("\(drop.decision.reason) \(drop.decision.function)".utf8)
        }
    }

    /// - Returns: `nil` for bytes that are no note of a known kind.
    package init?(_ bytes: RawSpan, _ range: Range<Int>) {
        guard range.count >= 4 else { return nil }
        let start = range.lowerBound
        let namespace = Int(bytes.byte(start + 2)) | Int(bytes.byte(start + 3)) << 8
        switch bytes.byte(start) {
        case 1:
            guard range.count >= 4 + 2 * Self.tupleLength, let original = Self.tuple(bytes, start + 4),
                let reply = Self.tuple(bytes, start + 4 + Self.tupleLength)
            else { return nil }
            self = .connection(
                namespace: namespace, original: original, reply: reply, isNew: bytes.byte(start + 1) != 0)
        case 2: self = .loss(namespace: namespace)
        case 3:
            guard range.count >= 12 else { return nil }
            self = .complete(Self.time(bytes, start + 4))
        case 4:
            guard range.count >= 36 else { return nil }
            let gap = RecordingGap(since: Self.time(bytes, start + 20), events: bytes.little64(start + 28))
            self = .begin(
                part: bytes.little64(start + 4), time: Self.time(bytes, start + 12),
                gap: bytes.byte(start + 1) == 0 ? nil : gap)
        case 5:
            guard range.count >= 20, let reason = RecordingEnd(rawValue: bytes.byte(start + 1)) else { return nil }
            self = .end(reason, time: Self.time(bytes, start + 4), leftOut: bytes.little64(start + 12))
        case 6:
            guard let trace = Self.trace(bytes, range) else { return nil }
            self = .drop(namespace: namespace, trace)
        case 11:
            guard let trace = Self.trace(bytes, range) else { return nil }
            self = .walk(namespace: namespace, trace)
        case 12: self = .rule(namespace: namespace, json: (start + 4..<range.upperBound).map { bytes.byte($0) })
        case 13: self = .counters(namespace: namespace, json: (start + 4..<range.upperBound).map { bytes.byte($0) })
        case 7:
            let text = start + 12 + Self.tupleLength
            guard range.count > text - start, let family = AddressFamily(rawValue: bytes.byte(start + 2)),
                let tuple = Self.tuple(bytes, start + 12)
            else { return nil }
            let names = String(decoding: (text..<range.upperBound).map { bytes.byte($0) }, as: UTF8.self)
                .split(separator: " ", maxSplits: 1, omittingEmptySubsequences: false)
            let endpoints = KernelDrop.Endpoints(
                source: tuple.source, destination: tuple.destination, sourcePort: tuple.sourcePort,
                destinationPort: tuple.destinationPort)
            self = .kernelDrop(
                KernelDrop(
                    time: Self.time(bytes, start + 4), family: family,
                    decision: KernelDecision(
                        reason: String(names[0]), function: names.count > 1 ? String(names[1]) : "",
                        route: Self.route(bytes.byte(start + 1))),
                    endpoints: bytes.byte(start + 3) == 0 ? nil : endpoints))
        case 8:
            guard range.count >= 12 else { return nil }
            self = .kernelDropsMissing(Self.time(bytes, start + 4))
        case 9:
            let fields = start + 20 + Self.tupleLength
            guard range.count >= fields - start + 8, let tuple = Self.tuple(bytes, start + 20) else { return nil }
            self = .route(
                namespace: namespace,
                RecordedRoute(
                    since: Self.time(bytes, start + 4), asked: Self.time(bytes, start + 12), tuple: tuple,
                    inInterface: bytes.little32(fields), mark: bytes.little32(fields + 4),
                    decision: (fields + 8..<range.upperBound).map { bytes.byte($0) }))
        case 10:
            guard range.count >= 12 else { return nil }
            self = .routesChanged(namespace: namespace, after: Self.time(bytes, start + 4))
        default: return nil
        }
    }

    /// In files: their numbers must not change.
    private static let routes: [KernelDecision.RouteFailure?] = [nil, .noRoute, .blackhole, .prohibit, .unreachable]

    private static func code(_ route: KernelDecision.RouteFailure?) -> UInt8 { UInt8(routes.firstIndex(of: route) ?? 0) }

    private static func route(_ code: UInt8) -> KernelDecision.RouteFailure? {
        Int(code) < routes.count ? routes[Int(code)] : nil
    }

    private static func time(_ bytes: RawSpan, _ offset: Int) -> Int64 {
        TimeBounds.clamp(Int64(bitPattern: bytes.little64(offset)))
    }

    private static func little(_ value: UInt64, _ count: Int) -> [UInt8] {
        (0..<count).map { UInt8(truncatingIfNeeded: value >> UInt64(8 * $0)) }
    }

    private static func encode(_ trace: RecordedTrace) -> [UInt8] {
        little(UInt64(bitPattern: trace.time), 8) + encode(trace.tuple) + little(UInt64(trace.length), 4)
            + little(UInt64(trace.icmpSequence), 2) + [trace.icmpType, trace.icmpCode, trace.tcpFlags.rawValue, 0, 0, 0]
            + trace.json
    }

    /// - Parameter range: of the note.
    private static func trace(_ bytes: RawSpan, _ range: Range<Int>) -> RecordedTrace? {
        let start = range.lowerBound
        let fields = start + 12 + tupleLength
        guard range.count >= fields - start + 12, let tuple = tuple(bytes, start + 12) else { return nil }
        return RecordedTrace(
            time: time(bytes, start + 4), tuple: tuple, length: bytes.little32(fields), icmpType: bytes.byte(fields + 6),
            icmpCode: bytes.byte(fields + 7), tcpFlags: TCPFlags(rawValue: bytes.byte(fields + 8)),
            icmpSequence: UInt16(bytes.byte(fields + 4)) | UInt16(bytes.byte(fields + 5)) << 8,
            json: (fields + 12..<range.upperBound).map { bytes.byte($0) })
    }

    private static func encode(_ tuple: PacketTuple) -> [UInt8] {
        [tuple.source.family.rawValue, tuple.transport, 0, 0] + little(UInt64(tuple.sourcePort), 2)
            + little(UInt64(tuple.destinationPort), 2) + little(tuple.source.high, 8) + little(tuple.source.low, 8)
            + little(tuple.destination.high, 8) + little(tuple.destination.low, 8)
    }

    private static func tuple(_ bytes: RawSpan, _ start: Int) -> PacketTuple? {
        guard let family = AddressFamily(rawValue: bytes.byte(start)) else { return nil }
        func address(_ offset: Int) -> IPAddress {
            let high = bytes.little64(start + offset)
            let low = bytes.little64(start + offset + 8)
            return family == .ipv4
                ? IPAddress(ipv4: UInt32(truncatingIfNeeded: low)) : IPAddress(ipv6High: high, low: low)
        }
        return PacketTuple(
            source: address(8), destination: address(24),
            sourcePort: UInt16(bytes.byte(start + 4)) | UInt16(bytes.byte(start + 5)) << 8,
            destinationPort: UInt16(bytes.byte(start + 6)) | UInt16(bytes.byte(start + 7)) << 8,
            transport: bytes.byte(start + 1))
    }
}

extension KernelDrop {
    /// Its endpoints; of no addresses where they are not known.
    fileprivate var tuple: PacketTuple {
        let none = IPAddress(ipv4: 0)
        return PacketTuple(
            source: endpoints?.source ?? none, destination: endpoints?.destination ?? none,
            sourcePort: endpoints?.sourcePort ?? 0, destinationPort: endpoints?.destinationPort ?? 0, transport: 0)
    }
}

/// The body of a block of ipt-trace's own: the kind of its content, then the content.
package enum TraceBlock {
    /// `ipt1`: says that the block is ours, whoever else may use its number.
    static let mark: UInt32 = 0x3174_7069

    case layout(json: [UInt8])
    case note(RecordedNote)

    /// FNV-1a (draft-eastlake-fnv) with 32 bits over kind, length and content: follows the content, behind its padding.
    package static func checksum(_ bytes: RawSpan, _ range: Range<Int>) -> UInt32 {
        var sum: UInt32 = 0x811C_9DC5
        for offset in range { sum = (sum ^ UInt32(bytes.byte(offset))) &* 0x0100_0193 }
        return sum
    }

    /// Whether damaged bytes may have been a layout: they are many, or hold its mark, or a part of its text.
    package static func mayHideLayout(_ bytes: RawSpan, _ range: Range<Int>) -> Bool {
        if range.count > 4096 { return true }
        var text = 0
        for offset in range {
            if range.upperBound - offset >= 8, bytes.little32(offset) == mark, bytes.little32(offset + 4) == 1 { return true }
            text = (0x20..<0x7F).contains(bytes.byte(offset)) ? text + 1 : 0
            // Longer than any prefix, which has 128 bytes at most.
            if text > 160 { return true }
        }
        return false
    }

    /// - Returns: `nil` for a block that is not ours, or is damaged.
    package init?(_ bytes: RawSpan, _ body: Range<Int>) {
        guard body.count >= 12, bytes.little32(body.lowerBound) == Self.mark else { return nil }
        let length = Int(bytes.little32(body.lowerBound + 8))
        guard length <= body.count - 12 else { return nil }
        // Recordings of earlier versions have no checksum.
        let end = 12 + (length + 3) & ~3
        if body.count >= end + 4 {
            let sum = Self.checksum(bytes, body.lowerBound + 4..<body.lowerBound + 12 + length)
            guard bytes.little32(body.lowerBound + end) == sum else { return nil }
        }
        let content = body.lowerBound + 12..<body.lowerBound + 12 + length
        switch bytes.little32(body.lowerBound + 4) {
        case 1: self = .layout(json: content.map { bytes.byte($0) })
        case 2:
            guard let note = RecordedNote(bytes, content) else { return nil }
            self = .note(note)
        default: return nil
        }
    }
}
