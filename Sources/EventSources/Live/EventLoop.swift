internal import Aggregation
internal import Captures
internal import Correlation
internal import Engine
private import Foundation
private import Glibc
internal import HostLayout
internal import LinuxSupport
internal import Logging
private import Synchronization
internal import TraceModel
internal import WireFormat

/// A message to the event loop.
enum LoopMessage: Sendable {
    /// The registry has a new layout.
    case layoutChanged
    case add(Handover)
    /// A namespace has vanished: by its index in the layout.
    case remove(Int)
    /// Readers wait for a snapshot.
    case snapshotWanted
    /// There is news of rules that have changed.
    case rulesRead
    /// Rules of a namespace are traced, and this is where it is heard; `nil`: no longer.
    case ruleTraces(Int, RuleTraceSockets?)
    /// Rules that traces have named, and what could be read of them.
    case rulesNamed(Int, Set<RulePlace>, [RulePlace: RuleText])
    /// What rules of iptables-legacy did to packets whose traces were received up to then.
    case legacyDecided(Int, received: Int64, [LegacyTrace: LegacyStep])
    /// What the routing tables of a namespace say, asked at a time (microseconds since 1970), unchanged since another.
    case routed([RouteLookup: RoutingDecision], since: Int64, asked: Int64)
    /// Routes of a namespace have changed, not before a time.
    case routesChanged(Int, after: Int64)
    case stop

    /// A source on its way from the thread that opened it to the loop, which alone uses it from then on.
    struct Handover: @unchecked Sendable {
        let source: NamespaceSource
    }
}

/// The one hot thread: waits on all sockets, drains each in large batches, parses in place, correlates, adds up.
struct EventLoop: ~Copyable {
    private let mailbox: Mailbox<LoopMessage>
    private let exchange: SnapshotExchange
    private var sources: [NamespaceSource] = []
    private let others: [any LiveSource]
    private var tap: RecordingTap?
    private var vocabulary = TemplateRegistry()
    private var engine: TraceEngine
    /// Deliveries that were dropped because a receive buffer was full.
    private var bufferDrops: UInt64 = 0
    /// Counts of namespaces that have vanished.
    private var departed = IntakeCounters()
    private var isStopping = false
    private var thinning = FlowSampling()
    private var confirmed: ConfirmedTime
    private let notice: FlowSampling.Notice
    private let ruleset: RulesetWatch
    private var isLayoutWaiting = false
    /// By the index of their namespaces.
    private var ruleTraces: [Int: RuleTraceSockets] = [:]
    /// Datagrams of traces that did not fit into a receive buffer, and how many of them each namespace's sockets had counted last.
    private var lostTraces: UInt64 = 0
    private var traceDrops: [Int: UInt32] = [:]
    private let parser: PacketParser
    /// Asks for traces and texts of rules; `nil` where none are wanted.
    private let requests: (@Sendable (RuleTracer.Request) -> Void)?
    private var tracing = TracingRequests()
    private let askRoutes: @Sendable ([RouteLookup]) -> Void

    /// - Parameters:
    ///   - others: driven beside the sockets of the namespaces.
    ///   - recorder: gets every message.
    ///   - isWanted: which journeys are added up; `nil`: all.
    init(
        mailbox: Mailbox<LoopMessage>, registry: LayoutRegistry, exchange: SnapshotExchange,
        watcher: (any JourneyWatcher)?, limits: Correlator.Limits, run: UInt64, ownEndpoint: TraceAggregate.OwnEndpoint?,
        others: LiveSources.Handover, recorder: Recorder?, notice: FlowSampling.Notice, ruleset: RulesetWatch,
        parser: PacketParser, requests: (@Sendable (RuleTracer.Request) -> Void)?,
        askRoutes: @escaping @Sendable ([RouteLookup]) -> Void,
        isWanted: (@Sendable (Journey) -> Bool)?,
        logger: Logger
    ) {
        self.parser = parser
        self.requests = requests
        self.askRoutes = askRoutes
        self.notice = notice
        self.ruleset = ruleset
        confirmed = ConfirmedTime(delay: limits.delay)
        self.mailbox = mailbox
        self.exchange = exchange
        self.others = others.sources
        engine = TraceEngine(
            registry: registry, limits: limits, run: run, since: Self.clock(), ownEndpoint: ownEndpoint, watcher: watcher)
        engine.sink.isWanted = isWanted
        engine.sink.asksForRoutes = true
        if logger.logLevel <= .debug {
            engine.correlator.onComparison = { [registry] comparison in
                logger.debug("\(comparison.text(registry.current))")
            }
        }
        if let recorder {
            let tap = RecordingTap(recorder)
            engine.sink.onPath = { path, journey in tap.note(path, journey) }
            engine.sink.ruleTraces.keepsKnown = true
            engine.sink.dropReasons.keepsNew = true
            self.tap = tap
        }
    }

    /// Microseconds since 1970 that never jump: what the clock on the wall said at the beginning, and the time that has
    /// passed since. Setting the wall clock neither ends journeys nor keeps them from ending.
    static func clock() -> Int64 { wallClockAtBegin + Clock.monotonic }

    private static let wallClockAtBegin = Clock.wall - Clock.monotonic

    /// Runs until told to stop; then closes the open journeys and publishes the last snapshot.
    consuming func runUntilStopped() {
        takeLayout()
        var buffer = [UInt8](repeating: 0, count: 1 << 18)
        var polled = PollSet()
        var inputs: [(events: PollSet.Entry, conntrack: PollSet.Entry)] = []
        while !isStopping {
            polled.removeAll()
            inputs.removeAll(keepingCapacity: true)
            let mail = polled.add(mailbox.descriptor)
            for source in sources {
                let events = polled.add(source.log.descriptor)
                inputs.append((events, polled.add(source.conntrack?.socket.descriptor)))
            }
            let other = others.map { polled.add($0.descriptor) }
            let rulesetNotices = polled.add(ruleset.descriptor)
            let traces = ruleTraces.map {
                (
                    index: $0.key, sockets: $0.value, entry: polled.add($0.value.nftables.descriptor),
                    logger: polled.add($0.value.logger?.descriptor)
                )
            }
            // While journeys are under way their ends are looked for, else there is nothing to do until something comes.
            let timeout: Int32 = engine.correlator.liveJourneys > 0 || ruleset.isBusy ? 10 : 1000
            // This thread may be kept from running at any point. A socket that is not readable had nothing before poll
            // was called; what came into one that is drained before its drain began is in.
            if gathersEvents { polled.waitForFirst(milliseconds: Self.gathering) }
            let asked = Self.clock()
            polled.wait(milliseconds: timeout)
            let begun = Self.clock()
            engine.correlator.receive(at: begun)
            for (source, input) in zip(sources, inputs) {
                if polled.isReady(input.conntrack) { drainConntrack(source, &buffer) }
                source.hasReceived = polled.isReady(input.events)
                if !source.hasReceived {
                    source.drainedAt = asked
                    source.hasMore = false
                } else if drain(source, &buffer, now: begun) {
                    source.drainedAt = begun
                    source.hasMore = false
                } else {
                    source.hasMore = true
                }
            }
            for (source, entry) in zip(others, other) where polled.isReady(entry) {
                source.drain(into: &buffer, now: begun, &engine)
            }
            for trace in traces {
                if polled.isReady(trace.entry) { drain(trace.sockets.nftables, of: trace.index, &buffer, now: begun) }
                if let socket = trace.sockets.logger, polled.isReady(trace.logger) {
                    drain(socket, of: trace.index, &buffer, now: begun)
                }
                // A socket that had nothing was not full: no call to the kernel for it.
                if polled.isReady(trace.entry) || polled.isReady(trace.logger) {
                    countLostTraces(trace.sockets, of: trace.index, now: begun)
                }
            }
            for (index, places) in engine.sink.ruleTraces.takeUnread() { requests?(.read(index, places)) }
            for (index, drop) in engine.sink.ruleTraces.takeKnown() { tap?.add(drop, namespace: index) }
            tap?.add(engine.sink.ruleTraces.takeWalkNotes())
            tap?.add(engine.sink.dropReasons.takeNew(), now: begun)
            // A loss is known from the next sequence number, if there is one; the socket's own count knows it now. One that
            // had nothing was not full.
            checkBuffers(sources.lazy.filter(\.hasReceived), now: begun)
            // A journey may only be closed for want of events that were received everywhere.
            var complete = begun
            for source in sources { complete = min(complete, source.drainedAt) }
            let confirmed = confirmed.note(drained: complete)
            let rules = ruleset.turn(
                isReadable: polled.isReady(rulesetNotices), asked: asked, now: begun, confirmed: confirmed)
            for change in rules.changing { engine.correlator.noteRulesChanging(namespace: change.index, since: change.since) }
            engine.advance(to: complete, confirmed: min(confirmed, rules.known))
            askForTraces(now: begun)
            let lookups = engine.sink.takeUnaskedRoutes()
            if !lookups.isEmpty { askRoutes(lookups) }
            take(rules)
            tap?.advance(to: min(complete, rules.known), isIdle: engine.correlator.liveJourneys == 0)
            tap?.handOver()
            if polled.isReady(mail) {
                for message in mailbox.receive() { handle(message) }
            }
        }
        receiveTheRest(&buffer)
        checkBuffers(sources, now: Self.clock())
        let now = Self.clock()
        for change in ruleset.turn(isReadable: true, asked: now, now: now, confirmed: .min).changing {
            engine.correlator.noteRulesChanging(namespace: change.index, since: change.since)
        }
        engine.finish()
        tap?.finish()
        exchange.publish(snapshot())
        for source in others { source.end() }
        exchange.end()
    }

    /// Waits a little after a turn that received something, for more to come: waking up costs more than a delivery does, since
    /// nothing of ours is in the processor's caches then. Who asks for a snapshot is heard meanwhile.
    private var gathersEvents: Bool { sources.contains { $0.hasReceived } && !sources.contains { $0.hasMore } }

    /// Milliseconds, fewer than the kernel itself gathers for (`NFLogSocket.Settings.flushTimeout`).
    private static let gathering: Int32 = 5

    /// What the kernel still gathers is delivered within its flush timeout of 10 ms; twice that is waited for, in turns.
    private mutating func receiveTheRest(_ buffer: inout [UInt8]) {
        for _ in 0..<4 {
            usleep(5000)
            // Bounded, because the traffic need not end only because we do.
            for source in sources { for _ in 0..<64 where drain(source, &buffer, now: Self.clock()) { break } }
            for source in others { source.drain(into: &buffer, now: Self.clock(), &engine) }
        }
    }

    /// Receives the waiting messages, in large batches.
    ///
    /// - Returns: whether nothing is left; false where there is more than one turn takes.
    private mutating func drain(_ source: NamespaceSource, _ buffer: inout [UInt8], now: Int64) -> Bool {
        source.log.drain(
            into: &source.reader, with: &vocabulary, of: source.index, now: now, &buffer, &engine.correlator, recording: tap)
    }

    /// Receives messages about traced packets, and asks for the rules that dropped some.
    private mutating func drain(_ socket: RuleTraceSocket, of index: Int, _ buffer: inout [UInt8], now: Int64) {
        var unknown: Set<RulePlace> = []
        for _ in 0..<256 {
            // A lost message names no rule: the next packet's trace may.
            guard case .bytes(let count) = socket.receive(into: &buffer) else { break }
            let bytes = buffer.octets.extracting(0..<count)
            unknown.formUnion(engine.sink.ruleTraces.take(bytes, parser: parser, namespace: index, now: now))
        }
        if !unknown.isEmpty { requests?(.read(index, unknown)) }
    }

    /// Receives the traces of iptables-legacy, which are NFLOG messages, and asks for the verdicts of the rules that they number.
    private mutating func drain(_ socket: LoggerSocket, of index: Int, _ buffer: inout [UInt8], now: Int64) {
        for _ in 0..<256 {
            guard case .bytes(let count) = socket.receive(into: &buffer) else { break }
            let bytes = buffer.octets.extracting(0..<count)
            engine.sink.ruleTraces.takeLogged(bytes, parser: parser, namespace: index, now: now)
        }
        askForLegacyDecisions(of: index, now: now)
    }

    private mutating func countLostTraces(_ sockets: RuleTraceSockets, of index: Int, now: Int64) {
        let drops = sockets.nftables.drops &+ (sockets.logger?.drops ?? 0)
        guard drops != traceDrops[index] ?? 0 else { return }
        engine.sink.ruleTraces.noteLoss(namespace: index, at: now)
        lostTraces += UInt64(drops &- (traceDrops[index] ?? 0))
        traceDrops[index] = drops
    }

    /// Asks `RuleTracer` for the rules that new traces number, unless an answer for that namespace is still awaited.
    private mutating func askForLegacyDecisions(of index: Int, now: Int64) {
        guard let traces = engine.sink.ruleTraces.takeUndecidedLegacy(namespace: index) else { return }
        requests?(.decide(index, traces, received: now))
    }

    /// Has packets traced that are like those that were dropped by nobody knows what.
    private mutating func askForTraces(now: Int64) {
        guard let requests else {
            engine.sink.undecided.removeAll()
            return
        }
        for (index, traffic) in tracing.take(&engine.sink.undecided, of: engine.sink.layout, now: now) {
            requests(.trace(index, traffic))
        }
    }

    private mutating func drainConntrack(_ source: NamespaceSource, _ buffer: inout [UInt8]) {
        guard let conntrack = source.conntrack else { return }
        conntrack.socket.drain(into: &buffer) { connection, isNew in
            if isNew {
                engine.correlator.noteTranslation(
                    namespace: source.index, original: connection.original, reply: connection.reply)
            } else {
                engine.correlator.forgetTranslation(
                    namespace: source.index, original: connection.original, reply: connection.reply)
            }
            tap?.add(connection, namespace: source.index, isNew: isNew)
        }
        let drops = conntrack.socket.drops
        guard drops != source.conntrackDrops else { return }
        // A packet whose translation is not known may not be found where it arrives.
        bufferDrops += UInt64(drops &- source.conntrackDrops)
        source.conntrackDrops = drops
        engine.correlator.noteLoss(namespace: source.index)
        tap?.addLoss(namespace: source.index)
    }

    /// Connections that began before us.
    private mutating func loadTranslations(of source: NamespaceSource) {
        for connection in source.takeConnections() {
            engine.correlator.noteTranslation(
                namespace: source.index, original: connection.original, reply: connection.reply)
            tap?.add(connection, namespace: source.index, isNew: true)
        }
    }

    /// Counts what did not fit into receive buffers, and follows fewer packets while they fill up.
    ///
    /// - Parameter sources: those from which there was something to receive: one that had nothing was not full.
    private mutating func checkBuffers(_ sources: some Sequence<NamespaceSource>, now: Int64) {
        var fill = 0.0
        var hasDropped = false
        for source in sources {
            let memory = source.log.memory
            fill = max(fill, Double(memory.used) / Double(max(1, memory.limit)))
            guard memory.drops != source.drops else { continue }
            hasDropped = true
            bufferDrops += UInt64(memory.drops &- source.drops)
            source.drops = memory.drops
            engine.correlator.noteLoss(namespace: source.index)
            tap?.addLoss(namespace: source.index)
        }
        guard thinning.note(fill: fill, hasDropped: hasDropped, now: now) else { return }
        notice.level.store(thinning.level, ordering: .relaxed)
        engine.correlator.isThinning = thinning.level > 0
        for source in self.sources {
            source.reader.thinning = thinning.level
            // An open journey is followed to its end, or from its beginning, by chance only.
            engine.correlator.noteLoss(namespace: source.index)
        }
    }

    /// Takes the news of changed rules, once everything that ended before has been decided by the rules before.
    private mutating func take(_ rules: RulesetWatch.Turn) {
        if (isLayoutWaiting || !rules.settled.isEmpty) && rules.mayTakeLayout {
            isLayoutWaiting = false
            takeLayout()
        }
        for (index, since) in rules.settled { engine.correlator.noteRulesKnown(namespace: index, since: since) }
        for index in rules.unchanged { engine.correlator.noteRulesUnchanged(namespace: index) }
    }

    private mutating func takeLayout() {
        guard engine.takeLayout() else { return }
        for source in sources { source.reader.layoutChanged() }
        for source in others { source.layoutChanged() }
        let own = engine.sink.aggregate.ownEndpoints.first.map { OwnPort(namespaces: $0.namespaces, port: $0.port) }
        tap?.add(engine.sink.layout, ownPort: own)
    }

    private mutating func handle(_ message: LoopMessage) {
        switch message {
        case .layoutChanged: isLayoutWaiting = true
        case .rulesRead: break
        case .add(let handover):
            sources.append(handover.source)
            handover.source.reader.thinning = thinning.level
            loadTranslations(of: handover.source)
        case .remove(let index):
            for source in sources where source.index == index {
                departed.add(source.reader.counters)
            }
            sources.removeAll { $0.index == index }
            ruleTraces[index] = nil
            engine.correlator.forgetTranslations(namespace: index)
        case .snapshotWanted:
            if let scope = exchange.wanted { exchange.publish(snapshot(scope), scope) }
        case .ruleTraces(let index, let sockets):
            ruleTraces[index] = sockets
            traceDrops[index] = nil
            if sockets == nil { engine.sink.ruleTraces.forgetLegacy(namespace: index) }
        case .rulesNamed(let index, let places, let found):
            engine.sink.ruleTraces.note(found, of: places, namespace: index)
        case .legacyDecided(let index, let received, let found):
            engine.sink.ruleTraces.note(found, received: received, namespace: index)
            askForLegacyDecisions(of: index, now: Self.clock())
        case .routed(let decisions, let since, let asked):
            for (lookup, decision) in decisions {
                engine.sink.routes.note(decision, of: lookup, since: since, asked: asked)
                tap?.add(decision, of: lookup, since: since, asked: asked)
            }
        case .routesChanged(let index, let time):
            engine.sink.routes.noteChange(namespace: index, after: time)
            tap?.addRouteChange(namespace: index, after: time)
        case .stop: isStopping = true
        }
    }

    /// How long ago the receive buffer was last empty that has been full of events for longest.
    private var lag: Int64 {
        let since = sources.lazy.filter(\.hasMore).map(\.drainedAt).min()
        return since.map { Self.clock() - $0 } ?? 0
    }

    private mutating func snapshot(_ scope: TraceSnapshot.Scope = .all) -> TraceSnapshot {
        var counters = departed
        var unresolved: [UnresolvedPrefix] = []
        let layout = engine.registry.current
        for source in sources {
            counters.add(source.reader.counters)
            unresolved += source.reader.unresolved.events.map {
                UnresolvedPrefix(netns: layout.namespaces[source.index].name, prefix: $0.key, events: $0.value)
            }
        }
        var overflows = bufferDrops
        for counts in others.map(\.counts) {
            counters.add(counts.intake)
            overflows += counts.overflows
            unresolved += counts.unresolved.map { UnresolvedPrefix(netns: nil, prefix: $0.key, events: $0.value) }
        }
        var snapshot = engine.snapshot(
            scope, now: Self.clock(), counters: counters, overflows: overflows,
            followedOneIn: 1 << UInt64(thinning.level), behind: lag,
            unresolved: unresolved.sorted { ($1.events, $0.prefix) < ($0.events, $1.prefix) })
        if lostTraces > 0 { snapshot.completeness.ruleTracesLost = lostTraces }
        return snapshot
    }
}

extension Comparison {
    /// One line for the log.
    fileprivate func text(_ layout: Layout) -> String {
        let name = layout.namespaces.indices.contains(namespace) ? layout.namespaces[namespace].name : "?"
        let result = taken.map { "took the one that began with event \($0)" } ?? "none fitted"
        return "\(name): compared \(looked) legs that \(purpose.rawValue), \(packet): \(result)"
            + (tied > 0 ? "; \(tied) more would have done as well" : "")
    }
}
