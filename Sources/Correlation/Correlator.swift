public import TraceModel

/// Takes the journeys that a correlator closes.
public protocol JourneySink {
    /// - Parameters:
    ///   - journey: lent for the call; copy it to keep it.
    ///   - stepTrie: tells the steps of the journey's legs.
    ///   - history: the latest events, with those of the journey as far as they are still there.
    mutating func accept(_ journey: Journey, stepTrie: StepTrie, history: EventHistory)
}

/// Puts the events of one packet back together across chains, address translation and namespaces.
///
/// Not copyable: open journeys are in memory of its own (`Slab`).
///
/// A pure state machine: events and the time go in, journeys come out. Events of one namespace come in the order of the
/// kernel's sequence numbers; those of different namespaces in any order, as their sockets are drained.
///
/// - Within a namespace an event continues the live leg with its fingerprint that stands just before it: the one at
///   the nearest earlier place, and of several the one that moved last, because a packet is carried to its end before
///   the next one starts.
/// - Between namespaces a leg that has left is joined with one that has arrived, by fingerprint, addresses and
///   topology; of several the one that waited longest, because links keep the order. What connection tracking does not
///   confirm waits until nothing better can come.
/// - Where more than one would have done, all of them are marked ambiguous; so are those for which one may still be
///   underway to the receiver, and copies of one packet that are under way at the same time while events are lost.
public struct Correlator: ~Copyable {
    public struct Limits: Sendable {
        /// Microseconds without an event after which a journey is closed.
        public var linger: Int64 = 500_000
        /// The same for a journey whose end is certain and complete.
        public var settle: Int64 = 50_000
        /// The same for a packet that has left for a namespace being traced and has not arrived: it may wait for its next
        /// hop's address, for which the kernel asks three times at intervals of a second (ARP, neighbour discovery).
        public var crossing: Int64 = 4_000_000
        /// Microseconds for which an event may be on its way to whoever calls `ingest`, when everything else is in: the
        /// kernel gathers events, for as long as its flush timeout says, and longer on a busy machine.
        public var delay: Int64 = 50_000
        /// Live journeys; past it the oldest is closed early and counted.
        public var journeys = 1 << 17
        /// Events kept for showing journeys step by step; a power of two.
        public var history = 1 << 15
        /// Connections with translated addresses that are remembered.
        public var translations = 1 << 16
        /// Whether losses may be told by nothing but what is missing, as in files that were damaged: a packet that is first seen
        /// where none can begin is a sign of it.
        public var doubtsGaps = false
        /// Sequences of steps within a namespace that are kept apart (`StepTrie`).
        public var stepPaths = 1 << 20

        public init() {}
    }

    /// What happened so far.
    public struct Counters: Sendable, Equatable {
        public var events: UInt64 = 0
        public var journeys: UInt64 = 0
        public var evicted: UInt64 = 0
        public var ambiguous: UInt64 = 0
        /// Copies of multicast packets that arrived in a namespace where nobody had asked for them.
        public var unwanted: UInt64 = 0
    }

    /// What the hot path needs to know of a probe.
    struct ProbePlace {
        var namespace: UInt16
        var priority: Int16
        var condition: UInt32
        var hook: Hook
        var backend: Backend
        /// A packet passes it once: the head probe of a built-in chain.
        var isPassedOnce: Bool
        var isNAT: Bool
        var isLastOnTheWayOut: Bool
        /// A probe may stand behind the source translation of this hook.
        var leadsBehindTranslation: Bool
        /// What it reports may be no step of its own: see `isStep`.
        var mayReportNoStep: Bool
    }

    public internal(set) var counters = Counters()
    public internal(set) var stepTrie: StepTrie
    public internal(set) var history: EventHistory

    let limits: Limits
    public private(set) var layout = Layout()
    var rulesetChanges = RulesetChanges()
    var expectedProbes = ExpectedProbes(Layout())
    /// Namespaces whose rules or interfaces could not be read.
    var unread: Set<Int> = []
    var places: [ProbePlace] = []
    /// Of each probe behind a jump to a user-defined chain, the probe at that chain's head; none where there is none.
    private var jumpTargets: [UInt32: UInt32] = [:]
    var losses = EventLosses()
    var translations: TranslationTable
    var live = LiveStore()
    var tunnelLinks = TunnelLinks()
    /// Whether packets may carry others here.
    public internal(set) var hasTunnels = false
    var deadlines: JourneyDeadlines
    var serial: UInt64 = 0
    var now: Int64 = 0
    /// The time of `advance(to:)`.
    var complete: Int64 = .min / 2
    /// The last two of `receive(at:)`.
    var receipt: Int64 = .min / 2
    var receiptBefore: Int64 = .min / 2
    /// When packets were not handed in last.
    var lastThinned: Int64 = .min / 2
    /// When a journey was closed early last.
    var lastEviction: Int64 = .min / 2
    /// Lent to the sink; its buffers are used again.
    var outgoing = Journey(packet: .none)

    public init(limits: Limits = Limits()) {
        self.limits = limits
        stepTrie = StepTrie(capacity: limits.stepPaths)
        history = EventHistory(capacity: limits.history)
        translations = TranslationTable(capacity: limits.translations)
        deadlines = JourneyDeadlines(limits)
    }

    /// Where a probe of the layout stands.
    public func placeOfProbe(_ probe: UInt32) -> (namespace: Int, hook: Hook) {
        (Int(places[Int(probe)].namespace), places[Int(probe)].hook)
    }

    /// Journeys under way.
    public var liveJourneys: Int { live.liveJourneys }

    /// Before this time `advance` ends none of them; `nil` where none waits for its end.
    public var nextDeadline: Int64? { deadlines.next }

    // MARK: Layout and translations

    /// Takes a new layout. Probes and namespaces keep their indices; journeys under way that would be `dropped` in a namespace
    /// that is another one now are `incomplete` instead, since what they should have met may have changed under them.
    ///
    /// - Parameter isDiscovery: nothing has changed on the machine; only more of it is known.
    public mutating func update(_ layout: Layout, isDiscovery: Bool = false) {
        if !isDiscovery {
            for namespace in self.layout.changedNamespaces(in: layout) where !rulesetChanges.isOpen(namespace) {
                // When it changed is not known: everything that has not ended yet is concerned.
                rulesetChanges.begin(namespace, since: now - limits.linger)
                rulesetChanges.end(namespace, until: now)
            }
        }
        self.layout = layout
        expectedProbes = ExpectedProbes(layout)
        unread = Set(layout.namespaces.indices.filter { layout.namespaces[$0].unread != nil })
        hasTunnels = layout.namespaces.contains { $0.interfaces.values.contains(where: \.isTunnel) }
        losses.reserve(namespaces: layout.namespaces.count)
        struct End: Hashable {
            var namespace: Int
            var hook: Hook
        }
        // Where a probe stands behind a hook's source translation.
        let behind = Set(
            layout.probes.filter {
                $0.priority > HookPriority.sourceTranslation && ($0.hook == .input || $0.hook == .postrouting)
            }
            .map { End(namespace: $0.namespace, hook: $0.hook) })
        places = layout.probes.enumerated().map { index, probe in
            ProbePlace(
                namespace: UInt16(truncatingIfNeeded: probe.namespace), priority: Int16(truncatingIfNeeded: probe.priority),
                condition: expectedProbes.conditionBits[index], hook: probe.hook, backend: probe.backend,
                isPassedOnce: probe.isInBaseChain && probe.coverage != .some && probe.coverage != .everyRule,
                isNAT: probe.table == .nat,
                isLastOnTheWayOut: expectedProbes.isLastOnTheWayOut(probe.hook, probe.namespace, probe.family),
                leadsBehindTranslation: behind.contains(End(namespace: probe.namespace, hook: probe.hook)),
                mayReportNoStep: probe.coverage == .everyRule || probe.backFrom != nil)
        }
        jumpTargets = layout.jumpTargets
    }

    /// Rules of `namespace` may have changed after `since`, by the clock of `receive(at:)`. Until `noteRulesKnown` or
    /// `noteRulesUnchanged` a journey that ends there for want of an event is `incomplete`.
    public mutating func noteRulesChanging(namespace: Int, since: Int64) { rulesetChanges.begin(namespace, since: since) }

    /// The layout has the rules that every packet meets which is first seen in `namespace` after `time`.
    public mutating func noteRulesKnown(namespace: Int, since time: Int64) { rulesetChanges.end(namespace, until: time) }

    /// What changed in `namespace` concerns no probe.
    public mutating func noteRulesUnchanged(namespace: Int) { rulesetChanges.cancel(namespace) }

    /// Events of `namespace` were lost: journeys under way there are in doubt.
    ///
    /// - Parameter end: when the loss ends, in microseconds by the clock of `receive(at:)`, where that is later than now: packets
    ///   that left for the namespace until then may have arrived.
    public mutating func noteLoss(namespace: Int, until end: Int64 = .min) {
        losses.note(namespace: namespace, now: now, until: end, before: history.next)
    }

    /// Connection tracking reports a connection whose addresses it translates.
    public mutating func noteTranslation(namespace: Int, original: PacketTuple, reply: PacketTuple) {
        translations.insert(namespace: namespace, original: original, reply: reply)
    }

    /// A namespace has vanished, and its connections with it.
    public mutating func forgetTranslations(namespace: Int) { translations.removeAll(namespace: namespace) }

    /// A connection has ended; packets that were seen before belong to it still.
    public mutating func forgetTranslation(namespace: Int, original: PacketTuple, reply: PacketTuple) {
        translations.end(namespace: namespace, original: original, reply: reply, at: now)
    }

    // MARK: Events

    /// Says when the events that follow are received: journeys that they belong to are under way at this moment.
    public mutating func receive(at time: Int64) {
        now = max(now, time)
        if isThinning { lastThinned = now }
        guard time > receipt else { return }
        receiptBefore = receipt
        receipt = time
    }

    /// Told of each choice among several legs.
    public var onComparison: ((Comparison) -> Void)?

    /// Set while packets of some flows are not handed in. Where such a packet cannot be told from one that was lost, it is
    /// `incomplete`.
    public var isThinning = false

    /// The flow that a packet belongs to: the same for all of its packets, in both directions, in all namespaces, whatever
    /// translates addresses and ports, as far as connection tracking has told.
    public mutating func flow(of packet: Packet) -> UInt64 { translations.name(of: packet.flow) }

    /// Whether a packet may be part of a leg that there is: of the same packet, or a copy of it, from the same source.
    public mutating func mayContinue(_ packet: Packet, at probe: UInt32) -> Bool {
        let namespace = places[Int(probe)].namespace
        var candidates = live.atPlace(namespace, packet.fingerprint, packet.tuple)
        var candidate = live.next(&candidates)
        var looks = 0
        while candidate.exists, looks < 256 {
            // The look-up itself compares hashes.
            if live.legs[candidate].namespace == namespace, live.fingerprint(candidate) == packet.fingerprint {
                return true
            }
            looks += 1
            candidate = live.next(&candidates)
        }
        return false
    }

    /// Prefetches the hash slots that `ingest` will probe for a packet.
    public mutating func expect(_ packet: Packet, namespace: Int) {
        live.prefetch(UInt16(truncatingIfNeeded: namespace), packet.fingerprint, packet.tuple)
        translations.prefetch(packet.tuple, in: namespace)
    }

    /// Takes one event. Its probe is one of the layout's.
    ///
    /// - Returns: the leg that it is part of.
    @discardableResult
    public mutating func ingest(_ event: Event) -> LegName {
        counters.events += 1
        let place = places[Int(event.sighting.probe)]
        let continuation = continuation(of: event, at: place)
        var leg = continuation.leg
        if leg.exists {
            extend(leg, with: event, place)
        } else {
            // Asked here, so that an ordinary packet costs no call.
            if event.packet.tuple.destination.isMulticast, !place.hook.isEntry { leg = branch(with: event, place) }
            if !leg.exists { leg = begin(with: event, place, instead: continuation) }
        }
        return live.name(leg, firstEvent: firstEvent(of: leg))
    }

    /// Where the last event of a leg was reported cannot be told for certain.
    ///
    /// - Parameter name: as `ingest` has just returned it.
    public mutating func markAmbiguous(_ name: LegName) { live.journeys[live.legs[name.index].journey].isAmbiguous = true }

    /// Takes an event of the packet whose last event in the same namespace was part of `name`: the same packet in all but the
    /// hops that it has left.
    ///
    /// - Returns: `false`, and nothing is taken, where that is not all that decides which leg it continues: then `ingest`
    ///   is to be called.
    @inline(__always)
    public mutating func extend(_ name: LegName, with sighting: Sighting) -> Bool {
        let place = places[Int(sighting.probe)]
        guard live.isAlone(name), isAhead(place, sighting.probe, of: name.index),
            !losses.hasAny(in: Int(place.namespace), sinceEvent: name.firstEvent)
        else { return false }
        counters.events += 1
        let hookBefore = live.legs[name.index].hook
        advance(name.index, sighting, place, isRewritten: false)
        if place.hook != hookBefore { enterHook(name.index, place) }
        return true
    }

    private mutating func extend(_ index: LegIndex, with event: Event, _ place: ProbePlace) {
        let isRewritten = live.current(index) != event.packet.tuple
        if isRewritten { live.rewrite(index, to: event.packet.tuple) }
        let hookBefore = live.legs[index].hook
        advance(index, event.sighting, place, isRewritten: isRewritten)
        if event.packet.isFragment { live.legs[index].isFragment = true }
        if place.hook != hookBefore || (isRewritten && place.hook == .postrouting) { enterHook(index, place) }
    }

    @inline(__always)
    private mutating func advance(_ index: LegIndex, _ sighting: Sighting, _ place: ProbePlace, isRewritten: Bool) {
        let journey = live.legs[index].journey
        live.journeys[journey].see(sighting.time, now)
        live.legs[index].advance(sighting, at: place)
        let stepPath = live.legs[index].stepPath
        if place.mayReportNoStep, !isStep(sighting.probe, behind: stepPath) { return }
        let longer = stepTrie.advance(stepPath, by: sighting.step)
        // There is no room for this sequence of steps: a part of it would be wrong.
        if longer == stepPath { live.journeys[journey].isAmbiguous = true }
        live.legs[index].advance(along: longer, position: remember(sighting, of: index, isRewritten: isRewritten))
    }

    /// Keeps an event of a leg in the history, and gives its position there.
    @inline(__always)
    private mutating func remember(_ sighting: Sighting, of index: LegIndex, isRewritten: Bool) -> UInt64 {
        let previous = history.position(endingIn: live.legs[index].lastEvent)
        if !isRewritten, let position = history.append(sighting, like: previous) { return position }
        return history.append(sighting, live.current(index), after: previous)
    }

    /// Whether an event adds a step to a way. A rule of TRACE reports one chain several times; and a probe behind a jump reports
    /// packets that its condition did not let into the other chain, too.
    @inline(never)
    private func isStep(_ probe: UInt32, behind stepPath: StepPathID) -> Bool {
        guard let head = jumpTargets[probe] else { return stepTrie.lastProbe(of: stepPath) != probe }
        var entered = 0
        for step in stepTrie.steps(of: stepPath) {
            if step.probe == head { entered += 1 } else if step.probe == probe { entered -= 1 }
        }
        return entered > 0
    }

    /// Position of a leg's first event in the history, which names it.
    @inline(__always)
    func firstEvent(of index: LegIndex) -> UInt64 { history.position(endingIn: live.legs[index].firstEvent) }

    /// Whether events of its namespace have been lost since a leg began.
    @inline(__always)
    func hasLostSince(_ index: LegIndex) -> Bool {
        losses.hasAny(in: Int(live.legs[index].namespace), sinceEvent: firstEvent(of: index))
    }

    func serial(of journey: LiveJourney) -> UInt64 { serial &- UInt64(UInt32(truncatingIfNeeded: serial) &- journey.serial) }

    /// - Parameter continuation: no leg, and why.
    private mutating func begin(with event: Event, _ place: ProbePlace, instead continuation: Continuation) -> LegIndex {
        if liveJourneys >= limits.journeys { mustEvict = true }
        serial += 1
        let journey = live.insert(
            LiveJourney(event.packet, serial: serial, time: event.sighting.time, now: now))
        let position = history.append(event.sighting, event.packet.tuple, after: EventHistory.none)
        let stepPath = stepTrie.advance(StepTrie.root, by: event.sighting.step)
        let index = live.insert(LiveLeg(event, at: place, stepPath: stepPath, position: position, journey: journey))
        if continuation.isCrowded { live.journeys[journey].isAmbiguous = true }
        if place.hook != .output, let domain = linkDomain(of: index, event.sighting.inInterface) {
            joinParent(of: index, through: domain)
        }
        enterHook(index, place)
        if event.packet.carries != 0, place.hook == .output {
            tunnelLinks.carry(
                event.packet.carries, namespace: place.namespace, leg: position, tuple: event.packet.tuple)
        }
        if continuation.copy.exists { doubtCopy(continuation.copy, of: index) }
        if limits.doubtsGaps, isOrphan(index) { noteLoss(namespace: Int(place.namespace)) }
        translations.prefetchEntry(event.packet.tuple, in: Int(place.namespace))
        // Most that arrive have become a part of another journey by now.
        if live.legs[index].journey == journey {
            let timeout = TimeoutQueue.Timeout(journey: journey, serial: live.journeys[journey].serial)
            deadlines.append(timeout, .settling, lastActivity: now)
        }
        return index
    }

    /// While everything is closed for good.
    var isFinishing = false

    /// Set when a journey was begun past the limit; `advance` closes the oldest.
    var mustEvict = false
}

extension Sighting {
    @inline(__always)
    var step: Step { Step(probe: probe, inInterface: inInterface, outInterface: outInterface) }
}
