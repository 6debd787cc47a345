internal import DequeModule
public import TraceModel

/// When journeys end, and how.
extension Correlator {
    /// Moves the time on and closes the journeys that have ended.
    ///
    /// - Parameter time: microseconds, never going back: what was reported before this moment is in, from all namespaces.
    ///   It may lie behind the time of `receive(at:)`.
    public mutating func advance(to time: Int64, into sink: inout some JourneySink) {
        now = max(now, time)
        complete = max(complete, time)
        while let first = settling.first, first.deadline <= time {
            settling.removeFirst()
            look(first, time, into: &sink)
        }
        while let first = lingering.first, first.deadline <= time {
            lingering.removeFirst()
            look(first, time, into: &sink)
        }
        while let first = crossing.first, first.deadline <= time {
            crossing.removeFirst()
            look(first, time, into: &sink)
        }
        if mustEvict { evict(into: &sink) }
    }

    /// Closes everything that is still under way. What has not been silent for long enough to be called lost stays `open`.
    public mutating func finish(into sink: inout some JourneySink) {
        isFinishing = true
        defer { isFinishing = false }
        for index in journeys.indices {
            while isLive(index), joinLate(Int32(index)) {}
        }
        for index in journeys.indices where isLive(index) { close(Int32(index), isEvicted: false, into: &sink) }
        settling.removeAll()
        lingering.removeAll()
        crossing.removeAll()
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
        guard journeys[index].lastActivity + patience(appointment.stage) <= time else {
            // It moved meanwhile.
            return wait(for: appointment.journey, appointment.stage)
        }
        if joinLate(appointment.journey, isFirst: appointment.stage == .settling) {
            // It is another's part now, or longer than it was.
            if journeys[index].generation == appointment.generation { wait(for: appointment.journey, appointment.stage) }
            return
        }
        switch appointment.stage {
        case .settling where !isSettled(appointment.journey): wait(for: appointment.journey, .lingering)
        case .lingering where isCrossing(appointment.journey): wait(for: appointment.journey, .crossing)
        default: close(appointment.journey, isEvicted: false, into: &sink)
        }
    }

    private func patience(_ stage: Stage) -> Int64 {
        switch stage {
        case .settling: limits.settle
        case .lingering: limits.linger
        case .crossing: max(limits.linger, limits.crossing)
        }
    }

    private mutating func wait(for journey: Int32, _ stage: Stage) {
        let live = journeys[Int(journey)]
        let appointment = Appointment(
            deadline: live.lastActivity + patience(stage), journey: journey, generation: live.generation, stage: stage)
        switch stage {
        case .settling: settling.append(appointment)
        case .lingering: lingering.append(appointment)
        case .crossing: crossing.append(appointment)
        }
    }

    /// Whether it has left for a namespace being traced and was not seen there.
    private mutating func isCrossing(_ journey: Int32) -> Bool {
        var index = journeys[Int(journey)].firstSegment
        while index >= 0 {
            let segment = segments[index]
            // What does not fit through goes on in pieces, which are journeys of their own.
            let fits = itinerary.fits(
                journeys[Int(journey)].packet.length, namespace: Int(segment.namespace), interface: segment.outInterface)
            if !segment.hasChildren, !segment.current.destination.isMulticast, fits, arrival(of: segment) != nil,
                case .left = itinerary.verdict(segment.route, routes, conditions: segment.conditions, now: now).ending
            {
                return true
            }
            index = segment.nextInJourney
        }
        return false
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
            let appointment = crossing.popFirst() ?? lingering.popFirst() ?? settling.popFirst()
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
            if !carriage.isEmpty { carriage.forget(segments[index].firstEvent) }
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
    mutating func fill(_ journey: Int32, endingIn leaf: Int32, isEvicted: Bool) {
        let live = journeys[Int(journey)]
        outgoing.serial = live.serial
        outgoing.packet = live.packet
        outgoing.firstSeen = live.firstSeen
        outgoing.lastSeen = live.lastSeen
        outgoing.isAmbiguous = live.isAmbiguous
        outgoing.timeToLive = segments[leaf].timeToLive
        outgoing.segments.removeAll(keepingCapacity: true)
        outgoing.expected.removeAll(keepingCapacity: true)
        outgoing.carries = nil
        outgoing.carriedBy = nil
        var index = leaf
        while index >= 0 {
            outgoing.segments.append(described(index))
            if !carriage.isEmpty {
                let name = segments[index].firstEvent
                outgoing.carries = carriage.carried(by: name) ?? outgoing.carries
                outgoing.carriedBy = carriage.carrier(of: name) ?? outgoing.carriedBy
            }
            index = segments[index].parent
        }
        outgoing.segments.reverse()
        decide(leaf, live, isEvicted: isEvicted)
    }

    private func described(_ index: Int32) -> JourneySegment {
        let segment = segments[index]
        var described = JourneySegment(
            namespace: Int(segment.namespace), route: segment.route, entry: segment.entry, exit: segment.current,
            lastHook: segment.hook, opensConnection: segment.opensConnection, firstEvent: segment.firstEvent,
            lastEvent: segment.lastEvent)
        let firstSeen = journeys[Int(segment.journey)].firstSeen
        if let known = translations.translation(of: segment.entry, in: Int(segment.namespace), at: firstSeen) {
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
        var isTooLarge = false
        func settle(_ outcome: Outcome, _ doubt: Doubt = .none) {
            outgoing.outcome = outcome
            outgoing.doubt = doubt
        }
        func drop(_ expected: [UInt32], isFiltered: Bool, isAnyLost: Bool) {
            outgoing.expected = expected
            if isFinishing, live.lastActivity + limits.linger > now {
                outgoing.expected = []
                settle(.open)
            } else if isEvicted {
                settle(.incomplete, .evicted)
            } else if isAnyLost {
                settle(.incomplete, .eventsLost)
            } else if live.layoutEpoch != layoutEpoch {
                settle(.incomplete, .layoutChanged)
            } else if last.isFragment || isTooLarge {
                settle(.incomplete, .refragmented)
            } else if isFiltered {
                settle(.incomplete, .probesFiltered)
            } else {
                settle(.dropped)
            }
        }
        if let origin = missingOrigin(of: live) {
            hasGap = true
            let begun = segments[live.firstSegment].begunAt
            hasLoss = hasLoss || origin.contains { hasLost(in: $0, since: begun) }
        }
        if hasGap {
            if isEvicted { return settle(.incomplete, .evicted) }
            if hasLoss { return settle(.incomplete, .eventsLost) }
            if live.layoutEpoch != layoutEpoch { return settle(.incomplete, .layoutChanged) }
            let first = segments[live.firstSegment]
            let isPutTogether =
                first.hook != .prerouting && first.hook != .output
                && !itinerary.fits(live.packet.length, namespace: Int(first.namespace), interface: first.inInterface)
            return settle(.incomplete, last.isFragment || isPutTogether ? .refragmented : .stepsMissing)
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
            let isLost = next.namespaces.contains { hasLost(in: $0, since: live.lastActivity) }
            isTooLarge = !itinerary.fits(
                live.packet.length, namespace: Int(last.namespace), interface: last.outInterface)
            drop(next.probes, isFiltered: next.dependsOnSource, isAnyLost: hasLoss || isLost)
        }
    }

    /// The namespaces that must have seen a packet before it arrived where it was first seen, but did not.
    private func missingOrigin(of live: LiveJourney) -> Set<Int>? {
        let first = segments[live.firstSegment]
        guard first.awaitsParent, !first.current.destination.isMulticast else { return nil }
        return itinerary.origin(
            of: Int(first.namespace), through: first.inInterface, family: first.current.source.family,
            conditions: first.conditions, now: now)
    }

    /// Where a packet has not been seen at all, any loss since it was due may have been its own. A loss is noticed with the
    /// namespace's next event, of whichever packet, and that may be before the packet's own events are received.
    func hasLost(in namespace: Int, since time: Int64) -> Bool { lossTimes[namespace] >= time - limits.linger }

    /// Gives a journey's place back; appointments that still name it are void.
    mutating func release(_ journey: Int32) {
        journeys[Int(journey)].generation &+= 1
        journeys[Int(journey)].firstSegment = -1
        freeJourneys.append(journey)
    }
}
