internal import Aggregation
internal import Captures
internal import Correlation
internal import Engine
internal import Ruleset
internal import TraceModel
internal import WireFormat

/// What all inputs of an analysis feed: the engine, and the readers of each namespace.
struct AnalysisState: ~Copyable {
    var engine: TraceEngine
    var logReader: LogReader
    var ruleTraces: RuleTraceReader
    var problems = Problems()
    private let registry: LayoutRegistry
    private let rules: OfflineRules
    /// By namespace; those of the kernel log get nothing to read.
    private var readers: [ProbeResolver] = []
    /// Groups whose rules are known, by namespace.
    private var groups: [Int: Set<UInt16>] = [:]
    /// Far from overflow: nothing has come yet.
    private var now = Self.never
    private static let never: Int64 = -1 << 60
    private var records: UInt64 = 0
    private var lastAdvance = Self.never
    private var firstTime: Int64?
    /// Link domain offset of each run that recordings came from.
    private var runs: [UInt64] = []
    /// Link domains of recordings are below 1 << 29, those of loopbacks from 1 << 30 on.
    private static let firstFileLinkDomain: UInt32 = 1 << 29
    private static let mostRuns = 200
    private var machines: [MachineIdentity] = []
    /// Packets of namespaces that found no room.
    private var unfollowed: UInt64 = 0
    /// Microseconds by which records may be late.
    private let lateness: Int64
    /// Whether there is one recording only, which says itself up to when it is complete.
    private let isAlone: Bool
    private var isPaced = false
    /// Up to when a recording says that it has everything.
    private var latestComplete = Self.never
    /// Whether a recording has an end note, or was cut off. Journeys under way at that point stay `open`.
    private var hasEnd = false
    private var continuity = RecordingContinuity()
    /// What recordings say of the kernel's counters, by namespace.
    private var dropCounters: [Int: DropCounters] = [:]
    let observer: (any AnalysisObserver)?
    /// Told which machine a recording is of, before its events.
    private let onMachine: (MachineIdentity) -> Void

    init(
        registry: LayoutRegistry, rules: OfflineRules, engine: consuming TraceEngine, seed: UInt64, lateness: Int64,
        isAlone: Bool, observer: (any AnalysisObserver)?, onMachine: @escaping (MachineIdentity) -> Void
    ) {
        self.onMachine = onMachine
        self.observer = observer
        self.isAlone = isAlone
        self.registry = registry
        self.rules = rules
        self.engine = engine
        if let observer { self.engine.sink.onPath = { _, journey in observer.ended(journey) } }
        self.lateness = lateness
        logReader = LogReader(seed: seed, registry: registry)
        ruleTraces = RuleTraceReader(registry)
        registry.setTracedRules(rules.traced)
    }

    // MARK: Time

    /// Moves the time on to that of the next record.
    @inline(__always)
    mutating func move(to time: Int64) {
        records &+= 1
        // Memory is bounded even where time stands still.
        if records & 0xFFF == 0, !isPaced { engine.advance(to: now - lateness) }
        guard time != now else { return }
        moveOn(to: time)
    }

    private mutating func moveOn(to time: Int64) {
        if firstTime == nil {
            firstTime = time
            engine.since = time
        }
        if !isPaced { letTimePass(until: time) }
        now = max(now, time)
        engine.correlator.receive(at: now)
        if !isPaced, now - 10_000 >= lastAdvance {
            lastAdvance = now
            engine.advance(to: now - lateness)
        }
    }

    /// Where nothing was recorded for a while, journeys end one after the other, as they would have.
    private mutating func letTimePass(until time: Int64) {
        while engine.correlator.liveJourneys > 0, let next = nextStep(from: now, until: time, lateness: lateness) {
            now = next
            engine.advance(to: now - lateness)
        }
    }

    /// The next of the moments, 100 ms apart, at which a journey may end: a clock that was set makes years of those without.
    ///
    /// - Returns: `nil` where there is none before `time`.
    private func nextStep(from start: Int64, until time: Int64, lateness: Int64) -> Int64? {
        let step: Int64 = 100_000
        guard time - start > step, let deadline = engine.correlator.nextDeadline else { return nil }
        let next = start + max(1, (deadline + lateness - start) / step) * step
        return time - next >= 0 ? next : nil
    }

    /// The collector had received everything up to `time`: journeys end as they did there.
    private mutating func keepPace(_ time: Int64) {
        guard isAlone else { return }
        isPaced = true
        if lastAdvance == Self.never { lastAdvance = time }
        while engine.correlator.liveJourneys > 0, let next = nextStep(from: lastAdvance, until: time, lateness: 0) {
            lastAdvance = next
            engine.advance(to: lastAdvance)
        }
        lastAdvance = max(lastAdvance, time)
        engine.advance(to: lastAdvance)
    }

    /// Nothing has come for a while: of a file that is still written, what was silent for long enough has ended.
    mutating func idle() {
        guard now != Self.never else { return }
        now += 100_000
        engine.advance(to: now - lateness)
    }

    var events: UInt64 { engine.correlator.counters.events }

    /// When the last record was made.
    var latest: Int64 { now == Self.never ? 0 : now }

    // MARK: Namespaces

    /// The reader for a namespace of a capture; makes one where there is none.
    ///
    /// - Parameter index: the namespace's, where a recording has named it.
    /// - Returns: `nil` for a namespace more than there is room for.
    mutating func reader(named name: String, index: Int?) -> Int? {
        guard let index = index ?? registry.namespace(named: name, channel: .nflog) else { return nil }
        while readers.count <= index {
            readers.append(ProbeResolver(namespace: readers.count, registry: registry))
        }
        engine.takeLayout()
        return index
    }

    /// Takes one decoded message of NFLOG's.
    ///
    /// - Returns: as `ProbeResolver.take` does.
    @inline(__always)
    mutating func take(
        _ report: NFLogReport, _ packet: @autoclosure () -> Packet, _ origin: @autoclosure () -> NFLogOrigin,
        _ cache: inout ResolverCache, reader: Int, _ time: Int64
    ) -> UInt64 {
        readers[reader].take(report, packet(), origin(), &cache, now: time, into: &engine.correlator)
    }

    /// A packet will be taken soon.
    @inline(__always)
    mutating func expect(_ packet: Packet, reader: Int) { engine.correlator.expect(packet, namespace: reader) }

    /// A packet of a namespace that found no room.
    mutating func countUnfollowed() { unfollowed += 1 }

    mutating func countMalformed(reader: Int) { readers[reader].countMalformed(&engine.correlator) }

    /// A group has come up in a namespace: what its rules say of it holds from now on.
    mutating func learn(group: UInt16, namespace: Int, named name: String) {
        guard groups[namespace, default: []].insert(group).inserted, let page = rules.pages[name] else { return }
        registry.add(
            Self.moved(page.probes(.nflog, group: group), to: namespace), tracksConnections: page.survey.tracksConnections,
            decidingChains: page.survey.decidingChains, facts: page.survey.facts, namespace: namespace)
        layoutChanged()
    }

    /// The interfaces of all namespaces; those of two channels never meet.
    mutating func learn(_ links: OfflineLinks, _ channels: [EventChannel]) {
        guard !links.links.isEmpty else { return }
        for (number, channel) in channels.enumerated() {
            _ = registry.adopt(
                links.layout(channel), linkDomainOffset: Self.firstFileLinkDomain + UInt32(number) << 27, isChange: false)
        }
        layoutChanged()
    }

    /// The rules of all namespaces for the kernel log.
    mutating func learnLogRules() {
        for (name, page) in rules.pages.sorted(by: { $0.key < $1.key }) {
            let probes = page.probes(.log, group: nil)
            guard !probes.isEmpty else { continue }
            guard let namespace = registry.namespace(named: name, channel: .kernelLog) else { continue }
            registry.add(
                Self.moved(probes, to: namespace), tracksConnections: page.survey.tracksConnections,
                decidingChains: page.survey.decidingChains, facts: page.survey.facts, namespace: namespace)
        }
        layoutChanged()
    }

    private static func moved(_ probes: [Probe], to namespace: Int) -> [Probe] {
        probes.map { probe in
            var probe = probe
            probe.namespace = namespace
            return probe
        }
    }

    private mutating func layoutChanged() {
        engine.takeLayout()
        for index in readers.indices { readers[index].layoutChanged() }
        logReader.layoutChanged()
    }

    // MARK: Recordings

    /// - Returns: the index here of each of the recording's namespaces; `nil` for one that found no room.
    mutating func adopt(_ recorded: RecordedLayout) -> [Int?] {
        if !machines.contains(recorded.machine) { machines.append(recorded.machine) }
        if !runs.contains(recorded.run) { runs.append(recorded.run) }
        // Of several machines none is the one.
        onMachine(machines.count == 1 ? recorded.machine : MachineIdentity())
        let number = UInt32(min(runs.firstIndex(of: recorded.run) ?? 0, Self.mostRuns))
        var layout = recorded.layout
        if let machine = machines.firstIndex(of: recorded.machine), machine > 0 {
            // Namespaces of another machine are others, whatever they are called.
            for index in layout.namespaces.indices { layout.namespaces[index].name += "@\(machine + 1)" }
        }
        let places = registry.adopt(layout, linkDomainOffset: (number + 1) << 20, isChange: true)
        if let own = recorded.ownPort {
            engine.sink.aggregate.addOwn(
                TraceAggregate.OwnEndpoint(
                    namespaces: own.namespaces.filter(places.indices.contains).compactMap { places[$0] }, port: own.port))
        }
        layoutChanged()
        return places
    }

    /// A capturing program says that it lost packets.
    mutating func noteLoss(_ packets: UInt64, reader: Int) {
        readers[reader].noteLoss(packets)
        engine.correlator.noteLoss(namespace: reader)
    }

    /// Whether a report follows the last one of its namespace.
    func follows(_ report: NFLogReport, reader: Int) -> Bool { readers[reader].follows(report) }

    /// Records of a namespace are missing, how many is not known.
    mutating func noteMissing(in namespace: Int, until time: Int64) {
        engine.correlator.noteLoss(namespace: namespace, until: time)
    }

    /// Notes missing records in every namespace that reports by NFLOG.
    mutating func noteMissing(until time: Int64) {
        let namespaces = registry.current.namespaces
        for index in namespaces.indices where namespaces[index].channel == .nflog { noteMissing(in: index, until: time) }
    }

    /// The layout of a recording may have changed, which is not known: its probes prove nothing by their silence until the next.
    mutating func markProbesUnreliable(of places: [Int?]) {
        guard !places.isEmpty else { return }
        registry.markUnreliable(namespaces: Set(places.compactMap(\.self)))
        engine.takeLayout()
    }

    /// A recording has ended.
    ///
    /// - Parameters:
    ///   - part: which of its files.
    ///   - places: its namespaces' indices here.
    ///   - isBroken: whether events came behind its end that are not in it.
    mutating func noteEnd(of part: RecordingContinuity.Part, places: [Int?], isBroken: Bool) {
        hasEnd = true
        continuity.end(part, isBroken: isBroken)
        guard isBroken else { return }
        for place in places.compactMap(\.self) { engine.correlator.noteLoss(namespace: place) }
    }

    /// A file of a recording begins.
    ///
    /// - Parameter time: when the latest event before it was received.
    mutating func noteBeginning(of part: RecordingContinuity.Part, at time: Int64, hasGap: Bool, places: [Int?]) {
        guard !continuity.begin(part, hasGap: hasGap) else { return }
        for place in places.compactMap(\.self) { engine.correlator.noteLoss(namespace: place, until: time) }
    }

    /// Events were left out of a recording here and there; each place is noted in it.
    mutating func noteLeftOut() { continuity.isThin = true }

    mutating func take(_ note: RecordedNote, places: [Int?]) {
        func place(_ namespace: Int) -> Int? { places.indices.contains(namespace) ? places[namespace] : nil }
        switch note {
        case .connection(let namespace, let original, let reply, let isNew):
            guard let namespace = place(namespace) else { return }
            if isNew {
                engine.correlator.noteTranslation(namespace: namespace, original: original, reply: reply)
            } else {
                engine.correlator.forgetTranslation(namespace: namespace, original: original, reply: reply)
            }
        case .loss(let namespace):
            if let namespace = place(namespace) { engine.correlator.noteLoss(namespace: namespace) }
        case .complete(let time):
            latestComplete = max(latestComplete, time)
            keepPace(time)
        case .drop(let namespace, let drop):
            guard let namespace = place(namespace) else { return }
            do {
                engine.sink.ruleTraces.take(try drop.drop(), namespace: namespace)
            } catch {
                problems.add("a recorded rule trace is not understood: \(error)")
            }
        case .walk(let namespace, let trace):
            guard let namespace = place(namespace) else { return }
            do {
                engine.sink.ruleTraces.take(try trace.walk(namespace: namespace), of: trace.packet, time: trace.time)
            } catch {
                problems.add("a recorded rule trace is not understood: \(error)")
            }
        case .rule(let namespace, let json):
            guard let namespace = place(namespace) else { return }
            do {
                let rule = try RecordedRule(json: json)
                engine.sink.ruleTraces.note(
                    [rule.place: RuleText(text: rule.text, position: rule.position, isProbe: rule.isProbe)],
                    of: [rule.place], namespace: namespace)
            } catch {
                problems.add("a recorded rule is not understood: \(error)")
            }
        case .counters(let namespace, let json):
            guard let namespace = place(namespace) else { return }
            do {
                let risen = try DropCounters(json: json)
                dropCounters[namespace] = (dropCounters[namespace] ?? DropCounters()) + risen
            } catch {
                problems.add("recorded counters are not understood: \(error)")
            }
        case .kernelDrop(let drop): engine.sink.dropReasons.take(drop)
        case .kernelDropsMissing(let time): engine.sink.dropReasons.noteLoss(1, now: time)
        case .route(let namespace, let route):
            guard let namespace = place(namespace) else { return }
            do {
                let (lookup, decision) = try route.restored(namespace: namespace)
                engine.sink.routes.note(decision, of: lookup, since: route.since, asked: route.asked)
            } catch {
                problems.add("a recorded route is not understood: \(error)")
            }
        case .routesChanged(let namespace, let time):
            if let namespace = place(namespace) { engine.sink.routes.noteChange(namespace: namespace, after: time) }
        case .begin, .end: break
        }
    }

    // MARK: Results

    mutating func finish() {
        // A file holds all events up to its end, so that journeys without an end by then may be closed. A recording is complete
        // only up to the time that its notes give.
        if now != Self.never {
            letTimePass(until: hasEnd ? max(now, latestComplete) : Int64.max / 2)
            if hasEnd, latestComplete > now { engine.advance(to: latestComplete) }
        }
        engine.finish()
        let named = Set(registry.current.namespaces.map(\.name))
        for name in rules.pages.keys.sorted() where !named.contains(name) {
            problems.add(
                "rules of namespace \(name) were given, but nothing that was read is of it; to name a capture's namespace: "
                    + "\(name)=FILE")
        }
    }

    mutating func snapshot() -> TraceSnapshot {
        var counters = logReader.counters
        counters.events += ruleTraces.counters.events
        counters.unresolved += ruleTraces.counters.unresolved
        counters.events += unfollowed
        counters.unresolved += unfollowed
        var unresolved = logReader.unresolved.events.map { UnresolvedPrefix(netns: nil, prefix: $0.key, events: $0.value) }
        unresolved += ruleTraces.unresolved.events.map { UnresolvedPrefix(netns: "host", prefix: $0.key, events: $0.value) }
        let layout = registry.current
        for reader in readers {
            counters.add(reader.counters)
            unresolved += reader.unresolved.events.map {
                UnresolvedPrefix(netns: layout.namespaces[reader.namespace].name, prefix: $0.key, events: $0.value)
            }
        }
        var snapshot = engine.snapshot(
            now: latest, counters: counters,
            unresolved: unresolved.sorted { ($1.events, $0.prefix) < ($0.events, $1.prefix) })
        snapshot.completeness.gaps = continuity.gaps
        snapshot.explain(by: dropCounters)
        return snapshot
    }
}
