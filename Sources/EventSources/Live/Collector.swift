public import Aggregation
internal import Correlation
internal import Engine
private import Foundation
private import Glibc
internal import HostLayout
public import LinuxSupport
public import Logging
public import Ruleset
internal import Synchronization
internal import TraceModel
internal import WireFormat

/// Receives the events of all namespaces and serves snapshots of the result.
public final class Collector: Sendable {
    let options: Options
    let logger: Logger
    let registry = LayoutRegistry()
    let mailbox = Mailbox<LoopMessage>()
    private let exchange: SnapshotExchange
    private let survey: HostScanner
    let ruleset = RulesetWatch(clock: EventLoop.clock)
    let indexing: NamespaceIndexing
    let parser: PacketParser
    /// Identifies this run.
    private let run = UInt64.random(in: 1...UInt64.max)
    let state: Mutex<State>
    private let finished = DispatchSemaphore(value: 0)
    private let thinning = FlowSampling.Notice()

    struct State {
        /// By layout index.
        var places: [FollowedNamespace]
        var leftOut: LeftOut
        var watcher: Task<Void, Never>?
        var rulesetWatcher: Task<Void, Never>?
        var endRuleTracer: (@Sendable () async -> Void)?
        var endRouteReader: (@Sendable () -> Void)?
        var tracingKeeper: Task<Void, Never>?
    }

    /// Opens the sockets, reads the rules, and starts to receive.
    ///
    /// - Throws: `CollectorFailure`, `NamespaceError` or `RulesetError` where a namespace that was asked for by name
    ///   cannot be traced. With `all`, namespaces that cannot be entered are left out with a warning, and so are those for which
    ///   there are too few descriptors.
    ///
    /// - Parameters:
    ///   - namespaces: those to trace; `nil` for those that the options select.
    ///   - watcher: gets each journey as it ends.
    public init(
        _ options: Options, in namespaces: [NetworkNamespace]? = nil, watcher: (any JourneyWatcher)? = nil, logger: Logger
    ) async throws {
        self.options = options
        self.logger = logger
        exchange = SnapshotExchange(interval: .milliseconds(50), patience: .seconds(2)) { [mailbox] in
            mailbox.send(.snapshotWanted)
        }
        parser = PacketParser(seed: UInt64.random(in: 0...UInt64.max))
        indexing = NamespaceIndexing(hasKernelLog: options.followsKernelLog)
        survey = try await HostScanner(group: options.group, indexing: indexing)
        var places: [FollowedNamespace] = []
        var sources: [NamespaceSource] = []
        var leftOut = LeftOut()
        let chosen = try namespaces ?? NamespaceDirectory.resolve(options.selectors)
        for namespace in chosen {
            do {
                try Self.checkRoom(for: namespace.name)
                let place = try Self.place(namespace)
                sources.append(
                    try NamespaceSource(
                        namespace, index: indexing.index(of: places.count), group: options.group,
                        snapLength: options.snapLength,
                        parser: parser,
                        registry: registry))
                // Takes a socket too, so before room is sought for the next namespace.
                let index = places.count
                ruleset.add(namespace, key: index, indices: indexing.indices(of: indexing.index(of: index)))
                places.append(place)
            } catch {
                guard options.selectors == [.all], namespace.name != "host", Self.mayBeLeftOut(error) else { throw error }
                _ = leftOut.insert(
                    name: namespace.name, inode: namespace.inode,
                    reason: Self.reason(error, namespaces: chosen.count))
            }
        }
        guard !places.isEmpty else { throw CollectorFailure.noNamespaces }
        if let news = leftOut.news(followed: places.count) { logger.warning("\(news)") }
        state = Mutex(State(places: places, leftOut: leftOut))
        await surveyRules()
        // Opened here, so that a failure ends the attempt.
        try await start(sources, try LiveSources.open(options, registry, logger), watcher: watcher)
    }

    private func start(
        _ sources: [NamespaceSource], _ others: LiveSources.Handover, watcher: (any JourneyWatcher)?
    ) async throws {
        var limits = Correlator.Limits()
        limits.linger = options.linger
        limits.settle = min(limits.settle, options.linger)
        limits.journeys = options.maximumJourneys
        let own = try NamespaceDirectory.host().inode
        let ownEndpoint = options.ownPort.flatMap { port in
            sources.first { $0.namespace.inode == own }.map {
                TraceAggregate.OwnEndpoint(namespaces: indexing.indices(of: $0.index), port: port)
            }
        }
        let recorder = options.recorder
        let tracer = makeRuleTracer()
        let requests = tracer.map(startRuleTracer)
        let routes = makeRouteReader()
        let askRoutes = startRouteReader(routes)
        let thread = Thread {
            [
                logger, parser, limits, mailbox, registry, exchange, watcher, run, finished, ownEndpoint, thinning, ruleset,
                isWanted = options.isWanted
            ] in
            let loop = EventLoop(
                mailbox: mailbox, registry: registry, exchange: exchange, watcher: watcher, limits: limits, run: run,
                ownEndpoint: ownEndpoint, others: others, recorder: recorder, notice: thinning,
                ruleset: ruleset, parser: parser, requests: requests, askRoutes: askRoutes, isWanted: isWanted,
                logger: logger)
            loop.runUntilStopped()
            finished.signal()
        }
        // The sources are the thread's alone from here on; nothing else keeps them, so that they go when it lets them go.
        for source in sources { mailbox.send(.add(LoopMessage.Handover(source: source))) }
        thread.name = "events"
        thread.stackSize = 4 << 20
        thread.start()
        let poller = Task { [weak self] in
            while !Task.isCancelled {
                try? await Task.sleep(for: .milliseconds(200))
                guard let self, !Task.isCancelled else { return }
                await watch()
            }
        }
        // Apart from the surveys, which may take long.
        let rulesetWatcher = Task { [ruleset, mailbox] in
            while !Task.isCancelled {
                ruleset.look()
                if ruleset.isBusy { mailbox.send(.rulesRead) }
                try? await Task.sleep(for: .milliseconds(100))
            }
        }
        state.withLock {
            $0.watcher = poller
            $0.rulesetWatcher = rulesetWatcher
        }
        if let tracer, options.ruleTracing != .afterDrops || !options.traced.isEmpty { await traceFromTheBeginning(tracer) }
    }

    /// Names of the namespaces being traced.
    public var namespaceNames: [String] {
        state.withLock { state in state.places.filter { $0.namespace != nil }.map(\.name) }
    }

    /// How many probes are in force.
    public var probeCount: Int {
        let layout = registry.current
        let now = Int64(Date().timeIntervalSince1970)
        return layout.probes.indices.count { index in
            if case .every(_, let until?) = layout.probes[index].coverage, until <= now { return false }
            return layout.isInForce[index]
        }
    }

    /// A snapshot at most 50 ms old; where the event loop makes none within 2 s, the last one that has `scope`, or `nil`.
    public func snapshot(_ scope: TraceSnapshot.Scope = .all) async -> TraceSnapshot? {
        await exchange.take(scope).map(withDropCounters)
    }

    /// The probes of all namespaces as the rules have them now.
    public func probeRows() async throws -> [ProbeRow] {
        let survey = try await ProbeSurvey()
        let journals = ProbeJournal.readAll()
        var rows: [ProbeRow] = []
        for namespace in state.withLock({ $0.places.compactMap(\.namespace) }) {
            rows += try await survey.rows(of: namespace, journals: journals)
        }
        return rows
    }

    /// Stops receiving, closes the open journeys, and returns the last snapshot.
    public func stop() -> TraceSnapshot? {
        let endRuleTracer = state.withLock {
            $0.watcher?.cancel()
            $0.rulesetWatcher?.cancel()
            $0.tracingKeeper?.cancel()
            $0.endRouteReader?()
            return $0.endRuleTracer
        }
        if let endRuleTracer {
            let ended = DispatchSemaphore(value: 0)
            Task {
                await endRuleTracer()
                ended.signal()
            }
            ended.wait()
        }
        // For the last time: whether all probes were in force up to now.
        ruleset.look()
        mailbox.send(.stop)
        finished.wait()
        let last = exchange.latest.map(withDropCounters)
        if let last { recordCounters(of: last) }
        return last
    }

    // MARK: Watching the machine

    let dropCounts = Mutex(DropCounts())
    let watched = Mutex(Watched())

    struct Watched {
        var journal = ProbeJournal.generation
        var ticks = 0
        var thinning = 0
        /// Why the namespaces could not be listed; `nil` where they could.
        var listFailure: String?
    }

    /// Five times a second: whether probes of ours were installed or removed, rules or interfaces changed, or a prefix came up that
    /// nothing explains. Once a second: namespaces that came or went. Every five seconds: settings.
    private func watch() async {
        let (ticks, isJournalNew) = watched.withLock { watched in
            let journal = ProbeJournal.generation
            defer {
                watched.journal = journal
                watched.ticks += 1
            }
            return (watched.ticks, journal != watched.journal)
        }
        tellOfThinning()
        if isJournalNew {
            // Reading the rules takes a while; until then probes that are on their way out prove nothing by their silence.
            let journals = ProbeJournal.readAll()
            for (index, place) in state.withLock({ $0.places }).enumerated() {
                guard let namespace = place.namespace else { continue }
                let runs = journals.runsBeingRemoved(from: namespace)
                for layout in indexing.indices(of: indexing.index(of: index)) {
                    registry.markUnreliable(runs: runs, namespace: layout)
                }
            }
            mailbox.send(.layoutChanged)
        }
        if registry.takeSurveyWish() { ruleset.wishSurvey() }
        var isChange = isJournalNew
        for link in state.withLock({ $0.places.compactMap(\.link) }) where link.hasChanged() { isChange = true }
        if ticks % 5 == 4, let present = listNamespaces() {
            if options.selectors.contains(.all) { isChange = take(newOf: present) || isChange }
            isChange = dropVanished(present) || isChange
            tellOfLeftOut()
        }
        if isChange || ticks % 25 == 24 {
            let before = registry.current
            let (places, leftOut) = state.withLock { ($0.places, $0.leftOut.namespaces) }
            _ = await survey.update(
                registry, places, leftOut: leftOut, rulesOf: [], readsLinks: true, isChange: isChange)
            if !registry.current.isSame(as: before) { mailbox.send(.layoutChanged) }
        }
        await surveyRules()
    }

    func watchRules(of namespace: NetworkNamespace, at index: Int) {
        ruleset.add(namespace, key: index, indices: indexing.indices(of: indexing.index(of: index)))
    }

    /// Surveys the rules of namespaces where they have changed, some at a time.
    private func surveyRules() async {
        let due = ruleset.due()
        for start in stride(from: 0, to: due.count, by: Self.surveyBatch) {
            let surveys = due[start..<min(due.count, start + Self.surveyBatch)].compactMap { ruleset.begin($0) }
            let before = registry.current
            let (places, leftOut) = state.withLock { ($0.places, $0.leftOut.namespaces) }
            let read = await survey.update(
                registry, places, leftOut: leftOut, rulesOf: Set(surveys.map(\.key)), readsLinks: false, isChange: true)
            for survey in surveys { ruleset.end(survey, isRead: read.contains(survey.key)) }
            logger.debug("the rules of \(read.map { places[$0].name }.sorted().joined(separator: ", ")) have been read")
            tellOfNew(read)
            mailbox.send(registry.current.isSame(as: before) ? .rulesRead : .layoutChanged)
        }
        if let news = survey.news(state.withLock { $0.places }) { logger.warning("\(news)") }
    }

    private static let surveyBatch = 8

    /// The layout and the failure that `troubles` tells of.
    var currentLayout: Layout { registry.current }
    var listFailure: String? { watched.withLock { $0.listFailure } }

    private func tellOfThinning() {
        let level = thinning.level.load(ordering: .relaxed)
        let before = watched.withLock { watched in
            defer { watched.thinning = level }
            return watched.thinning
        }
        guard level != before else { return }
        logger.warning(
            level == 0
                ? "all packets are followed again"
                : "more comes than can be followed: 1 flow in \(1 << level) is, whole; events are all counted"
        )
    }
}
