public import Aggregation
internal import Diagnosis
internal import TraceModel

/// `/paths`: the ways that packets take, most packets first.
public struct PathsReport: Codable, Sendable, Equatable {
    public struct Unresolved: Codable, Sendable, Equatable {
        /// `null` for the kernel log, whose lines name no namespace.
        @ExplicitNull public var netns: String?
        public var prefix: String
        public var events: UInt64

        init(_ unresolved: UnresolvedPrefix) {
            netns = unresolved.netns
            prefix = unresolved.prefix
            events = unresolved.events
        }
    }

    public var schema = 1
    public var generatedAt: String
    public var since: String
    public var completeness: Completeness
    /// Where the next page begins; absent where there is none.
    public var nextCursor: String?
    /// Prefixes that could not be placed, most events first.
    public var unplaced: [Unresolved]
    public var paths: [PathReport]
}

public struct PathReport: Codable, Sendable, Equatable {
    public struct Example: Codable, Sendable, Equatable {
        public var journey: String
        public var `protocol`: String
        public var source: String
        public var destination: String
        public var sourcePort: Int?
        public var destinationPort: Int?
        /// Of ICMP, with the code of an error: `echo request`, `destination unreachable (port unreachable)`.
        public var message: String?
        /// `SYN`, `SYN ACK`, …; absent for other protocols, and where no flag is set.
        public var tcpFlags: String?
        /// The packet that it carried through a tunnel.
        public var carries: JourneyReport.Carried?
        /// The packet that carried it.
        public var carriedBy: JourneyReport.Carried?
    }

    /// Where a packet was lost: between the last probe that saw it and those of which one had to see it next.
    public struct Ending: Codable, Sendable, Equatable {
        public var after: StepReport
        public var before: [StepReport]
        /// What lies between: `filter/FORWARD`, `routing`, …. One where it is certain.
        public var suspects: [String]
        /// For packets lost in routing, known reasons to drop packets there: `forwarding-disabled`, `ttl-spent`,
        /// `martian-source`, `reverse-path-filter`.
        public var causes: [String]
        /// `counter` where the kernel's own counters say that the cause is the one; absent where it is what may have been.
        public var evidence: String?
    }

    public var id: String
    public var packets: UInt64
    public var bytes: UInt64
    public var firstSeen: String
    public var lastSeen: String
    /// How its packets were reported: `nflog`, or `log` for the kernel log.
    public var medium: String
    public var outcome: String
    /// Why the outcome cannot be told, where it is `incomplete`.
    @ExplicitNull public var reason: String?
    @ExplicitNull public var droppedBetween: Ending?
    /// What dropped its packets; `nil` where they were not dropped.
    public var decidedBy: DecidedBy?
    /// `original`, `reply`, or `both`.
    public var direction: String
    /// Packets that more than one journey could have been.
    public var ambiguous: UInt64
    public var protocols: [String: UInt64]
    public var steps: [StepReport]
    public var translations: [TranslationReport]
    /// How its packets were routed, by the example. Absent from the answers of older collectors.
    public var routing: [RoutingReport]?
    public var example: Example
}

extension PathsReport: MarkdownReport {
    public static let name = "paths"
    public static let isPaged = true
    public static let summary = "Print the paths of packets with their outcomes."

    public init(_ snapshot: TraceSnapshot, _ filter: TraceFilter) { self = snapshot.pathsReport(filter) }
}

extension TraceSnapshot {
    public func pathsReport(_ filter: TraceFilter = TraceFilter()) -> PathsReport {
        let (chosen, next) = filter.page(of: pathsByPackets { admits(path: $0, filter) })
        return PathsReport(
            generatedAt: Timestamp.text(generatedAt), since: Timestamp.text(since), completeness: completeness,
            nextCursor: next,
            unplaced: unresolved.map(PathsReport.Unresolved.init),
            paths: chosen.map(describePath))
    }

    public func pathReport(id: String) -> PathReport? {
        paths.indices.first { pathID($0) == id }.map(describePath)
    }

    func pathID(_ index: Int) -> String { TraceID.hex(paths[index].identifier(in: context)) }

    func describePath(_ index: Int) -> PathReport {
        let path = paths[index]
        let counts = paths.counts(index)
        let steps = path.stepPaths.flatMap { stepTrie.steps(of: $0) }
        let tuple = path.example.journey.packet.tuple
        let translations = paths.translations(index).map {
            context.describe($0.translation, packets: $0.packets, stepPaths: path.stepPaths)
        }
        .sorted {
            ($0.step, $1.packets, $0.kind, $0.from, $0.to) < ($1.step, $0.packets, $1.kind, $1.from, $1.to)
        }
        let site = dropSite(ofPath: index)
        var protocols: [String: UInt64] = [:]
        for (number, count) in paths.protocols(index) { protocols[TransportProtocol.name(number), default: 0] += count }
        return PathReport(
            id: pathID(index), packets: counts.packets, bytes: counts.bytes, firstSeen: Timestamp.text(counts.firstSeen),
            lastSeen: Timestamp.text(counts.lastSeen), medium: path.channel(in: context).rawValue, outcome: path.outcome.name,
            reason: path.incompleteReason?.explanation,
            droppedBetween: site.map(context.describe),
            decidedBy: context.decidedBy(site, packets: decision(ofPath: index).map(packets)),
            direction: counts.replies == 0 ? "original" : counts.originals == 0 ? "reply" : "both",
            ambiguous: counts.ambiguous, protocols: protocols, steps: steps.map(context.describe), translations: translations,
            routing: routing(ofPath: index),
            example: PathReport.Example(
                journey: context.journeyID(path.example.journey), protocol: TransportProtocol.name(tuple.transport),
                source: "\(tuple.source)", destination: "\(tuple.destination)",
                sourcePort: tuple.hasPorts ? Int(tuple.sourcePort) : nil,
                destinationPort: tuple.hasPorts ? Int(tuple.destinationPort) : nil,
                message: ICMPMessage.name(of: path.example.journey.packet),
                tcpFlags: path.example.journey.packet.tcpFlagsText, carries: describe(path.example.journey.carries),
                carriedBy: describe(path.example.journey.carriedBy)))
    }

    /// How many packets of all paths a rule, a policy or the kernel dropped for one reason.
    private func packets(droppedBy decision: Decision) -> UInt64 {
        paths.indices.reduce(0) { sum, index in
            self.decision(ofPath: index)?.isSame(as: decision) == true ? sum + paths.counts(index).packets : sum
        }
    }

    func describe(_ carried: CarriedPacket?) -> JourneyReport.Carried? {
        let record = carried.flatMap { carried in
            journeys.first { $0.journey.legs.contains { $0.firstEvent == carried.leg } }
        }
        return context.describe(carried, journey: record.map { context.journeyID($0.journey) })
    }
}

extension TraceContext {
    func describe(_ site: DropSite) -> PathReport.Ending {
        PathReport.Ending(
            after: describe(site.after), before: site.before.map(describeProbe), suspects: site.suspects.map(\.description),
            causes: site.causes.map(\.rawValue), evidence: site.isCounted ? "counter" : site.kernel == nil ? nil : "drop_reason"
        )
    }

    func describeProbe(_ probe: UInt32) -> StepReport {
        describe(Step(probe: probe, inInterface: 0, outInterface: 0))
    }

    /// - Parameter journey: identifier of the carried packet's journey, where it is known.
    func describe(_ carried: CarriedPacket?, journey: String?) -> JourneyReport.Carried? {
        carried.map {
            JourneyReport.Carried(
                journey: journey, protocol: TransportProtocol.name($0.tuple.transport), source: "\($0.tuple.source)",
                destination: "\($0.tuple.destination)")
        }
    }

    func journeyID(_ journey: Journey) -> String { "\(TraceID(run: run, serial: journey.serial))" }
}
