public import TraceModel

/// Everything that a report is made from, at one moment. A value: readers keep it while the collector goes on.
public struct TraceSnapshot: Sendable {
    /// Parts of a snapshot beside paths. Each costs the collector time, so that readers name those that they need.
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
    public var context: TraceContext
    public var completeness: Completeness
    public var paths: PathTable
    public var flows: [FlowRecord]
    /// How many flows are remembered, whether or not they are here.
    public var flowCount: Int
    /// The latest, oldest first, and those under way behind them.
    public var journeys: [JourneyRecord]
    public var unresolved: [UnresolvedPrefix]
    /// What packets met that were traced through the rules, by their journeys' serials.
    public var walks: [UInt64: [RuleWalk]]
    /// Of paths whose packets no trace tells of: the rule that dropped other packets of their connections at the same place.
    public let inferred: [Int: RuleDecision]
    /// What the routing tables say.
    public let routes: RouteIndex
    public let transitTimes: TransitTimes

    public var run: UInt64 { context.run }
    public var layout: Layout { context.layout }
    public var stepTrie: StepTrie { context.stepTrie }

    public init(
        generatedAt: Int64, since: Int64, context: TraceContext, completeness: Completeness, paths: PathTable,
        flows: [FlowRecord], flowCount: Int? = nil, journeys: [JourneyRecord],
        unresolved: [UnresolvedPrefix] = [], walks: [UInt64: [RuleWalk]] = [:], inferred: [Int: RuleDecision] = [:],
        routes: RouteIndex = RouteIndex(), transitTimes: TransitTimes = TransitTimes()
    ) {
        self.routes = routes
        self.transitTimes = transitTimes
        self.walks = walks
        self.inferred = inferred
        self.unresolved = unresolved
        self.generatedAt = generatedAt
        self.since = since
        self.context = context
        self.completeness = completeness
        self.paths = paths
        self.flows = flows
        self.flowCount = flowCount ?? flows.count
        self.journeys = journeys
    }

    /// What dropped the packets of a path, as far as it is known or inferred.
    public func decision(ofPath index: Int) -> Decision? { paths[index].decision ?? inferred[index].map { .rule($0) } }

    /// Indices of the paths that `isWanted` takes: most packets first, of equal ones the earlier.
    public func pathsByPackets(where isWanted: (Int) -> Bool = { _ in true }) -> [Int] {
        // Records are large: only their sort keys are copied.
        var chosen: [(index: Int, packets: UInt64, firstSeen: Int64)] = []
        for index in paths.indices where isWanted(index) {
            chosen.append((index, paths.counts(index).packets, paths.counts(index).firstSeen))
        }
        return chosen.sorted { ($1.packets, $0.firstSeen, $0.index) < ($0.packets, $1.firstSeen, $1.index) }.map(\.index)
    }

    /// At most `limit` of the flows that `isWanted` takes, the latest first.
    public func latestFlows(_ limit: Int, where isWanted: (FlowRecord) -> Bool = { _ in true }) -> [FlowRecord] {
        Array(flows.filter(isWanted).sorted { ($1.lastSeen, $0.serial) < ($0.lastSeen, $1.serial) }.prefix(max(0, limit)))
    }
}
