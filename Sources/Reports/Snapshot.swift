public import TraceModel

/// How much of what happened is known.
public struct Completeness: Codable, Sendable, Equatable {
    /// Events received.
    public var events: UInt64 = 0
    /// Events that the kernel counted and nobody received: gaps in its sequence numbers.
    public var lost: UInt64 = 0
    /// Journeys that have ended.
    public var journeys: UInt64 = 0
    /// Of those: how they ended cannot be told.
    public var incomplete: UInt64 = 0
    /// Of those: more than one packet could have caused some of their events.
    public var ambiguous: UInt64 = 0
    /// Of those: to or from the collector's own endpoint, and therefore in no report.
    public var own: UInt64 = 0
    /// Of those: in no path, because there are as many paths as are kept apart.
    public var unlisted: UInt64 = 0
    /// Journeys still under way.
    public var open: UInt64 = 0
    /// Journeys closed early to bound memory.
    public var evicted: UInt64 = 0
    /// Receive buffers that overflowed (ENOBUFS, or the drops column of /proc/net/netlink).
    public var overflows: UInt64 = 0
    /// Events of flows that were not followed, because more came than could be; `nil` where there were none. They are
    /// among `events`, and their packets in no path.
    public var thinned: UInt64?
    /// Of this many flows one is followed at the moment; `nil` where all are.
    public var followedOneIn: UInt64?
    /// Of this many flows the probes report one (`--sample`); `nil` where they report all.
    public var sampledOneIn: UInt64?
    /// Microseconds by which what has been received lags behind what has happened; `nil` where that is less than 100 ms.
    public var behindUs: UInt64?
    /// Times for which a recording holds nothing, or not all: it was cut off, or could not be written. `nil` where there are
    /// none. What was under way then is not known to have been dropped.
    public var gaps: UInt64?
    /// Namespaces that should be followed and are not; `nil` where all are. What packets do there is in no report.
    public var namespacesLeftOut: UInt64?
    /// Namespaces whose rules or interfaces cannot be read at the moment; `nil` where all can.
    public var namespacesUnread: UInt64?
    /// Messages and packets that could not be parsed.
    public var malformed: UInt64 = 0
    /// Events whose prefix no rule explains.
    public var unplaced: UInt64 = 0

    public init() {}
}

/// A prefix of which nobody says to which chain it belongs.
public struct UnresolvedPrefix: Codable, Sendable, Equatable {
    /// The namespace whose events have it; `nil` for the kernel log, where only the prefix could tell.
    @ExplicitNull public var netns: String?
    public var prefix: String
    public var events: UInt64

    public init(netns: String?, prefix: String, events: UInt64) {
        self.netns = netns
        self.prefix = prefix
        self.events = events
    }
}

/// What the journeys that took one path have in common; `PathTable` has what they add up to.
public struct PathRecord: Sendable {
    /// By leg: the namespace is that of the route's probes.
    public var routes: [StepPathID]
    public var outcome: Outcome
    public var doubt: Doubt
    /// Where they were dropped: the probes of which they should have reached one next.
    public var expected: [UInt32]
    /// With the place of their numbers among the table's tallies.
    var protocols: [(key: UInt8, tally: Int)] = []
    /// The same, at most `PathRecord.translationLimit`.
    var translations: [(key: TranslationRecord, tally: Int)] = []
    /// Addresses and ports that occurred, at most `PathRecord.endpointLimit` of each.
    public var addresses: Set<IPAddress> = []
    public var ports: Set<UInt16> = []
    public var example: JourneyRecord

    public static let translationLimit = 16
    public static let endpointLimit = 32

    init(example: JourneyRecord) {
        routes = example.journey.legs.map(\.route)
        outcome = example.journey.outcome
        doubt = example.journey.doubt
        expected = example.journey.expected
        self.example = example
    }
}

/// An address translation that packets of a path met.
public struct TranslationRecord: Sendable, Hashable {
    public enum Kind: String, Sendable, Hashable {
        case snat
        case dnat
        /// The destination of a reply put back to what the original's source was before SNAT.
        case snatReply = "snat_reply"
        /// The source of a reply put back to what the original's destination was before DNAT.
        case dnatReply = "dnat_reply"
    }

    public var kind: Kind
    /// Index of the leg in the path.
    public var leg: Int
    public var from: IPAddress
    public var to: IPAddress
    /// 0 where ports play no role.
    public var fromPort: UInt16
    public var toPort: UInt16
}

/// A journey with what is still known of its events.
public struct JourneyRecord: Sendable {
    public var journey: Journey
    /// By leg; empty or shortened at the front where the history has been overwritten.
    public var details: [[StepDetail]]
    public var direction: Direction

    public init(journey: Journey, details: [[StepDetail]], direction: Direction) {
        self.journey = journey
        self.details = details
        self.direction = direction
    }
}

/// Everything that a report is made from, at one moment. A value: readers keep it while the collector goes on.
public struct TraceSnapshot: Sendable {
    /// What a snapshot has beside paths. Each part costs the collector time, so that who asks says what is needed.
    public struct Scope: OptionSet, Sendable {
        public let rawValue: Int

        public init(rawValue: Int) { self.rawValue = rawValue }

        public static let flows = Scope(rawValue: 1)
        public static let journeys = Scope(rawValue: 2)
        public static let all: Scope = [.flows, .journeys]
    }

    /// Microseconds since 1970.
    public var generatedAt: Int64
    /// When the collection began.
    public var since: Int64
    /// Names this run in identifiers.
    public var run: UInt64
    public var layout: Layout
    public var routes: StepTrie
    public var completeness: Completeness
    public var paths: PathTable
    public var flows: [FlowRecord]
    /// How many flows are remembered, whether or not they are here.
    public var flowCount: Int
    /// The latest, oldest first, and those under way behind them.
    public var journeys: [JourneyRecord]
    public var unplaced: [UnresolvedPrefix]

    public init(
        generatedAt: Int64, since: Int64, run: UInt64, layout: Layout, routes: StepTrie, completeness: Completeness,
        paths: PathTable, flows: [FlowRecord], flowCount: Int? = nil, journeys: [JourneyRecord],
        unplaced: [UnresolvedPrefix] = []
    ) {
        self.unplaced = unplaced
        self.generatedAt = generatedAt
        self.since = since
        self.run = run
        self.layout = layout
        self.routes = routes
        self.completeness = completeness
        self.paths = paths
        self.flows = flows
        self.flowCount = flowCount ?? flows.count
        self.journeys = journeys
    }
}
