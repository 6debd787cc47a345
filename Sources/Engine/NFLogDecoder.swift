package import TraceModel
package import WireFormat

/// One NFLOG message, as far as it can be understood without knowing the machine that it is from.
package struct NFLogReport: Sendable, BitwiseCopyable {
    /// The number of the message's prefix, family and hook (`TemplateRegistry.origin`).
    package var origin: UInt32
    package var inInterface: UInt32
    package var outInterface: UInt32
    package var mark: UInt32
    package var sequence: UInt32
    package var globalSequence: UInt32
    /// Microseconds since 1970; 0 where the kernel gave none.
    package var timestamp: Int64
    package var hasSequence: Bool
    package var timeToLive: UInt8
    /// Which of the packets met last it is about (`NFLogDecoder.packet`); `RecentPackets.none` where it cannot be understood.
    package var packet: UInt8
    /// Whether that packet has just taken its place, rather than being there from a message before.
    package var isNewPacket: Bool

    /// Says nothing; holds a place.
    package static let none = NFLogReport(
        origin: 0, inInterface: 0, outInterface: 0, mark: 0, sequence: 0, globalSequence: 0, timestamp: 0, hasSequence: false,
        timeToLive: 0, packet: RecentPackets.none, isNewPacket: false)

    /// Whether its packet is one that can be understood.
    @inlinable
    package var hasPacket: Bool { packet != RecentPackets.none }
}

/// The parts of a message that the next ones rest on, for a caller who keeps them.
package struct MessageChanges: OptionSet, Sendable {
    package let rawValue: UInt8

    package init(rawValue: UInt8) { self.rawValue = rawValue }

    /// Its origin has just got its number.
    package static let origin = MessageChanges(rawValue: 1)
    /// Its packet has just taken its place.
    package static let packet = MessageChanges(rawValue: 2)
    /// Its packet cannot be understood (`NFLogDecoder.problem`).
    package static let problem = MessageChanges(rawValue: 4)
}

/// Reads NFLOG's messages of one source, one after the other.
///
/// Two things make that cheap, since a packet is reported by one chain after the other: messages of a rule have the same shape
/// (`MessageTemplates`), and a packet that was parsed is recognised by its bytes (`RecentPackets`).
package struct NFLogDecoder: Sendable {
    private let parser: PacketParser
    private var sequence = NFLogSequence()
    private var recent = RecentPackets()
    /// Why the packet of the last report could not be understood.
    package private(set) var problem: ParseError?

    /// Packets that reports name are numbered from 0 to one below this.
    package static let recentCount = RecentPackets.capacity

    /// Origins that this source has named first, and how many of them are told apart: none takes another's room.
    private var named = 0
    private let mostOrigins: Int

    /// - Parameter mostOrigins: bounds memory, since a source may hold any number of prefixes.
    package init(parser: PacketParser, mostOrigins: Int = 1 << 18) {
        self.parser = parser
        self.mostOrigins = mostOrigins
    }

    /// A packet that a report named.
    @inline(__always)
    package func packet(_ number: UInt8) -> Packet { recent.packet(number) }

    /// Puts what a message says into `report`, whatever was there before: where it stays, since a copy of what has just been
    /// written in pieces makes the processor wait.
    ///
    /// - Parameters:
    ///   - body: of a message of type `NFLogMessage.packetType`.
    ///   - templates: always the same for one decoder.
    /// - Throws: `ParseError` for a message that cannot be understood; `report` says nothing then. A packet that cannot be is no
    ///   error of its message (`problem`).
    @inline(__always) @discardableResult
    package mutating func decode(
        _ bytes: RawSpan, body: Range<Int>, with templates: inout TemplateRegistry, into report: inout NFLogReport
    ) throws(ParseError) -> MessageChanges {
        if let known = templates.shapes.readExpected(bytes, body: body, &sequence) {
            return fill(&report, known.message, known.label, bytes)
        }
        return try decodeSlowly(bytes, body, &templates, &report)
    }

    @inline(never)
    private mutating func decodeSlowly(
        _ bytes: RawSpan, _ body: Range<Int>, _ templates: inout TemplateRegistry, _ report: inout NFLogReport
    ) throws(ParseError) -> MessageChanges {
        let message: NFLogMessage
        do {
            message = try NFLogMessage(parsing: bytes, body: body)
        } catch {
            report = .none
            throw error
        }
        let known = templates.count
        let origin = templates.number(of: message, bytes, hasRoom: named < mostOrigins)
        named += templates.count - known
        templates.shapes.learn(origin, bytes, body: body, &sequence)
        let news = fill(&report, message, origin, bytes)
        return templates.count > known ? news.union(.origin) : news
    }

    @inline(__always)
    private mutating func fill(
        _ report: inout NFLogReport, _ message: NFLogMessage, _ origin: UInt32, _ bytes: RawSpan
    ) -> MessageChanges {
        report.origin = origin
        report.inInterface = message.inInterface
        report.outInterface = message.outInterface
        report.mark = message.mark
        report.sequence = message.sequence
        report.globalSequence = message.globalSequence
        report.timestamp = message.timestamp
        report.hasSequence = message.hasSequence
        guard let known = recent.find(bytes, message.payload) else { return parse(message.payload, bytes, &report) }
        report.packet = known.number
        report.timeToLive = known.timeToLive
        report.isNewPacket = false
        return []
    }

    @inline(never)
    private mutating func parse(_ payload: Range<Int>, _ bytes: RawSpan, _ report: inout NFLogReport) -> MessageChanges {
        do {
            let packet = try parser.parse(bytes, payload)
            report.packet = recent.insert(packet, bytes, payload)
            report.timeToLive = packet.timeToLive
            report.isNewPacket = true
            return .packet
        } catch {
            report.packet = RecentPackets.none
            report.timeToLive = 0
            report.isNewPacket = false
            problem = error
            return .problem
        }
    }
}
