public import TraceModel

/// Takes the journeys that a correlator closes.
public protocol JourneySink {
    /// - Parameters:
    ///   - journey: lent for the call; copy it to keep it.
    ///   - stepTrie: tells the steps of the journey's legs.
    ///   - history: the latest events, with those of the journey as far as they are still there.
    mutating func accept(_ journey: Journey, stepTrie: StepTrie, history: EventHistory)

    /// A packet has left for a namespace in which nothing was seen of it for a while: it will be called dropped if nothing comes. It may
    /// still be waiting for the address of the next hop to be resolved.
    ///
    /// - Parameter journey: as it would be closed now; lent for the call.
    mutating func mayBeLost(_ journey: Journey)
}

extension JourneySink {
    public mutating func mayBeLost(_ journey: Journey) {}
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
        /// Microseconds without an event after which a journey is closed whose end is certain and complete.
        public var settle: Int64 = 50_000
        /// Microseconds that a packet waits for, if it has left for a namespace being traced and has not arrived: it may wait for its next
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
        /// Whether losses may be told by missing events alone, as in files that were damaged: a packet that is first seen
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

    public internal(set) var counters = Counters()
    package var state: LiveState
    package var layoutIndex = LayoutIndex(Layout())
    package var decision: OutcomeDecision
    var deadlines: JourneyDeadlines
    var tunnelLinks = TunnelLinks()
    var quotedPackets = QuotedPackets()
    private var serial: UInt64 = 0
    /// Lent to the sink; its buffers are used again.
    var outgoing = Journey(packet: .none)

    public init(limits: Limits = Limits()) {
        state = LiveState(limits)
        deadlines = JourneyDeadlines(limits)
        decision = OutcomeDecision(deadlines)
    }

    /// The sequences of steps that legs name.
    public var stepTrie: StepTrie { _read { yield state.stepTrie } }

    /// The latest events.
    public var history: EventHistory { _read { yield state.history } }

    public var layout: Layout { _read { yield layoutIndex.layout } }

    /// Whether packets may carry others here.
    public var hasTunnels: Bool { layoutIndex.hasTunnels }

    private var limits: Limits { state.limits }

    /// Where a probe of the layout stands.
    public func placeOfProbe(_ probe: UInt32) -> (namespace: Int, hook: Hook) {
        (Int(layoutIndex.places[Int(probe)].namespace), layoutIndex.places[Int(probe)].hook)
    }

    /// Journeys under way.
    public var liveJourneys: Int { state.live.liveJourneys }

    /// Before this time `advance` ends none of them; `nil` where none waits for its end.
    public var nextDeadline: Int64? { deadlines.next }

    // MARK: Layout and translations

    /// Takes a new layout. Probes and namespaces keep their indices; journeys under way that would be `dropped` in a namespace
    /// that is another one now are `incomplete` instead, since the chains before them may have changed meanwhile.
    ///
    /// - Parameter isDiscovery: nothing has changed on the machine; only more of it is known.
    public mutating func update(_ layout: Layout, isDiscovery: Bool = false) {
        if !isDiscovery {
            let now = state.clock.now
            for namespace in self.layout.changedNamespaces(in: layout) where !decision.rulesetChanges.isOpen(namespace) {
                // When it changed is not known: everything that has not ended yet is concerned.
                decision.rulesetChanges.begin(namespace, since: now - limits.linger)
                decision.rulesetChanges.end(namespace, until: now)
            }
        }
        layoutIndex = LayoutIndex(layout)
        state.losses.reserve(namespaces: layout.namespaces.count)
    }

    /// Rules of `namespace` may have changed after `since`, by the clock of `receive(at:)`. Until `noteRulesKnown` or
    /// `noteRulesUnchanged` a journey that ends there for want of an event is `incomplete`.
    public mutating func noteRulesChanging(namespace: Int, since: Int64) {
        decision.rulesetChanges.begin(namespace, since: since)
    }

    /// The layout has the rules that every packet meets which is first seen in `namespace` after `time`.
    public mutating func noteRulesKnown(namespace: Int, since time: Int64) {
        decision.rulesetChanges.end(namespace, until: time)
    }

    /// What changed in `namespace` concerns no probe.
    public mutating func noteRulesUnchanged(namespace: Int) { decision.rulesetChanges.cancel(namespace) }

    /// Events of `namespace` were lost: journeys under way there are in doubt.
    ///
    /// - Parameter end: when the loss ends, in microseconds by the clock of `receive(at:)`, where that is later than now: packets
    ///   that left for the namespace until then may have arrived.
    public mutating func noteLoss(namespace: Int, until end: Int64 = .min) {
        state.losses.note(namespace: namespace, now: state.clock.now, until: end, before: state.history.next)
    }

    /// Connection tracking reports a connection whose addresses it translates.
    public mutating func noteTranslation(namespace: Int, original: PacketTuple, reply: PacketTuple) {
        state.translations.insert(namespace: namespace, original: original, reply: reply)
    }

    /// A namespace has vanished, and its connections with it.
    public mutating func forgetTranslations(namespace: Int) { state.translations.removeAll(namespace: namespace) }

    /// A connection has ended; packets that were seen before belong to it still.
    public mutating func forgetTranslation(namespace: Int, original: PacketTuple, reply: PacketTuple) {
        state.translations.end(namespace: namespace, original: original, reply: reply, at: state.clock.now)
    }

    // MARK: Events

    /// Says when the events that follow are received: journeys that they belong to are under way at this moment.
    public mutating func receive(at time: Int64) {
        state.clock.receive(at: time)
        if isThinning { decision.noteThinning(at: state.clock.now) }
    }

    /// Told of each choice among several legs.
    public var onComparison: ((Comparison) -> Void)?

    /// Set while packets of some flows are not handed in. Where such a packet cannot be told from one that was lost, it is
    /// `incomplete`.
    public var isThinning = false

    /// The flow that a packet belongs to: the same for all of its packets, in both directions, in all namespaces, whatever
    /// translates addresses and ports, as far as connection tracking has told.
    public mutating func flow(of packet: Packet) -> UInt64 { state.translations.name(of: packet.flow) }

    /// Whether a packet may be part of a leg that there is: of the same packet, or a copy of it, from the same source.
    public mutating func mayContinue(_ packet: Packet, at probe: UInt32) -> Bool {
        let namespace = layoutIndex.places[Int(probe)].namespace
        var candidates = state.live.atPlace(namespace, packet.fingerprint, packet.tuple)
        var candidate = state.live.next(&candidates)
        var looks = 0
        while candidate.exists, looks < 256 {
            // The look-up itself compares hashes.
            if state.live.legs[candidate].namespace == namespace, state.live.fingerprint(candidate) == packet.fingerprint {
                return true
            }
            looks += 1
            candidate = state.live.next(&candidates)
        }
        return false
    }

    /// Prefetches the hash slots that `ingest` will probe for a packet.
    public mutating func expect(_ packet: Packet, namespace: Int) {
        state.live.prefetch(UInt16(truncatingIfNeeded: namespace), packet.fingerprint, packet.tuple)
        state.translations.prefetch(packet.tuple, in: namespace)
    }

    /// Takes one event. Its probe is one of the layout's.
    ///
    /// - Returns: the leg that it is part of.
    @discardableResult
    public mutating func ingest(_ event: Event) -> LegName {
        counters.events += 1
        let place = layoutIndex.places[Int(event.sighting.probe)]
        let candidates = state.live.atPlace(place.namespace, event.packet.fingerprint, event.packet.tuple)
        var leg = ContinuationSearch.only(event, at: place, candidates, &state, &layoutIndex)
        if leg.exists {
            extend(leg, with: event, place)
        } else {
            leg = choose(for: event, place, candidates)
        }
        return state.live.name(leg, firstEvent: state.firstEvent(of: leg))
    }

    /// Takes an event for which there is not just one leg.
    private mutating func choose(for event: Event, _ place: ProbePlace, _ candidates: Candidates) -> LegIndex {
        guard candidates.first.exists || place.priority > HookPriority.sourceTranslation else {
            return start(with: event, place, instead: ContinuationSearch.Found())
        }
        let found = ContinuationSearch.best(event, at: place, candidates, &state, &layoutIndex)
        tell(.continuation, found.direct, namespace: place.namespace, event.packet.tuple)
        guard found.leg.exists else { return start(with: event, place, instead: found) }
        state.markAmbiguous(found.behindTranslation ?? found.direct)
        if found.direct.best.exists, state.hasLostSince(found.leg) { doubtContinuation(of: found.leg) }
        extend(found.leg, with: event, place)
        return found.leg
    }

    /// Takes an event that continues no leg.
    private mutating func start(with event: Event, _ place: ProbePlace, instead found: ContinuationSearch.Found) -> LegIndex {
        if event.packet.tuple.destination.isMulticast, !place.hook.isEntry {
            let original = BranchSearch.original(of: event, &state, &layoutIndex)
            if original.exists { return branch(off: original, with: event, place) }
        }
        return begin(with: event, place, instead: found)
    }

    /// Where the last event of a leg was reported cannot be told for certain.
    ///
    /// - Parameter name: as `ingest` has just returned it.
    public mutating func markAmbiguous(_ name: LegName) { state.markAmbiguous(name.index) }

    /// Takes an event of the packet whose last event in the same namespace was part of `name`: the same packet in all but the
    /// hops that it has left.
    ///
    /// - Returns: `false`, and nothing is taken, where that is not all that decides which leg it continues: then `ingest`
    ///   is to be called.
    @inline(__always)
    public mutating func extend(_ name: LegName, with sighting: Sighting) -> Bool {
        let place = layoutIndex.places[Int(sighting.probe)]
        guard state.live.isAlone(name),
            ContinuationSearch.isAhead(place, sighting.probe, of: name.index, &state, &layoutIndex),
            !state.losses.hasAny(in: Int(place.namespace), sinceEvent: name.firstEvent)
        else { return false }
        counters.events += 1
        let hookBefore = state.live.legs[name.index].hook
        advance(name.index, sighting, place, isRewritten: false)
        if place.hook != hookBefore { enterHook(name.index, place) }
        return true
    }

    private mutating func extend(_ leg: LegIndex, with event: Event, _ place: ProbePlace) {
        let isRewritten = state.live.current(leg) != event.packet.tuple
        if isRewritten { state.live.rewrite(leg, to: event.packet.tuple) }
        let hookBefore = state.live.legs[leg].hook
        advance(leg, event.sighting, place, isRewritten: isRewritten)
        if event.packet.isFragment { state.live.legs[leg].isFragment = true }
        if place.hook != hookBefore || (isRewritten && place.hook == .postrouting) { enterHook(leg, place) }
    }

    @inline(__always)
    private mutating func advance(_ leg: LegIndex, _ sighting: Sighting, _ place: ProbePlace, isRewritten: Bool) {
        let journey = state.live.legs[leg].journey
        state.live.journeys[journey].see(sighting.time, state.clock.now)
        state.live.legs[leg].advance(sighting, at: place)
        let stepPath = state.live.legs[leg].stepPath
        if place.mayReportNoStep, !isStep(sighting.probe, behind: stepPath) { return }
        let longer = state.stepTrie.advance(stepPath, by: sighting.step)
        // There is no room for this sequence of steps: a part of it would be wrong.
        if longer == stepPath { state.live.journeys[journey].isAmbiguous = true }
        state.live.legs[leg].advance(along: longer, position: remember(sighting, of: leg, isRewritten: isRewritten))
    }

    /// Keeps an event of a leg in the history, and gives its position there.
    @inline(__always)
    private mutating func remember(_ sighting: Sighting, of leg: LegIndex, isRewritten: Bool) -> UInt64 {
        let previous = state.history.position(endingIn: state.live.legs[leg].lastEvent)
        if !isRewritten, let position = state.history.append(sighting, like: previous) { return position }
        return state.history.append(sighting, state.live.current(leg), after: previous)
    }

    /// Whether an event adds a step to a way. A rule of TRACE reports one chain several times; and a probe behind a jump reports
    /// packets that its condition did not let into the other chain, too.
    @inline(never)
    private mutating func isStep(_ probe: UInt32, behind stepPath: StepPathID) -> Bool {
        guard let head = layoutIndex.head(behind: probe) else { return state.stepTrie.lastProbe(of: stepPath) != probe }
        var entered = 0
        for step in state.stepTrie.steps(of: stepPath) {
            if step.probe == head { entered += 1 } else if step.probe == probe { entered -= 1 }
        }
        return entered > 0
    }

    func serial(of journey: LiveJourney) -> UInt64 { serial &- UInt64(UInt32(truncatingIfNeeded: serial) &- journey.serial) }

    /// Begins a journey.
    private mutating func begin(with event: Event, _ place: ProbePlace, instead found: ContinuationSearch.Found) -> LegIndex {
        if liveJourneys >= limits.journeys { mustEvict = true }
        serial += 1
        let journey = state.live.insert(
            LiveJourney(event.packet, serial: serial, time: event.sighting.time, now: state.clock.now))
        let position = state.history.append(event.sighting, event.packet.tuple, after: EventHistory.none)
        let stepPath = state.stepTrie.advance(StepTrie.root, by: event.sighting.step)
        let leg = state.live.insert(LiveLeg(event, at: place, stepPath: stepPath, position: position, journey: journey))
        if found.isCrowded { state.live.journeys[journey].isAmbiguous = true }
        if place.hook != .output, let domain = layoutIndex.linkDomain(event.sighting.inInterface, in: place.namespace) {
            joinParent(of: leg, through: domain)
        }
        enterHook(leg, place)
        if event.packet.carries != 0, place.hook == .output {
            tunnelLinks.carry(
                event.packet.carries, namespace: place.namespace, leg: position, tuple: event.packet.tuple)
        }
        if found.copy.exists { doubtCopy(found.copy, of: leg) }
        if limits.doubtsGaps, OutcomeDecision.isOrphan(leg, &state, &layoutIndex) {
            noteLoss(namespace: Int(place.namespace))
        }
        state.translations.prefetchEntry(event.packet.tuple, in: Int(place.namespace))
        // Most that arrive have become a part of another journey by now.
        if state.live.legs[leg].journey == journey {
            if event.packet.quotedFlow != 0 { quotedPackets.note(event.packet, serial: serial) }
            let timeout = TimeoutQueue.Timeout(journey: journey, serial: state.live.journeys[journey].serial)
            deadlines.append(timeout, .settling, lastActivity: state.clock.now)
        }
        return leg
    }

    /// Begins the leg of a copy of a multicast packet.
    private mutating func branch(off original: LegIndex, with event: Event, _ place: ProbePlace) -> LegIndex {
        let shared = BranchSearch.sharedWay(of: original, before: place, &state, &layoutIndex)
        var stepPath = StepTrie.root
        for step in shared { stepPath = state.stepTrie.advance(stepPath, by: step) }
        // The history keeps the steps that they share once.
        var before = state.history.position(endingIn: state.live.legs[original].lastEvent)
        for _ in shared.count..<state.stepTrie.steps(of: state.live.legs[original].stepPath).count {
            before = state.history.predecessor(of: before)
        }
        let position =
            state.history.append(event.sighting, like: before)
            ?? state.history.append(event.sighting, event.packet.tuple, after: before)
        let journey = state.live.legs[original].journey
        var leg = LiveLeg(
            event, at: place, stepPath: state.stepTrie.advance(stepPath, by: event.sighting.step), position: position,
            journey: journey)
        leg.conditions |= state.live.legs[original].conditions
        leg.begun = Int32(clamping: state.clock.now &- state.live.journeys[journey].begunAt)
        leg.origin = .beginning(of: original)
        if leg.inInterface == 0 { leg.inInterface = state.live.legs[original].inInterface }
        state.live.journeys[journey].see(event.sighting.time, state.clock.now)
        let copy = state.live.insertBranch(leg, event.packet.tuple)
        if state.hasLostSince(original) { state.live.journeys[journey].isAmbiguous = true }
        enterHook(copy, place)
        return copy
    }

    /// Set when a journey was begun past the limit; `advance` closes the oldest.
    var mustEvict = false
}

extension Sighting {
    @inline(__always)
    var step: Step { Step(probe: probe, inInterface: inInterface, outInterface: outInterface) }
}
