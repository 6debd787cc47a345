public import Aggregation
internal import TraceModel

/// `/flows`: connections, the latest first.
public struct FlowsReport: Codable, Sendable, Equatable {
    public var schema = 1
    public var generatedAt: String
    public var completeness: Completeness
    /// Where the next page begins; absent where there is none.
    public var nextCursor: String?
    public var flows: [FlowReport]
}

public struct FlowReport: Codable, Sendable, Equatable {
    public struct Side: Codable, Sendable, Equatable {
        public var source: String
        public var destination: String
        public var sourcePort: Int?
        public var destinationPort: Int?
        public var packets: UInt64
        public var bytes: UInt64
        public var outcomes: [String: UInt64]
        /// Ids of the paths that its packets took.
        public var paths: [String]
        public var latestJourney: String
        /// TCP segments that were sent before; absent where there are none.
        public var sentAgain: UInt64?
        /// TCP segments with which this side told the other that its receive buffer is full; absent where there are none.
        public var closedWindows: UInt64?
    }

    /// ICMP errors about packets of the connection, of one kind and from one address.
    public struct ErrorMessages: Codable, Sendable, Equatable {
        /// `destination unreachable (port unreachable)`; the type in decimal where it has no common name.
        public var message: String
        public var source: String
        public var packets: UInt64
        public var latestJourney: String
    }

    public var id: String
    public var `protocol`: String
    public var firstSeen: String
    public var lastSeen: String
    /// False where the flow's first packets were missed, so that the original may be the reply.
    public var directionKnown: Bool
    public var original: Side
    @ExplicitNull public var reply: Side?
    public var translations: [TranslationReport]
    /// At most eight kinds; absent where there are none.
    public var icmpErrors: [ErrorMessages]?
}

extension FlowsReport: Report {
    public static let name = "flows"
    public static let isPaged = true
    public static let summary = "Print connections, original and reply, across address translation."

    public static func scope(_ filter: TraceFilter) -> TraceSnapshot.Scope { .flows }
    public init(_ snapshot: TraceSnapshot, _ filter: TraceFilter) { self = snapshot.flowsReport(filter) }
}

extension TraceSnapshot {
    public func flowsReport(_ filter: TraceFilter = TraceFilter()) -> FlowsReport {
        let (chosen, next) = filter.page(of: latestFlows(.max) { admits($0, filter) })
        return FlowsReport(
            generatedAt: Timestamp.text(generatedAt), completeness: completeness, nextCursor: next, flows: chosen.map(describe))
    }

    func describe(_ flow: FlowRecord) -> FlowReport {
        let translations = flow.translations.filter { $0.path < paths.count }.map { path, translation in
            let packets = paths.translations(path).first { $0.translation == translation }?.packets ?? 0
            return context.describe(translation, packets: packets, stepPaths: paths[path].stepPaths)
        }
        // Without a packet of the other side only the looks of this one say that it is the answer.
        let isTurned = !flow.isDirectionKnown && flow.original.packets == 0
        let sides =
            isTurned ? (original: flow.reply ?? flow.original, reply: nil) : (original: flow.original, reply: flow.reply)
        return FlowReport(
            id: "\(TraceID(run: run, serial: flow.serial))",
            protocol: TransportProtocol.name(flow.original.tuple.transport), firstSeen: Timestamp.text(flow.firstSeen),
            lastSeen: Timestamp.text(flow.lastSeen), directionKnown: flow.isDirectionKnown,
            original: describe(sides.original), reply: sides.reply.map(describe), translations: translations,
            icmpErrors: flow.errors.isEmpty ? nil : flow.errors.map(describe))
    }

    private func describe(_ errors: FlowRecord.ErrorMessages) -> FlowReport.ErrorMessages {
        FlowReport.ErrorMessages(
            message: ICMPMessage.name(of: errors.packet) ?? "\(errors.packet.icmpType)",
            source: "\(errors.packet.tuple.source)",
            packets: errors.packets, latestJourney: "\(TraceID(run: run, serial: errors.latestJourney))")
    }

    private func describe(_ side: FlowRecord.Side) -> FlowReport.Side {
        let tuple = side.tuple
        var outcomes: [String: UInt64] = [:]
        for outcome in Outcome.allCases where side.outcomes[outcome] > 0 { outcomes[outcome.name] = side.outcomes[outcome] }
        return FlowReport.Side(
            source: "\(tuple.source)", destination: "\(tuple.destination)",
            sourcePort: tuple.hasPorts ? Int(tuple.sourcePort) : nil,
            destinationPort: tuple.hasPorts ? Int(tuple.destinationPort) : nil, packets: side.packets, bytes: side.bytes,
            outcomes: outcomes, paths: side.paths.filter { $0 < paths.count }.map { pathID($0) },
            latestJourney: "\(TraceID(run: run, serial: side.latestJourney))",
            sentAgain: side.sentAgain == 0 ? nil : side.sentAgain,
            closedWindows: side.closedWindows == 0 ? nil : side.closedWindows)
    }
}
