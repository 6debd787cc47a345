public import TraceModel

/// When journeys end, and how.
extension Correlator {
    /// Moves the time on and closes the journeys that have ended.
    ///
    /// - Parameters:
    ///   - time: microseconds, never going back: all that was reported before this moment is in, from all namespaces. It may lie
    ///     behind the time of `receive(at:)`.
    ///   - confirmed: up to when that is so for what was still being gathered then, too (`ConfirmedTime`). Only what was silent
    ///     for long enough before it is closed without a certain end.
    public mutating func advance(to time: Int64, confirmed: Int64? = nil, into sink: inout some JourneySink) {
        let confirmed = min(time, confirmed ?? time)
        state.clock.advance(to: time)
        while let first = deadlines.popDue(.settling, by: time) {
            prefetchNext()
            expire(first, .settling, time, into: &sink)
        }
        while let first = deadlines.popDue(.lingering, by: confirmed) {
            expire(first, .lingering, confirmed, into: &sink)
        }
        while let first = deadlines.popDue(.crossing, by: confirmed) {
            expire(first, .crossing, confirmed, into: &sink)
        }
        if mustEvict { evict(into: &sink) }
    }

    /// A journey that has not been looked at for a while is not in the processor's cache any more: it is asked for while others are looked
    /// at, first the journey, then its legs, then where they are found.
    @inline(__always)
    private mutating func prefetchNext() {
        if let journey = deadlines.settlingJourney(12) { state.live.journeys.prefetch(journey) }
        if let journey = deadlines.settlingJourney(8) {
            let first = state.live.journeys[journey].firstLeg
            if first.exists { state.live.legs.prefetch(first) }
        }
        if let journey = deadlines.settlingJourney(6) {
            let first = state.live.journeys[journey].firstLeg
            if first.exists, state.live.legs[first].nextInJourney.exists {
                state.live.legs.prefetch(state.live.legs[first].nextInJourney)
            }
        }
        if let journey = deadlines.settlingJourney(4) {
            forFirstTwo(of: journey) {
                $0.state.live.prefetchTables($1)
                $0.state.translations.prefetch($0.state.live.entry($1), in: Int($0.state.live.legs[$1].namespace))
            }
        }
        if let journey = deadlines.settlingJourney(2) {
            forFirstTwo(of: journey) {
                $0.state.translations.prefetchEntry($0.state.live.entry($1), in: Int($0.state.live.legs[$1].namespace))
            }
        }
    }

    /// Most journeys have no more legs.
    @inline(__always)
    private mutating func forFirstTwo(of journey: JourneyIndex, _ body: (inout Self, LegIndex) -> Void) {
        let first = state.live.journeys[journey].firstLeg
        guard first.exists, state.live.legs[first].journey.exists else { return }
        body(&self, first)
        let second = state.live.legs[first].nextInJourney
        if second.exists, state.live.legs[second].journey.exists { body(&self, second) }
    }

    /// Closes all journeys. One that has not been silent for long enough to be called lost stays `open`.
    public mutating func finish(into sink: inout some JourneySink) {
        decision.isFinishing = true
        defer { decision.isFinishing = false }
        // Confirmed legs first, then whatever else fits.
        for isFirst in [true, false] {
            for index in state.live.journeys.indices {
                while state.live.isLive(index), joinLate(index, isFirst: isFirst) {}
            }
        }
        for index in state.live.journeys.indices where state.live.isLive(index) { close(index, isEvicted: false, into: &sink) }
        deadlines.removeAll()
    }

    /// Hands out copies of live journeys, as `open`, at most `limit`.
    public mutating func forEachOpen(limit: Int, _ body: (Journey) -> Void) {
        var count = 0
        for index in state.live.journeys.indices where state.live.isLive(index) {
            guard count < limit else { return }
            count += 1
            var leaf = nextLeaf(from: state.live.journeys[index].firstLeg)
            var branch: UInt64 = 0
            while leaf.exists {
                fill(index, endingIn: leaf, branch: branch, isEvicted: false)
                outgoing.outcome = .open
                outgoing.incompleteReason = nil
                outgoing.expected.removeAll(keepingCapacity: true)
                body(outgoing)
                branch += 1
                leaf = nextLeaf(from: state.live.legs[leaf].nextInJourney)
            }
        }
    }

    private mutating func expire(
        _ timeout: TimeoutQueue.Timeout, _ stage: JourneyDeadlines.Stage, _ time: Int64, into sink: inout some JourneySink
    ) {
        let index = timeout.journey
        guard state.live.journeys[index].serial == timeout.serial, state.live.isLive(index) else { return }
        guard state.live.journeys[index].lastActivity + deadlines.patience(stage) <= time else {
            // It moved meanwhile.
            return rearm(timeout.journey, stage)
        }
        if joinLate(timeout.journey, isFirst: stage == .settling) {
            // It is another's part now, or longer than it was.
            if state.live.journeys[index].serial == timeout.serial, state.live.isLive(index) { rearm(timeout.journey, stage) }
            return
        }
        switch stage {
        case .settling where !decision.isSettled(timeout.journey, &state, &layoutIndex): rearm(timeout.journey, .lingering)
        case .lingering where decision.isCrossing(timeout.journey, &state, &layoutIndex):
            rearm(timeout.journey, .crossing)
            tellOfLosses(timeout.journey, to: &sink)
        default: close(timeout.journey, isEvicted: false, into: &sink)
        }
    }

    private mutating func tellOfLosses(_ journey: JourneyIndex, to sink: inout some JourneySink) {
        var leaf = nextLeaf(from: state.live.journeys[journey].firstLeg)
        while leaf.exists {
            fill(journey, endingIn: leaf, branch: 0, isEvicted: false)
            if outgoing.outcome == .dropped { sink.mayBeLost(outgoing) }
            leaf = nextLeaf(from: state.live.legs[leaf].nextInJourney)
        }
    }

    private mutating func rearm(_ journey: JourneyIndex, _ stage: JourneyDeadlines.Stage) {
        let timeout = TimeoutQueue.Timeout(journey: journey, serial: state.live.journeys[journey].serial)
        deadlines.append(timeout, stage, lastActivity: state.live.journeys[journey].lastActivity)
    }

    private mutating func evict(into sink: inout some JourneySink) {
        mustEvict = false
        while state.live.liveJourneys > state.limits.journeys {
            guard let timeout = deadlines.popOldest() else { return }
            let index = timeout.journey
            guard state.live.journeys[index].serial == timeout.serial, state.live.isLive(index) else { continue }
            counters.evicted += 1
            decision.noteEviction(at: state.clock.now)
            close(timeout.journey, isEvicted: true, into: &sink)
        }
    }

    private mutating func close(_ journey: JourneyIndex, isEvicted: Bool, into sink: inout some JourneySink) {
        var leaf = nextLeaf(from: state.live.journeys[journey].firstLeg)
        var branch: UInt64 = 0
        var unwanted = LegIndex.none
        while leaf.exists {
            if !isEvicted, !decision.mayGoOn(journey, &state), UnwantedCopies.contain(leaf, &state, &layoutIndex) {
                counters.unwanted += 1
                if !unwanted.exists { unwanted = leaf }
            } else {
                hand(journey, endingIn: leaf, branch: branch, isEvicted: isEvicted, to: &sink)
                branch += 1
            }
            leaf = nextLeaf(from: state.live.legs[leaf].nextInJourney)
        }
        // Where nobody wanted any of its copies, it went as far as the link.
        if branch == 0, unwanted.exists, state.parent(of: unwanted).exists {
            hand(journey, endingIn: state.parent(of: unwanted), branch: 0, isEvicted: false, to: &sink)
        }
        var index = state.live.journeys[journey].firstLeg
        while index.exists {
            let next = state.live.legs[index].nextInJourney
            if !tunnelLinks.isEmpty { tunnelLinks.forget(state.firstEvent(of: index)) }
            state.live.remove(index)
            index = next
        }
        if !quotedPackets.isEmpty { quotedPackets.forget(serial: serial(of: state.live.journeys[journey])) }
        state.live.release(journey)
    }

    private mutating func hand(
        _ journey: JourneyIndex, endingIn leaf: LegIndex, branch: UInt64, isEvicted: Bool, to sink: inout some JourneySink
    ) {
        fill(journey, endingIn: leaf, branch: branch, isEvicted: isEvicted)
        counters.journeys += 1
        if outgoing.isAmbiguous { counters.ambiguous += 1 }
        sink.accept(outgoing, stepTrie: state.stepTrie, history: state.history)
    }

    /// The next leg behind which nothing comes. A multicast packet has several, and each ends a journey.
    @inline(__always)
    private func nextLeaf(from leg: LegIndex) -> LegIndex {
        var leaf = leg
        while leaf.exists, state.live.legs[leaf].hasChildren { leaf = state.live.legs[leaf].nextInJourney }
        return leaf
    }

    /// Writes the journey that ends in `leaf` into `outgoing`.
    mutating func fill(_ journey: JourneyIndex, endingIn leaf: LegIndex, branch: UInt64, isEvicted: Bool) {
        let own = state.live.journeys[journey]
        // Branches past the first get serials of their own from the top of the range.
        outgoing.serial = serial(of: own) | branch << 56
        outgoing.packet = own.packet(timeToLive: state.live.legs[own.firstLeg].entryTimeToLive)
        if !quotedPackets.isEmpty { quotedPackets.complete(&outgoing.packet, serial: serial(of: own)) }
        outgoing.firstSeen = own.firstSeen
        outgoing.lastSeen = own.lastSeen
        outgoing.lastEvent = own.lastEvent
        outgoing.isAmbiguous = own.isAmbiguous
        outgoing.timeToLive = state.live.legs[leaf].timeToLive
        outgoing.legs.removeAll(keepingCapacity: true)
        if !outgoing.expected.isEmpty { outgoing.expected.removeAll(keepingCapacity: true) }
        outgoing.carries = nil
        outgoing.carriedBy = nil
        var index = leaf
        while index.exists {
            outgoing.legs.append(described(index))
            if !tunnelLinks.isEmpty {
                let name = state.firstEvent(of: index)
                outgoing.carries = tunnelLinks.carried(by: name) ?? outgoing.carries
                outgoing.carriedBy = tunnelLinks.carrier(of: name) ?? outgoing.carriedBy
            }
            index = state.parent(of: index)
        }
        outgoing.legs.reverse()
        let ending = decision.ending(
            of: leaf, isEvicted: isEvicted, expected: &outgoing.expected, &state, &layoutIndex)
        outgoing.outcome = ending.outcome
        outgoing.incompleteReason = ending.reason
    }

    private mutating func described(_ index: LegIndex) -> JourneyLeg {
        var described = JourneyLeg(
            namespace: Int(state.live.legs[index].namespace), stepPath: state.live.legs[index].stepPath,
            entry: state.live.entry(index),
            exit: state.live.current(index), lastHook: state.live.legs[index].hook,
            opensConnection: state.live.legs[index].opensConnection,
            firstEvent: state.firstEvent(of: index),
            lastEvent: state.history.position(endingIn: state.live.legs[index].lastEvent))
        let firstSeen = state.live.journeys[state.live.legs[index].journey].firstSeen
        if let known = state.translations.translation(of: described.entry, in: described.namespace, at: firstSeen) {
            described.direction = known.direction
            if described.lastHook == .postrouting { described.exit = known.translated }
        }
        return described
    }
}
