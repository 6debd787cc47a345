public import Aggregation
public import Captures
internal import Correlation
internal import Engine
private import Foundation
private import Glibc
internal import HostLayout
public import LinuxSupport
public import Logging
public import Ruleset
private import Synchronization
package import TraceModel
public import WireFormat

/// Receives the events of all namespaces and serves snapshots of the result.
public final class Collector: Sendable {
    public struct Options: Sendable {
        public var selectors: [NamespaceSelector]
        public var group: UInt16
        /// Bytes of each packet that are copied, from the IP header on. Packets are told apart by the first
        /// `PacketParser.reach` of them; more is for recordings.
        public var snapLength: UInt32
        /// How long a journey may be silent before it is closed, in microseconds.
        public var linger: Int64
        /// Live journeys at most.
        public var maximumJourneys: Int
        /// The port of the collector's own endpoint, whose traffic on loopback is in no report.
        public var ownPort: UInt16?
        /// Whether `/dev/kmsg` is followed for what LOG rules write.
        public var followsKernelLog: Bool
        /// Gets every message that is received, if it is there.
        public var recorder: Recorder?
        /// Which packets are traced through the rules.
        public enum RuleTracing: Sendable, Equatable {
            case off
            /// Those like one that was dropped, so that the rule that drops them is named.
            case afterDrops
            /// Besides, every one flow in so many, from its first packet on.
            case oneIn(UInt32)
        }

        public var ruleTracing: RuleTracing
        /// Packets that are traced through the rules from the beginning on, in all namespaces.
        package var traced: [TracedTraffic] = []
        /// Which journeys are added up; `nil`: all.
        package var isWanted: (@Sendable (Journey) -> Bool)?
        /// Called with each namespace that has appeared and in which nothing reports packets; without it, a warning tells of them.
        public var onUnprobed: (@Sendable (NetworkNamespace) -> Void)?

        public init(
            selectors: [NamespaceSelector] = [.all], group: UInt16 = 5,
            snapLength: UInt32 = UInt32(PacketParser.reach), linger: Int64 = 500_000, maximumJourneys: Int = 1 << 17,
            ownPort: UInt16? = nil, followsKernelLog: Bool = false,
            recorder: Recorder? = nil, ruleTracing: RuleTracing = .off,
            onUnprobed: (@Sendable (NetworkNamespace) -> Void)? = nil
        ) {
            self.onUnprobed = onUnprobed
            self.followsKernelLog = followsKernelLog
            self.recorder = recorder
            self.ruleTracing = ruleTracing
            self.selectors = selectors
            self.group = group
            self.snapLength = snapLength
            self.linger = linger
            self.maximumJourneys = maximumJourneys
            self.ownPort = ownPort
        }
    }

    private let options: Options
    private let logger: Logger
    private let registry = LayoutRegistry()
    private let mailbox = Mailbox<LoopMessage>()
    private let exchange: SnapshotExchange
    private let survey: HostScanner
    private let ruleset = RulesetWatch(clock: EventLoop.clock)
    private let indexing: NamespaceIndexing
    private let parser: PacketParser
    /// Identifies this run.
    private let run = UInt64.random(in: 1...UInt64.max)
    private let state: Mutex<State>
    private let finished = DispatchSemaphore(value: 0)
    private let thinning = FlowSampling.Notice()

    private struct State {
        /// By layout index.
        var places: [FollowedNamespace]
        var leftOut: LeftOut
        var watcher: Task<Void, Never>?
        var rulesetWatcher: Task<Void, Never>?
        var endRuleTracer: (@Sendable () async -> Void)?
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
        // Opened here, so that a failure ends the attempt; the thread's alone from then on.
        let log =
            options.followsKernelLog
            ? LogHandover(
                try KernelLogSource(
                    reader: LogReader(seed: UInt64.random(in: 0...UInt64.max), registry: registry)))
            : nil
        try await start(sources, log, watcher: watcher)
    }

    /// A source on its way to the event loop.
    private final class LogHandover: @unchecked Sendable {
        private var source: KernelLogSource?

        init(_ source: consuming KernelLogSource) { self.source = consume source }

        func take() -> KernelLogSource? { source.take() }
    }

    private func start(
        _ sources: [NamespaceSource], _ log: LogHandover?, watcher: (any JourneyWatcher)?
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
        let thread = Thread {
            [
                logger, parser, limits, mailbox, registry, exchange, watcher, run, finished, ownEndpoint, thinning, ruleset,
                isWanted = options.isWanted
            ] in
            let loop = EventLoop(
                mailbox: mailbox, registry: registry, exchange: exchange, watcher: watcher, limits: limits, run: run,
                ownEndpoint: ownEndpoint, kernelLog: log?.take(), recorder: recorder, notice: thinning,
                ruleset: ruleset, parser: parser, requests: requests, isWanted: isWanted,
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

    /// Returns when the kernel traces the packets that were named beforehand, wherever it can; keeps it at that.
    private func traceFromTheBeginning(_ tracer: RuleTracer) async {
        let traced = options.traced
        @Sendable func arm(_ indices: [Int]) async {
            await withTaskGroup(of: Void.self) { group in
                for index in indices { group.addTask { await tracer.take(.trace(index, traced)) } }
            }
        }
        await arm(followedIndices)
        let keeper = Task { [weak self] in
            while !Task.isCancelled {
                // Elements expire after `RuleTraceTable.timeout`; a namespace that appears waits no longer than this.
                try? await Task.sleep(for: .seconds(RuleTraceTable.timeout / 6))
                guard let self, !Task.isCancelled else { return }
                await arm(followedIndices)
            }
        }
        state.withLock { $0.tracingKeeper = keeper }
    }

    /// The namespaces that are followed, by their indices in the layout.
    private var followedIndices: [Int] {
        state.withLock { state in
            state.places.indices.filter { state.places[$0].namespace != nil }.map(indexing.index(of:))
        }
    }

    /// What traces rules, if that is wanted.
    private func makeRuleTracer() -> RuleTracer? {
        guard options.ruleTracing != .off else { return nil }
        let oneIn: UInt32? = if case .oneIn(let number) = options.ruleTracing { number } else { nil }
        return RuleTracer(logger: logger) { [weak self, indexing] index in
            self?.state.withLock { state in
                state.places.indices.first { indexing.index(of: $0) == index }.flatMap { state.places[$0].namespace }
            }
        } extent: { [registry] index in
            let layout = registry.current
            let others = layout.namespaces.indices.contains(index) ? layout.namespaces[index].facts?.otherChains ?? [] : []
            return RuleTraceTable.Extent(others, oneIn: oneIn)
        } send: { [mailbox] in
            mailbox.send($0)
        }
    }

    /// - Returns: asks `tracer` for something, without waiting.
    private func startRuleTracer(_ tracer: RuleTracer) -> @Sendable (RuleTracer.Request) -> Void {
        // At most 256 requests wait. A later one is discarded; the next packet that is dropped makes it again.
        let (stream, continuation) = AsyncStream.makeStream(of: RuleTracer.Request.self, bufferingPolicy: .bufferingOldest(256))
        let task = Task {
            for await request in stream { await tracer.take(request) }
            await tracer.end()
        }
        let clock = Task {
            while !Task.isCancelled {
                try? await Task.sleep(for: .seconds(1))
                continuation.yield(.tick)
            }
        }
        state.withLock {
            $0.endRuleTracer = {
                clock.cancel()
                continuation.finish()
                await task.value
            }
        }
        return { continuation.yield($0) }
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
    public func snapshot(_ scope: TraceSnapshot.Scope = .all) async -> TraceSnapshot? { await exchange.take(scope) }

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
        return exchange.latest
    }

    // MARK: Watching the machine

    private let watched = Mutex(Watched())

    private struct Watched {
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

    private func watchRules(of namespace: NetworkNamespace, at index: Int) {
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

    /// Tells of namespaces that have appeared and in which nothing reports packets.
    ///
    /// - Parameter read: places whose rules have been read.
    private func tellOfNew(_ read: Set<Int>) {
        let layout = registry.current
        let unprobed = state.withLock { state in
            state.places.indices.filter { state.places[$0].isNew && read.contains($0) }.compactMap {
                index -> NetworkNamespace? in
                state.places[index].isNew = false
                let own = Set(indexing.indices(of: indexing.index(of: index)))
                let isProbed = layout.probes.indices.contains {
                    layout.isInForce[$0] && own.contains(layout.probes[$0].namespace)
                }
                return isProbed ? nil : state.places[index].namespace
            }
        }
        for namespace in unprobed {
            if let onUnprobed = options.onUnprobed {
                onUnprobed(namespace)
            } else {
                logger.warning(
                    """
                    nothing reports the packets in namespace \(namespace.name), which has appeared; put probes in with: \
                    ipt-trace install-probes --netns \(namespace.name), or start collect with --follow-netns
                    """)
            }
        }
    }

    private static let surveyBatch = 8

    /// What `troubles` looks at.
    var currentLayout: Layout { registry.current }
    var listFailure: String? { watched.withLock { $0.listFailure } }

    /// - Returns: `nil` where the namespaces cannot be listed, which says nothing of them.
    private func listNamespaces() -> [NamespaceDirectory.Entry]? {
        var found: [NamespaceDirectory.Entry]?
        var failure: String?
        do {
            found = try NamespaceDirectory.list()
        } catch {
            failure = "\(error)"
        }
        let hadFailed = watched.withLock { watched in
            defer { watched.listFailure = failure.map { watched.listFailure ?? $0 } }
            return watched.listFailure != nil
        }
        if let failure, !hadFailed {
            logger.warning("cannot list the namespaces, so that none is taken up or let go: \(failure)")
        } else if failure == nil, hadFailed {
            logger.warning("the namespaces can be listed again")
        }
        return found
    }

    private func tellOfLeftOut() {
        let news = state.withLock { state in
            state.leftOut.news(followed: state.places.count { $0.namespace != nil })
        }
        if let news { logger.warning("\(news)") }
    }

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

    private static func place(_ namespace: NetworkNamespace) throws -> FollowedNamespace {
        FollowedNamespace(name: namespace.name, inode: namespace.inode, namespace: namespace, link: try LinkWatch(namespace))
    }

    /// - Returns: whether other namespaces are followed, or left out, than before.
    private func take(newOf present: [NamespaceDirectory.Entry]) -> Bool {
        var isChanged = state.withLock { $0.leftOut.keep(Set(present.map(\.inode))) }
        DescriptorLimit.raise(to: present.count * NamespaceDirectory.perNamespace + NamespaceDirectory.reserve)
        for entry in present {
            let index: Int? = state.withLock { state in
                // The number of one that is gone may be another's by now.
                let isKnown = state.places.contains { $0.namespace?.inode == entry.inode }
                return isKnown ? nil : state.places.count
            }
            guard let index else { continue }
            let namespace: NetworkNamespace
            let source: NamespaceSource
            var place: FollowedNamespace
            do {
                try Self.checkRoom(for: entry.name)
                namespace = try entry.open()
                place = try Self.place(namespace)
                source = try NamespaceSource(
                    namespace, index: indexing.index(of: index), group: options.group, snapLength: options.snapLength,
                    parser: parser, registry: registry)
            } catch let error as NamespaceError where error.isAbsence {
                continue
            } catch {
                let reason = Self.reason(error, namespaces: present.count)
                isChanged =
                    state.withLock { $0.leftOut.insert(name: entry.name, inode: entry.inode, reason: reason) } || isChanged
                continue
            }
            place.isNew = true
            state.withLock { [place] in
                $0.places.append(place)
                _ = $0.leftOut.remove(inode: entry.inode)
            }
            watchRules(of: namespace, at: index)
            // Before the first event of it can come.
            for layout in indexing.layouts(name: namespace.name, inode: namespace.inode) { registry.add(layout) }
            logger.info("namespace \(namespace.name) has appeared: it is followed")
            mailbox.send(.layoutChanged)
            mailbox.send(.add(LoopMessage.Handover(source: source)))
            isChanged = true
        }
        return isChanged
    }

    /// Lets namespaces go that nobody else has any more: not found twice in a row, since the process that one is found by may
    /// just have ended. Those that were given as a path may have no name and no process, and stay.
    private func dropVanished(_ present: [NamespaceDirectory.Entry]) -> Bool {
        let inodes = Set(present.map(\.inode))
        let gone = state.withLock { state in
            var gone: [Int] = []
            for index in state.places.indices where state.places[index].namespace != nil {
                let name = state.places[index].name
                let isPresent =
                    inodes.contains(state.places[index].inode) || name.contains("/") || NamespaceDirectory.isHidden(name)
                state.places[index].misses = isPresent ? 0 : state.places[index].misses + 1
                guard state.places[index].misses >= 2 else { continue }
                state.places[index].namespace = nil
                state.places[index].link = nil
                gone.append(index)
            }
            return gone.map { ($0, state.places[$0].name) }
        }
        for (index, name) in gone {
            ruleset.remove(key: index)
            logger.warning("namespace \(name) has vanished: no longer traced")
            mailbox.send(.remove(indexing.index(of: index)))
        }
        return !gone.isEmpty
    }
}
