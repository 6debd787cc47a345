package import Aggregation
package import Correlation
package import TraceModel

/// From events to snapshots, for live sources and for files: a correlator, the sums of its journeys, and counts of losses.
package struct TraceEngine: ~Copyable {
    package var correlator: Correlator
    package var sink: TraceSink
    package let registry: LayoutRegistry
    /// Names this run in identifiers.
    package let run: UInt64
    /// When the trace began, in microseconds since 1970.
    package var since: Int64
    private var generation = 0
    /// Microseconds; less is what gathering and a busy machine bring about.
    private static let noticeableLag: Int64 = 100_000

    package init(
        registry: LayoutRegistry, limits: Correlator.Limits, run: UInt64, since: Int64,
        ownEndpoint: TraceAggregate.OwnEndpoint? = nil, watcher: (any JourneyWatcher)? = nil
    ) {
        self.registry = registry
        self.run = run
        self.since = since
        correlator = Correlator(limits: limits)
        sink = TraceSink(aggregate: TraceAggregate(ownEndpoint: ownEndpoint), watcher: watcher, run: run)
    }

    /// Takes the registry's layout where it has changed.
    ///
    /// - Returns: whether it is newer than when this was called last; a reader may have met it first.
    @discardableResult
    package mutating func takeLayout() -> Bool {
        correlator.follow(registry)
        sink.layout = correlator.layout
        defer { generation = correlator.layout.generation }
        return generation != correlator.layout.generation
    }

    /// Closes the journeys that have ended by `time`, as `Correlator.advance` has it.
    package mutating func advance(to time: Int64, confirmed: Int64? = nil) {
        if sink.layout.generation != correlator.layout.generation { sink.layout = correlator.layout }
        correlator.advance(to: time, confirmed: confirmed, into: &sink)
    }

    /// Closes everything that is under way.
    package mutating func finish() {
        sink.layout = registry.current
        correlator.finish(into: &sink)
    }

    /// - Parameters:
    ///   - now: microseconds since 1970.
    ///   - followedOneIn: of how many flows one is followed.
    ///   - behind: microseconds by which receiving lags.
    ///   - unresolved: prefixes that no rule explains, with their namespaces.
    package mutating func snapshot(
        _ scope: TraceSnapshot.Scope = .all, now: Int64, counters: IntakeCounters, overflows: UInt64 = 0,
        followedOneIn: UInt64 = 1, behind: Int64 = 0,
        unresolved: [UnresolvedPrefix]
    ) -> TraceSnapshot {
        var completeness = Completeness()
        completeness.events = counters.events
        completeness.lost = counters.lost
        completeness.malformed = counters.malformed
        completeness.unplaced = counters.unresolved
        completeness.journeys = correlator.counters.journeys
        completeness.ambiguous = correlator.counters.ambiguous
        completeness.evicted = correlator.counters.evicted
        completeness.unwanted = correlator.counters.unwanted > 0 ? correlator.counters.unwanted : nil
        completeness.incomplete = sink.aggregate.incomplete
        completeness.own = sink.aggregate.own
        completeness.unlisted = sink.aggregate.unlisted
        completeness.open = UInt64(correlator.liveJourneys)
        completeness.overflows = overflows
        if counters.thinned > 0 { completeness.thinned = counters.thinned }
        if followedOneIn > 1 { completeness.followedOneIn = followedOneIn }
        let layout = registry.current
        if !layout.leftOut.isEmpty { completeness.namespacesLeftOut = UInt64(layout.leftOut.count) }
        let unread = layout.namespaces.count { $0.channel == .nflog && $0.unread != nil }
        if unread > 0 { completeness.namespacesUnread = UInt64(unread) }
        for index in layout.probes.indices where layout.isInForce[index] {
            guard case .every(let condition, _) = layout.probes[index].coverage, let rate = condition.sampledOneIn else {
                continue
            }
            completeness.sampledOneIn = max(completeness.sampledOneIn ?? 1, rate)
        }
        if sink.dropReasons.lost > 0 { completeness.dropReasonsLost = sink.dropReasons.lost }
        if sink.dropReasons.ambiguous > 0 { completeness.dropReasonsAmbiguous = sink.dropReasons.ambiguous }
        if behind > Self.noticeableLag { completeness.behindUs = UInt64(behind) }
        return TraceSnapshot(
            generatedAt: now, since: since,
            context: TraceContext(run: run, layout: layout, stepTrie: correlator.stepTrie.forReading),
            completeness: completeness, paths: sink.aggregate.paths,
            flows: scope.contains(.flows) ? sink.aggregate.flows : [], flowCount: sink.aggregate.flows.count,
            // A path's example may name the journeys that it carries.
            journeys: scope.contains(.journeys) || correlator.hasTunnels ? latestJourneys() : [], unresolved: unresolved,
            walks: scope.contains(.journeys) ? sink.ruleTraces.keptWalks : [:],
            inferred: sink.aggregate.inferredDecisions, routes: sink.routes, transitTimes: sink.aggregate.transitTimes)
    }

    private mutating func latestJourneys() -> [JourneyRecord] {
        let history = correlator.history
        let aggregate = sink.aggregate
        var journeys = aggregate.recentJourneys(history: history)
        correlator.forEachOpen(limit: 256) { journey in
            guard !aggregate.isOwn(journey) else { return }
            journeys.append(
                JourneyRecord(
                    journey: journey, details: journey.legs.map { history.details(upTo: $0.lastEvent) },
                    direction: journey.legs.lazy.compactMap(\.direction).first ?? .original))
        }
        return journeys
    }
}

/// Adds journeys up and shows them to who watches.
package struct TraceSink: JourneySink {
    package var aggregate: TraceAggregate
    package var layout = Layout()
    /// What rule traces have told.
    package var ruleTraces = RuleTraceIndex()
    /// What the kernel has told of packets that it dropped itself.
    package var dropReasons = DropReasonIndex()
    package var routes = RouteIndex()
    /// Whether routes of new paths are to be asked for.
    package var asksForRoutes = false
    private var unasked: [RouteLookup] = []
    private var routedPaths = 0
    private var routedFlows = 0
    /// Which journeys are added up; `nil`: all.
    package var isWanted: ((Journey) -> Bool)?
    /// Journeys that were dropped by nobody knows what, or will be called so, since the last look; at most `mostUndecided`.
    package var undecided: [Journey] = []
    private static let mostUndecided = 64
    let watcher: (any JourneyWatcher)?
    let run: UInt64
    /// Told of each journey with its path's id; 0 for one that is in no report.
    package var onPath: ((_ path: UInt64, _ journey: Journey) -> Void)?
    /// By path.
    private var pathIDs: [UInt64] = []

    init(aggregate: TraceAggregate, watcher: (any JourneyWatcher)?, run: UInt64) {
        self.aggregate = aggregate
        self.watcher = watcher
        self.run = run
    }

    package mutating func accept(_ journey: Journey, stepTrie: StepTrie, history: EventHistory) {
        if let isWanted, !isWanted(journey) { return }
        if ruleTraces.mayHaveWalks(at: journey.lastSeen) { ruleTraces.keepWalks(of: journey) }
        guard journey.outcome == .dropped, journey.decision == nil else {
            guard journey.outcome == .delivered || journey.outcome == .incomplete,
                let kernel = dropReasons.decision(of: journey, history)
            else { return add(journey, stepTrie: stepTrie, history: history) }
            // The kernel reports a drop of a packet that seemed delivered, or whose end was in doubt.
            var decided = journey
            decided.outcome = .dropped
            decided.incompleteReason = nil
            decided.decision = .kernel(kernel)
            return add(decided, stepTrie: stepTrie, history: history)
        }
        var decided = journey
        decided.decision =
            ruleTraces.decision(of: journey, next: Set(journey.expected.map { layout.probes[Int($0)].namespace })).map {
                .rule(ruleTraces.invalidity(of: journey).map($0.of) ?? $0)
            } ?? dropReasons.decision(of: journey, history).map { .kernel($0) }
        if decided.decision == nil { noteUndecided(journey) }
        add(decided, stepTrie: stepTrie, history: history)
    }

    /// Those that are certain seconds later are traced from now on, so that the packet's next attempt is.
    package mutating func mayBeLost(_ journey: Journey) {
        if let isWanted, !isWanted(journey) { return }
        noteUndecided(journey)
    }

    private mutating func noteUndecided(_ journey: Journey) {
        guard undecided.count < Self.mostUndecided, !aggregate.isOwn(journey) else { return }
        undecided.append(journey)
    }

    private mutating func add(_ journey: Journey, stepTrie: StepTrie, history: EventHistory) {
        guard let added = aggregate.add(journey, history: history) else {
            onPath?(0, journey)
            return
        }
        if asksForRoutes, added.path >= routedPaths || aggregate.flowCount > routedFlows {
            noteRoutes(of: journey, isOfNewPath: added.path >= routedPaths, stepTrie, history)
        }
        if let onPath {
            while pathIDs.count < aggregate.paths.count {
                pathIDs.append(
                    aggregate.paths[pathIDs.count].identifier(in: TraceContext(run: run, layout: layout, stepTrie: stepTrie)))
            }
            onPath(pathIDs[added.path], journey)
        }
        guard let watcher, watcher.isWatched else { return }
        watcher.add(journey) {
            var journey = journey
            if added.isSentAgain { journey.packet.segment.traits.insert(.sentAgain) }
            let record = JourneyRecord(
                journey: journey, details: journey.legs.map { history.details(upTo: $0.lastEvent) },
                direction: added.direction, walks: ruleTraces.keptWalks(of: journey.serial))
            return (record, TraceContext(run: run, layout: layout, stepTrie: stepTrie))
        }
    }

    /// The first packet of a path or a connection: how it was routed is to be asked for.
    private mutating func noteRoutes(of journey: Journey, isOfNewPath: Bool, _ stepTrie: StepTrie, _ history: EventHistory) {
        routedPaths = aggregate.paths.count
        routedFlows = aggregate.flowCount
        // A storm of connections is not asked about one by one.
        guard isOfNewPath || unasked.count < Self.mostUnasked && routes.hasRoomForFlows else { return }
        let record = JourneyRecord(
            journey: journey, details: journey.legs.map { history.details(upTo: $0.lastEvent) }, direction: .original)
        for point in TraceContext(run: run, layout: layout, stepTrie: stepTrie).routingPoints(of: record)
        where routes.isNew(point.lookup) {
            unasked.append(point.lookup)
        }
    }

    private static let mostUnasked = 64

    /// What the routing tables are to be asked, since the last call.
    package mutating func takeUnaskedRoutes() -> [RouteLookup] {
        guard !unasked.isEmpty else { return [] }
        defer { unasked = [] }
        return unasked
    }
}
