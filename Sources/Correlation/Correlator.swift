public import TraceModel
private import DequeModule

/// Takes the journeys that a correlator closes.
public protocol JourneySink {
    /// - Parameters:
    ///   - journey: lent for the call; copy what is to stay.
    ///   - routes: tells the steps of the journey's segments.
    ///   - history: the latest events, with those of the journey as far as they are still there.
    mutating func accept(_ journey: Journey, routes: RouteTable, history: EventHistory)
}

/// Puts the events of one packet back together across chains, address translation and namespaces.
///
/// A pure state machine: events and the time go in, journeys come out. Events of one namespace come in the order of the
/// kernel's sequence numbers; those of different namespaces in any order, as their sockets are drained.
///
/// - Within a namespace an event continues the live segment with its fingerprint that stands just before it: the one at
///   the nearest earlier place, and of several the one that moved last, because a packet is carried to its end before
///   the next one starts.
/// - Between namespaces a segment that has left is joined with one that has arrived, by fingerprint, destination and
///   topology; of several the one that waited longest, because links keep the order.
/// - Where more than one would have done, all of them are marked ambiguous.
public struct Correlator {
    public struct Limits: Sendable {
        /// Microseconds without an event after which a journey is closed.
        public var linger: Int64 = 500_000
        /// The same for a journey whose end is certain and complete.
        public var settle: Int64 = 50_000
        /// Live journeys; past it the oldest is closed early and counted.
        public var journeys = 1 << 17
        /// Events kept for showing journeys step by step; a power of two.
        public var history = 1 << 15
        /// Connections with translated addresses that are remembered.
        public var translations = 1 << 16

        public init() {}
    }

    /// What happened so far.
    public struct Counters: Sendable, Equatable {
        public var events: UInt64 = 0
        public var journeys: UInt64 = 0
        public var evicted: UInt64 = 0
        public var ambiguous: UInt64 = 0
    }

    private struct LiveJourney {
        var packet: Packet
        var serial: UInt64
        var firstSeen: Int64
        var lastSeen: Int64
        /// By the clock of `receive(at:)`.
        var lastActivity: Int64
        var firstSegment: Int32
        var lastSegment: Int32
        var generation: UInt32
        var layoutEpoch: UInt32
        var isAmbiguous = false
    }

    /// A journey to be looked at again at `deadline`.
    private struct Appointment {
        var deadline: Int64
        var journey: Int32
        var generation: UInt32
        var isLast: Bool
    }

    /// What the hot path needs to know of a probe.
    private struct ProbePlace {
        var namespace: UInt16
        var priority: Int16
        var condition: UInt32
        var hook: Hook
        /// A packet passes it once: the head probe of a built-in chain.
        var isPassedOnce: Bool
        var isNAT: Bool
        var isLastOnTheWayOut: Bool
    }

    public private(set) var counters = Counters()
    public private(set) var routes = RouteTable()
    public private(set) var history: EventHistory

    private let limits: Limits
    private var layout = Layout()
    private var layoutEpoch: UInt32 = 0
    private var itinerary = Itinerary(Layout())
    private var places: [ProbePlace] = []
    // By namespace: how often events were lost, and when last.
    private var lossEpochs: [UInt32] = []
    private var lossTimes: [Int64] = []
    private var translations: TranslationTable
    private var segments = SegmentStore()
    private var journeys: [LiveJourney] = []
    private var freeJourneys: [Int32] = []
    /// Two queues, each in the order of its deadlines: the first look at a journey, and the last.
    private var settling = Deque<Appointment>()
    private var lingering = Deque<Appointment>()
    private var serial: UInt64 = 0
    private var now: Int64 = 0
    /// Lent to the sink; its buffers are used again.
    private var outgoing = Journey(
        packet: Packet(
            tuple: PacketTuple(
                source: IPAddress(ipv4: 0), destination: IPAddress(ipv4: 0), sourcePort: 0, destinationPort: 0,
                transport: 0),
            fingerprint: Fingerprint(header: 0, payload: 0), length: 0, timeToLive: 0))

    public init(limits: Limits = Limits()) {
        self.limits = limits
        history = EventHistory(capacity: limits.history)
        translations = TranslationTable(capacity: limits.translations)
    }

    /// Probes of the layout that is in force.
    public var probeCount: Int { places.count }

    /// Journeys under way.
    public var liveJourneys: Int { journeys.count - freeJourneys.count }

    // MARK: What is known of the machine

    /// Takes a new layout. Probes and namespaces keep their indices; journeys under way that would be `dropped` are
    /// `incomplete` instead, since what they should have met may have changed under them.
    public mutating func update(_ layout: Layout) {
        self.layout = layout
        layoutEpoch &+= 1
        itinerary = Itinerary(layout)
        while lossEpochs.count < layout.namespaces.count {
            lossEpochs.append(0)
            lossTimes.append(.min / 2)
        }
        places = layout.probes.enumerated().map { index, probe in
            ProbePlace(
                namespace: UInt16(truncatingIfNeeded: probe.namespace), priority: Int16(truncatingIfNeeded: probe.priority),
                condition: itinerary.conditionBits[index], hook: probe.hook,
                isPassedOnce: probe.isInBuiltInChain && probe.coverage != .some, isNAT: probe.table == .nat,
                isLastOnTheWayOut: itinerary.isLastOnTheWayOut(probe.hook, probe.namespace, probe.family))
        }
    }

    /// Events of `namespace` were lost: journeys under way there are in doubt.
    public mutating func noteLoss(namespace: Int) {
        guard namespace < lossEpochs.count else { return }
        lossEpochs[namespace] &+= 1
        lossTimes[namespace] = now
    }

    /// Connection tracking reports a connection whose addresses it translates.
    public mutating func noteTranslation(namespace: Int, original: PacketTuple, reply: PacketTuple) {
        translations.insert(namespace: namespace, original: original, reply: reply)
    }

    /// A namespace has vanished, and its connections with it.
    public mutating func forgetTranslations(namespace: Int) { translations.removeAll(namespace: namespace) }

    public mutating func forgetTranslation(namespace: Int, original: PacketTuple, reply: PacketTuple) {
        translations.remove(namespace: namespace, original: original, reply: reply)
    }

    // MARK: Events

    /// Says when the events that follow are received: journeys that they belong to are under way at this moment.
    public mutating func receive(at time: Int64) { now = max(now, time) }

    /// Takes one event. Its probe is one of the layout's.
    public mutating func ingest(_ event: Event) {
        counters.events += 1
        let place = places[Int(event.probe)]
        let step = Step(probe: event.probe, inInterface: event.inInterface, outInterface: event.outInterface)
        let found = continuation(of: event, at: place)
        if found >= 0 {
            extend(found, with: event, step, place)
        } else {
            begin(with: event, step, place)
        }
    }

    /// The live segment that `event` continues; -1 for none.
    @inline(__always)
    private mutating func continuation(of event: Event, at place: ProbePlace) -> Int32 {
        let tuple = event.packet.tuple
        var best: Int32 = -1
        var bestScore = Int.min
        var isTied = false
        var candidate = segments.firstAtPlace(place.namespace, event.packet.fingerprint, tuple)
        while candidate >= 0 {
            let score = score(of: candidate, for: event, at: place)
            if score > bestScore {
                best = candidate
                bestScore = score
                isTied = false
            } else if score == bestScore, score > Int.min {
                isTied = true
                if segments[candidate].lastOrder &- segments[best].lastOrder < 1 << 31 { best = candidate }
            }
            candidate = segments.nextAtPlace(candidate)
        }
        if best < 0, place.priority > HookPriority.sourceTranslation, place.hook == .input || place.hook == .postrouting {
            return continuationBehindSourceTranslation(of: event, at: place)
        }
        if isTied { markAmbiguous(event, at: place, score: bestScore) }
        return best
    }

    /// How well a candidate fits, `Int.min` where it cannot be: exact addresses before translated ones, then the nearest
    /// place, then the interface.
    @inline(__always)
    private func score(of candidate: Int32, for event: Event, at place: ProbePlace) -> Int {
        let segment = segments[candidate]
        guard segment.namespace == place.namespace, segment.fingerprint == event.packet.fingerprint,
            segment.current.source == event.packet.tuple.source, isAhead(place, event, of: segment)
        else { return Int.min }
        let isSame = segment.current == event.packet.tuple
        if !isSame {
            let isTranslated = Translation.passesDestination(
                from: (segment.hook, Int32(segment.priority)), to: (place.hook, Int32(place.priority)))
            let isPortKept = segment.current.sourcePort == event.packet.tuple.sourcePort || segment.current.isICMP
            guard isTranslated, isPortKept, segment.current.transport == event.packet.tuple.transport else {
                return Int.min
            }
        }
        var score = isSame ? 1 << 20 : 0
        score += Int(segment.hook.stage) << 12 + Int(segment.priority)
        if segment.inInterface == event.inInterface { score += 1 << 16 }
        return score
    }

    /// Whether a packet last seen where `segment` is can be seen at `place` next.
    @inline(__always)
    private func isAhead(_ place: ProbePlace, _ event: Event, of segment: LiveSegment) -> Bool {
        if place.hook == segment.hook {
            if place.priority != segment.priority { return place.priority > segment.priority }
            // The same chain, or one that it jumped to: a head probe comes once, and before all others but head probes.
            if !place.isPassedOnce { return true }
            guard event.probe != segment.lastProbe else { return false }
            return places[Int(segment.lastProbe)].isPassedOnce || isOtherBackend(event.probe, segment.lastProbe)
        }
        return segment.hook.leads(to: place.hook)
    }

    /// Both backends may have a probe at the same place.
    private func isOtherBackend(_ one: UInt32, _ other: UInt32) -> Bool {
        one != other && layout.probes[Int(one)].backend != layout.probes[Int(other)].backend
    }

    /// Behind the source translation of INPUT and POSTROUTING a packet has another source: it is found by where it goes.
    private mutating func continuationBehindSourceTranslation(of event: Event, at place: ProbePlace) -> Int32 {
        var candidate = segments.firstDeparture(event.packet.fingerprint, event.packet.tuple)
        var best: Int32 = -1
        var isTied = false
        while candidate >= 0 {
            let segment = segments[candidate]
            if segment.namespace == place.namespace, segment.fingerprint == event.packet.fingerprint,
                segment.current.destination == event.packet.tuple.destination, isAhead(place, event, of: segment),
                Translation.passesSource(
                    from: (segment.hook, Int32(segment.priority)), to: (place.hook, Int32(place.priority)))
            {
                isTied = best >= 0
                if best < 0 || segment.lastOrder &- segments[best].lastOrder < 1 << 31 { best = candidate }
            }
            candidate = segments.nextDeparture(candidate)
        }
        if best >= 0, isTied { journeys[Int(segments[best].journey)].isAmbiguous = true }
        return best
    }

    /// Every candidate that fits as well as the best could have been the one.
    private mutating func markAmbiguous(_ event: Event, at place: ProbePlace, score best: Int) {
        var candidate = segments.firstAtPlace(place.namespace, event.packet.fingerprint, event.packet.tuple)
        while candidate >= 0 {
            if score(of: candidate, for: event, at: place) == best {
                journeys[Int(segments[candidate].journey)].isAmbiguous = true
            }
            candidate = segments.nextAtPlace(candidate)
        }
    }

    @inline(__always)
    private mutating func extend(_ index: Int32, with event: Event, _ step: Step, _ place: ProbePlace) {
        if segments[index].current != event.packet.tuple { segments.rewrite(index, to: event.packet.tuple) }
        let hookBefore = segments[index].hook
        let route = routes.advance(segments[index].route, by: step)
        // There is no room for this sequence of steps: what is shown of it would be wrong.
        if route == segments[index].route { journeys[Int(segments[index].journey)].isAmbiguous = true }
        let position = history.append(event, after: segments[index].lastEvent)
        segments[index].advance(event, route: route, position: position, place.condition, place.hook, place.priority)
        if place.isNAT { segments[index].opensConnection = true }
        let journey = Int(segments[index].journey)
        journeys[journey].lastActivity = now
        if event.time > journeys[journey].lastSeen { journeys[journey].lastSeen = event.time }
        if event.time < journeys[journey].firstSeen { journeys[journey].firstSeen = event.time }
        if place.hook != hookBefore { enterHook(index, place) }
    }

    private mutating func begin(with event: Event, _ step: Step, _ place: ProbePlace) {
        if liveJourneys >= limits.journeys { mustEvict = true }
        let journey = newJourney(event)
        let index = segments.insert(
            LiveSegment(
                fingerprint: event.packet.fingerprint, entry: event.packet.tuple, current: event.packet.tuple,
                lastEvent: history.append(event, after: EventHistory.none),
                route: routes.advance(RouteTable.root, by: step), lastOrder: event.order, lastProbe: event.probe,
                inInterface: event.inInterface, outInterface: event.outInterface, conditions: place.condition,
                lossEpoch: lossEpochs[Int(place.namespace)], journey: journey, priority: place.priority,
                namespace: place.namespace, hook: place.hook, opensConnection: place.isNAT))
        journeys[Int(journey)].firstSegment = index
        journeys[Int(journey)].lastSegment = index
        if place.hook != .output, let segment = linkSegment(of: index, event.inInterface) {
            joinParent(of: index, through: segment)
        }
        enterHook(index, place)
    }

    /// Set when a journey was begun past the limit; `advance` closes the oldest.
    private var mustEvict = false

    private mutating func newJourney(_ event: Event) -> Int32 {
        serial += 1
        var journey = LiveJourney(
            packet: event.packet, serial: serial, firstSeen: event.time, lastSeen: event.time, lastActivity: now,
            firstSegment: -1, lastSegment: -1, generation: 0, layoutEpoch: layoutEpoch)
        let index: Int32
        if let reused = freeJourneys.popLast() {
            index = reused
            journey.generation = journeys[Int(index)].generation
            journeys[Int(index)] = journey
        } else {
            index = Int32(journeys.count)
            journeys.append(journey)
        }
        settling.append(
            Appointment(deadline: now + limits.settle, journey: index, generation: journey.generation, isLast: false))
        return index
    }

    // MARK: Crossings

    /// The segment of the network that an interface is on; `nil` where it has none to cross, 0 where that is not known.
    private func linkSegment(of index: Int32, _ interface: UInt32) -> UInt32? {
        guard interface != 0 else { return nil }
        return layout.namespaces[Int(segments[index].namespace)].interfaces[interface]?.segment ?? 0
    }

    /// A segment has reached a hook: it may leave from there, or end there.
    private mutating func enterHook(_ index: Int32, _ place: ProbePlace) {
        guard !segments[index].awaitsChild, !segments[index].hasChildren else { return }
        if place.hook == .input {
            // Not to leave, but to be found behind the source translation of INPUT.
            segments.awaitChild(index)
        } else if place.isLastOnTheWayOut {
            segments.awaitChild(index)
            joinChildren(of: index)
        }
    }

    /// `index` has arrived: joins it to the segment that left for it, or lets it wait for one.
    private mutating func joinParent(of index: Int32, through link: UInt32) {
        let arrived = segments[index]
        var best: Int32 = -1
        var bestScore = Int.min
        var ties = 0
        var candidate = segments.firstDeparture(arrived.fingerprint, arrived.entry)
        while candidate >= 0 {
            let score = crossingScore(from: candidate, to: index, link)
            if score > bestScore {
                best = candidate
                bestScore = score
                ties = 0
            } else if score == bestScore, score > Int.min {
                ties += 1
                // The longest wait first: links keep the order.
                if isOlder(candidate, than: best) { best = candidate }
            }
            candidate = segments.nextDeparture(candidate)
        }
        guard best >= 0 else {
            segments.awaitParent(index)
            return
        }
        if ties > 0 { markTiedDepartures(for: index, link, score: bestScore) }
        join(best, index, isAmbiguous: ties > 0)
    }

    /// Every segment that could have been the one that arrived.
    private mutating func markTiedDepartures(for index: Int32, _ link: UInt32, score best: Int) {
        var candidate = segments.firstDeparture(segments[index].fingerprint, segments[index].entry)
        while candidate >= 0 {
            if crossingScore(from: candidate, to: index, link) == best {
                journeys[Int(segments[candidate].journey)].isAmbiguous = true
            }
            candidate = segments.nextDeparture(candidate)
        }
    }

    /// Every segment that could have been the one that left.
    private mutating func markTiedArrivals(for index: Int32, score best: Int) {
        var candidate = segments.firstArrival(segments[index].fingerprint, segments[index].current)
        while candidate >= 0 {
            let link = linkSegment(of: candidate, segments[candidate].inInterface) ?? 0
            if crossingScore(from: index, to: candidate, link) == best {
                journeys[Int(segments[candidate].journey)].isAmbiguous = true
            }
            candidate = segments.nextArrival(candidate)
        }
    }

    /// `index` has left: joins those that arrived before it was known to leave.
    private mutating func joinChildren(of index: Int32) {
        let isMulticast = segments[index].current.destination.isMulticast
        while true {
            var best: Int32 = -1
            var bestScore = Int.min
            var ties = 0
            var candidate = segments.firstArrival(segments[index].fingerprint, segments[index].current)
            while candidate >= 0 {
                let link = linkSegment(of: candidate, segments[candidate].inInterface) ?? 0
                let score = crossingScore(from: index, to: candidate, link)
                if score > bestScore {
                    best = candidate
                    bestScore = score
                    ties = 0
                } else if score == bestScore, score > Int.min {
                    ties += 1
                    if isOlder(candidate, than: best) { best = candidate }
                }
                candidate = segments.nextArrival(candidate)
            }
            guard best >= 0 else { return }
            let isAmbiguous = ties > 0 && !isMulticast
            if isAmbiguous { markTiedArrivals(for: index, score: bestScore) }
            join(index, best, isAmbiguous: isAmbiguous)
            if !isMulticast { return }
        }
    }

    private func isOlder(_ one: Int32, than other: Int32) -> Bool {
        journeys[Int(segments[one].journey)].serial < journeys[Int(segments[other].journey)].serial
    }

    /// How well two ends of a crossing fit, `Int.min` where they cannot: addresses that are the same before those that
    /// source translation changed, and known links before unknown ones.
    private func crossingScore(from departed: Int32, to arrived: Int32, _ link: UInt32) -> Int {
        let from = segments[departed]
        let to = segments[arrived]
        guard from.fingerprint == to.fingerprint, from.hook != .input, departed != arrived,
            from.current.destination == to.entry.destination, from.current.transport == to.entry.transport,
            from.current.destinationPort == to.entry.destinationPort || from.current.isICMP,
            from.journey != to.journey
        else { return Int.min }
        var score = 0
        if let out = linkSegment(of: departed, from.outInterface), out != 0, link != 0 {
            guard out == link else { return Int.min }
            score += 8
            // Nothing comes back through the interface that it left by, but on loopback.
            if from.namespace == to.namespace, from.outInterface == to.inInterface,
                layout.namespaces[Int(from.namespace)].interfaces[from.outInterface]?.name != "lo"
            {
                return Int.min
            }
        } else if from.namespace == to.namespace {
            return Int.min
        }
        if from.current == to.entry {
            score += 4
        } else if translations.translation(of: from.entry, in: Int(from.namespace))?.translated == to.entry {
            score += 5
        } else if from.current.source == to.entry.source || from.current.sourcePort == to.entry.sourcePort {
            score += 1
        }
        return score
    }

    private mutating func join(_ departed: Int32, _ arrived: Int32, isAmbiguous: Bool) {
        let upstream = Int(segments[departed].journey)
        let downstream = segments[arrived].journey
        segments.stopAwaitingParent(arrived)
        if !segments[departed].current.destination.isMulticast { segments.stopAwaitingChild(departed) }
        segments[departed].hasChildren = true
        segments[arrived].parent = departed

        var index = journeys[Int(downstream)].firstSegment
        while index >= 0 {
            segments[index].journey = Int32(upstream)
            index = segments[index].nextInJourney
        }
        let other = journeys[Int(downstream)]
        segments[journeys[upstream].lastSegment].nextInJourney = other.firstSegment
        journeys[upstream].lastSegment = other.lastSegment
        journeys[upstream].firstSeen = min(journeys[upstream].firstSeen, other.firstSeen)
        journeys[upstream].lastSeen = max(journeys[upstream].lastSeen, other.lastSeen)
        journeys[upstream].lastActivity = max(journeys[upstream].lastActivity, other.lastActivity)
        journeys[upstream].layoutEpoch = min(journeys[upstream].layoutEpoch, other.layoutEpoch)
        journeys[upstream].isAmbiguous = journeys[upstream].isAmbiguous || other.isAmbiguous || isAmbiguous
        release(downstream)
    }

    private mutating func release(_ journey: Int32) {
        journeys[Int(journey)].generation &+= 1
        freeJourneys.append(journey)
    }

    // MARK: Ends

    /// Moves the time on and closes the journeys that have ended.
    ///
    /// - Parameter time: microseconds, never going back: what was reported before this moment is in, from all namespaces.
    ///   It may lie behind the time of `receive(at:)`.
    public mutating func advance(to time: Int64, into sink: inout some JourneySink) {
        now = max(now, time)
        while let first = settling.first, first.deadline <= time {
            settling.removeFirst()
            look(first, time, into: &sink)
        }
        while let first = lingering.first, first.deadline <= time {
            lingering.removeFirst()
            look(first, time, into: &sink)
        }
        if mustEvict { evict(into: &sink) }
    }

    /// Closes everything that is still under way.
    public mutating func finish(into sink: inout some JourneySink) {
        for index in journeys.indices where isLive(index) { close(Int32(index), isEvicted: false, into: &sink) }
        settling.removeAll()
        lingering.removeAll()
    }

    /// Hands out copies of what is under way, as `open`, at most `limit`.
    public mutating func forEachOpen(limit: Int, _ body: (Journey) -> Void) {
        var count = 0
        for index in journeys.indices where isLive(index) {
            guard count < limit else { return }
            count += 1
            forEachBranch(of: Int32(index), isEvicted: false) { journey in
                journey.outcome = .open
                journey.doubt = .none
                journey.expected = []
                body(journey)
            }
        }
    }

    private func isLive(_ index: Int) -> Bool {
        let first = journeys[index].firstSegment
        return first >= 0 && segments[first].journey == Int32(index)
    }

    private mutating func look(_ appointment: Appointment, _ time: Int64, into sink: inout some JourneySink) {
        let index = Int(appointment.journey)
        guard journeys[index].generation == appointment.generation, isLive(index) else { return }
        let deadline = journeys[index].lastActivity + (appointment.isLast ? limits.linger : limits.settle)
        if deadline > time {
            // It moved meanwhile.
            var later = appointment
            later.deadline = deadline
            if later.isLast { lingering.append(later) } else { settling.append(later) }
            return
        }
        if appointment.isLast || isSettled(Int32(index)) {
            close(Int32(index), isEvicted: false, into: &sink)
        } else {
            lingering.append(
                Appointment(
                    deadline: journeys[index].lastActivity + limits.linger, journey: appointment.journey,
                    generation: appointment.generation, isLast: true))
        }
    }

    /// Whether nothing more can come: one way from a known entry to a certain end.
    private mutating func isSettled(_ journey: Int32) -> Bool {
        var index = journeys[Int(journey)].firstSegment
        if segments[index].awaitsParent, segments[index].hook != .output, !comesFromOutside(index) { return false }
        while index >= 0 {
            let segment = segments[index]
            if segment.current.destination.isMulticast { return false }
            let verdict = itinerary.verdict(segment.route, routes, conditions: segment.conditions, now: now)
            if verdict.hasGap { return false }
            if !segment.hasChildren {
                switch verdict.ending {
                case .delivered: break
                case .left where arrival(of: segment) == nil: break
                default: return false
                }
            }
            index = segment.nextInJourney
        }
        return true
    }

    private func comesFromOutside(_ index: Int32) -> Bool {
        guard let link = linkSegment(of: index, segments[index].inInterface), link != 0 else { return true }
        return layout.openSegments.contains(link)
    }

    private func arrival(of segment: LiveSegment) -> (probes: [UInt32], namespaces: Set<Int>, dependsOnSource: Bool)? {
        itinerary.arrival(
            from: Int(segment.namespace), through: segment.outInterface, family: segment.current.source.family,
            conditions: segment.conditions, now: now)
    }

    private mutating func evict(into sink: inout some JourneySink) {
        mustEvict = false
        while liveJourneys > limits.journeys {
            let appointment = lingering.popFirst() ?? settling.popFirst()
            guard let appointment else { return }
            let index = Int(appointment.journey)
            guard journeys[index].generation == appointment.generation, isLive(index) else { continue }
            counters.evicted += 1
            close(appointment.journey, isEvicted: true, into: &sink)
        }
    }

    private mutating func close(_ journey: Int32, isEvicted: Bool, into sink: inout some JourneySink) {
        let routes = routes
        let history = history
        var closed: (journeys: UInt64, ambiguous: UInt64) = (0, 0)
        forEachBranch(of: journey, isEvicted: isEvicted) { branch in
            closed.journeys += 1
            if branch.isAmbiguous { closed.ambiguous += 1 }
            sink.accept(branch, routes: routes, history: history)
        }
        counters.journeys += closed.journeys
        counters.ambiguous += closed.ambiguous
        var index = journeys[Int(journey)].firstSegment
        while index >= 0 {
            let next = segments[index].nextInJourney
            segments.remove(index)
            index = next
        }
        release(journey)
    }

    /// One journey for each end: a multicast packet has several.
    private mutating func forEachBranch(of journey: Int32, isEvicted: Bool, _ body: (inout Journey) -> Void) {
        var leaf = journeys[Int(journey)].firstSegment
        var branch: UInt64 = 0
        while leaf >= 0 {
            if !segments[leaf].hasChildren {
                fill(journey, endingIn: leaf, isEvicted: isEvicted)
                // Branches past the first get serials of their own from the top of the range.
                if branch > 0 { outgoing.serial |= branch << 56 }
                branch += 1
                body(&outgoing)
            }
            leaf = segments[leaf].nextInJourney
        }
    }

    /// Writes the journey that ends in `leaf` into `outgoing`.
    private mutating func fill(_ journey: Int32, endingIn leaf: Int32, isEvicted: Bool) {
        let live = journeys[Int(journey)]
        outgoing.serial = live.serial
        outgoing.packet = live.packet
        outgoing.firstSeen = live.firstSeen
        outgoing.lastSeen = live.lastSeen
        outgoing.isAmbiguous = live.isAmbiguous
        outgoing.segments.removeAll(keepingCapacity: true)
        outgoing.expected.removeAll(keepingCapacity: true)
        var index = leaf
        while index >= 0 {
            outgoing.segments.append(described(index))
            index = segments[index].parent
        }
        outgoing.segments.reverse()
        decide(leaf, live, isEvicted: isEvicted)
    }

    private func described(_ index: Int32) -> JourneySegment {
        let segment = segments[index]
        var described = JourneySegment(
            namespace: Int(segment.namespace), route: segment.route, entry: segment.entry, exit: segment.current,
            lastHook: segment.hook, opensConnection: segment.opensConnection, lastEvent: segment.lastEvent)
        if let known = translations.translation(of: segment.entry, in: Int(segment.namespace)) {
            described.direction = known.direction
            if segment.hook == .postrouting { described.exit = known.translated }
        }
        return described
    }

    /// How the journey that ends in `leaf` ended, and why that is not known if it is not.
    private mutating func decide(_ leaf: Int32, _ live: LiveJourney, isEvicted: Bool) {
        var hasGap = false
        var hasLoss = false
        var index = leaf
        while index >= 0 {
            let segment = segments[index]
            let verdict = itinerary.verdict(segment.route, routes, conditions: segment.conditions, now: now)
            hasGap = hasGap || verdict.hasGap
            hasLoss = hasLoss || segment.lossEpoch != lossEpochs[Int(segment.namespace)]
            index = segment.parent
        }
        let last = segments[leaf]
        let verdict = itinerary.verdict(last.route, routes, conditions: last.conditions, now: now)
        func settle(_ outcome: Outcome, _ doubt: Doubt = .none) {
            outgoing.outcome = outcome
            outgoing.doubt = doubt
        }
        func drop(_ expected: [UInt32], isFiltered: Bool, isAnyLost: Bool) {
            outgoing.expected = expected
            if isEvicted {
                settle(.incomplete, .evicted)
            } else if isAnyLost {
                settle(.incomplete, .eventsLost)
            } else if live.layoutEpoch != layoutEpoch {
                settle(.incomplete, .layoutChanged)
            } else if isFiltered {
                settle(.incomplete, .probesFiltered)
            } else {
                settle(.dropped)
            }
        }
        if hasGap {
            let doubt: Doubt = hasLoss ? .eventsLost : live.layoutEpoch != layoutEpoch ? .layoutChanged : .stepsMissing
            return settle(.incomplete, doubt)
        }
        switch verdict.ending {
        case .delivered:
            settle(.delivered)
        case .undecidable:
            settle(.incomplete, isEvicted ? .evicted : .probesMissing)
        case .expected(let probes, let crosses):
            drop(probes, isFiltered: !crosses.isEmpty, isAnyLost: hasLoss)
        case .left:
            guard !last.current.destination.isMulticast, let next = arrival(of: last) else { return settle(.sent) }
            let isLost = next.namespaces.contains(where: lostRecently)
            drop(next.probes, isFiltered: next.dependsOnSource, isAnyLost: hasLoss || isLost)
        }
    }

    /// Where a packet has not been seen at all, any recent loss may have been its own.
    private func lostRecently(in namespace: Int) -> Bool { lossTimes[namespace] + limits.linger * 2 >= now }
}
