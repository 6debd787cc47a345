public import Aggregation
internal import Diagnosis
internal import TraceModel

/// `/journeys`: the latest packets one by one, newest first.
public struct JourneysReport: Codable, Sendable, Equatable {
    public var schema = 1
    public var generatedAt: String
    public var completeness: Completeness
    /// Where the next page begins; absent where there is none.
    public var nextCursor: String?
    public var journeys: [JourneyReport]
}

public struct JourneyReport: Codable, Sendable, Equatable {
    /// A step with the packet's addresses and fields there.
    public struct Step: Codable, Sendable, Equatable {
        public var netns: String
        public var family: String
        public var backend: String
        public var hook: String
        public var tableFamily: String
        public var table: String
        public var chain: String
        public var priority: Int
        public var backFrom: String?
        @ExplicitNull public var `in`: String?
        @ExplicitNull public var out: String?
        /// The kernel's stamp; `null` where it gives none (OUTPUT, POSTROUTING).
        @ExplicitNull public var time: String?
        // The rest is `null` where the event is no longer kept.
        @ExplicitNull public var source: String?
        @ExplicitNull public var destination: String?
        @ExplicitNull public var sourcePort: Int?
        @ExplicitNull public var destinationPort: Int?
        /// Where it was traced through the rules, those that it met there: rules that matched, first to last, and the policy where it
        /// came to that. Absent where it was not traced.
        public var rules: [StepRule]?
        @ExplicitNull public var ttl: Int?
        @ExplicitNull public var mark: Int?

        /// The chain as a person reads it: with the hook where that is not the same, and the chain that the packet came back from.
        public var chainText: String { Phrase.chain(chain, table: table, hook: hook, backFrom: backFrom) }
    }

    /// A rule that matched a packet, or the policy of its base chain.
    public struct StepRule: Codable, Sendable, Equatable {
        public var chain: String
        /// From 1 on, without our probes; `null` for native tables, a policy, and where it is not known.
        @ExplicitNull public var position: Int?
        /// `null` for a policy.
        @ExplicitNull public var handle: UInt64?
        /// As the tool printed it; `null` where it could not be read or is gone.
        @ExplicitNull public var rule: String?
        /// `accept`, `drop`, `continue`, `jump`, `goto`, `return`, `queue`.
        public var verdict: String
    }

    /// Another packet: within this one, around it, or the one that this one is about.
    public struct Carried: Codable, Sendable, Equatable {
        /// Its journey; `null` where that has not ended, or is no longer kept.
        @ExplicitNull public var journey: String?
        public var `protocol`: String
        public var source: String
        public var destination: String
    }

    /// An ICMP error about a packet.
    public struct ErrorMessage: Codable, Sendable, Equatable {
        public var journey: String
        /// `destination unreachable (port unreachable)`.
        public var message: String
        public var source: String
    }

    /// Of an ICMP error, the packet that it is about; absent where that is not among the latest, or several look as it is quoted.
    public var about: Carried?
    /// The ICMP errors about this packet, of the latest; absent where there are none.
    public var icmpErrors: [ErrorMessage]?
    /// The packet that it carried through a tunnel.
    public var carries: Carried?
    /// The packet that carried it.
    public var carriedBy: Carried?
    public var id: String
    public var outcome: String
    @ExplicitNull public var reason: String?
    @ExplicitNull public var droppedBetween: PathReport.Ending?
    /// What dropped it; `nil` where it was not.
    public var decidedBy: DecidedBy?
    public var ambiguous: Bool
    public var direction: String
    public var firstSeen: String
    public var lastSeen: String
    public var `protocol`: String
    public var source: String
    public var destination: String
    public var sourcePort: Int?
    public var destinationPort: Int?
    public var icmpType: Int?
    /// Of ICMP, with the code of an error: `echo request`, `destination unreachable (port unreachable)`.
    public var message: String?
    public var icmpSequence: Int?
    /// `SYN`, `SYN ACK`, …; absent for other protocols, and where no flag is set.
    public var tcpFlags: String?
    /// Whether its sender takes nothing more, its receive buffer being full; absent where it does.
    public var closesWindow: Bool?
    /// `true` for a TCP segment that its sender had sent before, else absent.
    public var sentAgain: Bool?
    public var bytes: Int
    public var steps: [Step]
    public var translations: [TranslationReport]
    /// How it was routed. Absent from the stream of events, which does not wait for the answers.
    public var routing: [RoutingReport]?
}

extension JourneysReport: Report {
    public static let name = "journeys"
    public static let isPaged = true
    public static let summary = "Print the latest packets one by one, newest first."
    public static let isInOverview = false

    public static func scope(_ filter: TraceFilter) -> TraceSnapshot.Scope { filter.namesEndpoints ? .all : .journeys }
    public init(_ snapshot: TraceSnapshot, _ filter: TraceFilter) { self = snapshot.journeysReport(filter) }

    public func text(_ style: Style) -> TerminalText {
        (["\(Phrase.completeness(completeness))", ""] + journeys.map { $0.text(style) }).joined(separator: "\n")
    }
}

extension TraceSnapshot {
    public func journeysReport(_ filter: TraceFilter = TraceFilter()) -> JourneysReport {
        let (chosen, next) = chosenJourneys(filter)
        let quotations = Quotations(journeys)
        return JourneysReport(
            generatedAt: Timestamp.text(generatedAt), completeness: completeness, nextCursor: next,
            journeys: chosen.map { describe($0, quotations) })
    }

    /// The journey with this identifier, if it is among the latest or is kept as a path's example.
    public func journeyReport(id: String) -> JourneyReport? {
        guard let wanted = TraceID(id), wanted.run == run else { return nil }
        let record =
            journeys.last { $0.journey.serial == wanted.serial }
            ?? paths.indices.first { paths[$0].example.journey.serial == wanted.serial }.map { paths[$0].example }
        return record.map { describe($0, Quotations(journeys)) }
    }

    /// `journey` with the packets that it carries through a tunnel, is carried by or is about, as far as they are in the snapshot.
    private func describe(_ record: JourneyRecord, _ quotations: Quotations) -> JourneyReport {
        var record = record
        if let walks = walks[record.journey.serial] { record.walks = walks }
        var report = context.describe(record, routing: routing(of: record))
        report.carries = describe(record.journey.carries)
        report.carriedBy = describe(record.journey.carriedBy)
        report.about = quotations.packet(of: record.journey).map { packet in
            JourneyReport.Carried(
                journey: context.journeyID(packet), protocol: TransportProtocol.name(packet.packet.tuple.transport),
                source: "\(packet.packet.tuple.source)", destination: "\(packet.packet.tuple.destination)")
        }
        let errors = quotations.errors(about: record.journey)
        if !errors.isEmpty {
            report.icmpErrors = errors.map { error in
                JourneyReport.ErrorMessage(
                    journey: context.journeyID(error),
                    message: ICMPMessage.name(of: error.packet) ?? "\(error.packet.icmpType)",
                    source: "\(error.packet.tuple.source)")
            }
        }
        return report
    }
}

extension TraceContext {
    /// The journey on its own: the packets that it carries, or is carried by, without their journeys' identifiers, and how it was routed only
    /// where that is given.
    public func describe(_ record: JourneyRecord, routing: [RoutingReport]? = nil) -> JourneyReport {
        let journey = record.journey
        let tuple = journey.packet.tuple
        let legStepPaths = journey.legs.map(\.stepPath)
        var steps: [JourneyReport.Step] = []
        for (index, leg) in journey.legs.enumerated() {
            let stepPath = stepTrie.steps(of: leg.stepPath)
            let details = index < record.details.count ? record.details[index] : []
            // Events are missing at the front where the history has been overwritten.
            let missing = stepPath.count - min(stepPath.count, details.count)
            for (position, step) in stepPath.enumerated() {
                let detail = position >= missing ? details[details.count - stepPath.count + position] : nil
                steps.append(describe(step, detail))
            }
        }
        var translations = journey.translations(record.direction).map { describe($0, packets: 1, stepPaths: legStepPaths) }
        var routing = routing
        for walk in record.walks { put(walk, into: &steps, &translations, &routing) }
        let site = dropSite(of: journey)
        return JourneyReport(
            carries: describe(journey.carries, journey: nil), carriedBy: describe(journey.carriedBy, journey: nil),
            id: journeyID(journey), outcome: journey.outcome.name, reason: journey.incompleteReason?.explanation,
            droppedBetween: site.map(describe), decidedBy: decidedBy(site, packets: nil),
            ambiguous: journey.isAmbiguous, direction: record.direction.name,
            firstSeen: Timestamp.text(journey.firstSeen), lastSeen: Timestamp.text(journey.lastSeen),
            protocol: TransportProtocol.name(tuple.transport), source: "\(tuple.source)",
            destination: "\(tuple.destination)", sourcePort: tuple.hasPorts ? Int(tuple.sourcePort) : nil,
            destinationPort: tuple.hasPorts ? Int(tuple.destinationPort) : nil,
            icmpType: tuple.isICMP ? Int(journey.packet.icmpType) : nil, message: ICMPMessage.name(of: journey.packet),
            icmpSequence: tuple.isICMP ? Int(journey.packet.icmpSequence) : nil, tcpFlags: journey.packet.tcpFlagsText,
            closesWindow: journey.packet.segment.traits.contains(.closesWindow) ? true : nil,
            sentAgain: journey.packet.segment.traits.contains(.sentAgain) ? true : nil,
            bytes: Int(journey.packet.length),
            steps: steps,
            translations: translations, routing: routing)
    }

    /// Puts the rules that a packet met in a base chain to the step there. A chain without a probe, as other programs' are, is a step of its own,
    /// in the place of its hook that the kernel gives it.
    private func put(
        _ walk: RuleWalk, into steps: inout [JourneyReport.Step], _ translations: inout [TranslationReport],
        _ routing: inout [RoutingReport]?
    ) {
        let name = layout.namespaces[walk.namespace].name
        let rules = walk.rules.map { rule in
            JourneyReport.StepRule(
                chain: rule.place.chain, position: rule.position, handle: rule.place.handle,
                rule: rule.isPolicy ? rule.place.policyText(rule.verdict) : rule.text,
                verdict: rule.verdict.rawValue)
        }
        if let index = steps.firstIndex(where: {
            $0.netns == name && $0.tableFamily == walk.tableFamily && $0.table == walk.table && $0.chain == walk.chain
                && $0.chain == $0.hook && $0.backend == walk.backend.rawValue && $0.rules == nil && $0.backFrom == nil
        }) {
            steps[index].rules = rules
            return
        }
        guard
            let chain = layout.namespaces[walk.namespace].facts?.otherChains.first(where: {
                $0.table == walk.table && $0.name == walk.chain
            }), case .ip(let hook) = chain.hook,
            let first = steps.firstIndex(where: { $0.netns == name && $0.hook == hook.name })
        else { return }
        let place =
            steps[first...].prefix { $0.netns == name && $0.hook == hook.name }.firstIndex {
                $0.priority > Int(chain.priority)
            } ?? steps[first...].firstIndex { $0.netns != name || $0.hook != hook.name } ?? steps.count
        let neighbour = steps[max(first, place - 1)]
        steps.insert(
            JourneyReport.Step(
                netns: name, family: neighbour.family, backend: Backend.nft.rawValue, hook: hook.name,
                tableFamily: walk.tableFamily, table: walk.table, chain: walk.chain, priority: Int(chain.priority),
                in: neighbour.in, out: neighbour.out, time: nil, source: neighbour.source,
                destination: neighbour.destination, sourcePort: neighbour.sourcePort,
                destinationPort: neighbour.destinationPort, rules: rules, ttl: neighbour.ttl, mark: neighbour.mark),
            at: place)
        for index in translations.indices where translations[index].step >= place { translations[index].step += 1 }
        for index in routing?.indices ?? 0..<0 {
            guard let step = routing?[index].step else { continue }
            // The last chain of PREROUTING comes before routing, the first one of INPUT, FORWARD and OUTPUT behind it.
            if step > place || step == place && hook == .prerouting { routing?[index].step += 1 }
        }
    }

    private func describe(_ step: Step, _ detail: StepDetail?) -> JourneyReport.Step {
        let place = describe(step)
        let tuple = detail?.tuple
        let hasPorts = tuple.map { !$0.isICMP } ?? false
        return JourneyReport.Step(
            netns: place.netns, family: place.family, backend: place.backend, hook: place.hook,
            tableFamily: place.tableFamily, table: place.table, chain: place.chain, priority: place.priority,
            backFrom: place.backFrom, in: place.in, out: place.out,
            time: detail.flatMap { $0.isStamped ? Timestamp.text($0.time) : nil },
            source: tuple.map { "\($0.source)" }, destination: tuple.map { "\($0.destination)" },
            sourcePort: hasPorts ? tuple.map { Int($0.sourcePort) } : nil,
            destinationPort: hasPorts ? tuple.map { Int($0.destinationPort) } : nil,
            ttl: detail.map { Int($0.timeToLive) }, mark: detail.map { Int($0.mark) })
    }
}

extension Packet {
    /// `SYN ACK`; `nil` for other protocols, and where no flag is set.
    var tcpFlagsText: String? {
        tuple.transport == TransportProtocol.tcp && !tcpFlags.isEmpty ? tcpFlags.description : nil
    }
}
