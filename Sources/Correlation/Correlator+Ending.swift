public import TraceModel

/// When journeys end, and how.
extension Correlator {
    /// Moves the time on and closes the journeys that have ended.
    ///
    /// - Parameters:
    ///   - time: microseconds, never going back: what was reported before this moment is in, from all namespaces. It may lie
    ///     behind the time of `receive(at:)`.
    ///   - confirmed: up to when that is so for what was still being gathered then, too (`ConfirmedTime`). Only what was silent
    ///     for long enough before it is closed without a certain end.
    public mutating func advance(to time: Int64, confirmed: Int64? = nil, into sink: inout some JourneySink) {
        let confirmed = min(time, confirmed ?? time)
        now = max(now, time)
        complete = max(complete, time)
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

    /// What has not been looked at for a while is not in the processor's cache any more: it is asked for while others are looked
    /// at, first the journey, then its legs, then where they are found.
    @inline(__always)
    private mutating func prefetchNext() {
        if let journey = deadlines.settlingJourney(12) { live.journeys.prefetch(journey) }
        if let journey = deadlines.settlingJourney(8) {
            let first = live.journeys[journey].firstLeg
            if first.exists { live.legs.prefetch(first) }
        }
        if let journey = deadlines.settlingJourney(6) {
            let first = live.journeys[journey].firstLeg
            if first.exists, live.legs[first].nextInJourney.exists {
                live.legs.prefetch(live.legs[first].nextInJourney)
            }
        }
        if let journey = deadlines.settlingJourney(4) {
            forFirstTwo(of: journey) {
                $0.live.prefetchTables($1)
                $0.translations.prefetch($0.live.entry($1), in: Int($0.live.legs[$1].namespace))
            }
        }
        if let journey = deadlines.settlingJourney(2) {
            forFirstTwo(of: journey) {
                $0.translations.prefetchEntry($0.live.entry($1), in: Int($0.live.legs[$1].namespace))
            }
        }
    }

    /// Most journeys have no more legs.
    @inline(__always)
    private mutating func forFirstTwo(of journey: JourneyIndex, _ body: (inout Self, LegIndex) -> Void) {
        let first = live.journeys[journey].firstLeg
        guard first.exists, live.legs[first].journey.exists else { return }
        body(&self, first)
        let second = live.legs[first].nextInJourney
        if second.exists, live.legs[second].journey.exists { body(&self, second) }
    }

    /// Closes all journeys. One that has not been silent for long enough to be called lost stays `open`.
    public mutating func finish(into sink: inout some JourneySink) {
        isFinishing = true
        defer { isFinishing = false }
        // Confirmed legs first, then whatever else fits.
        for isFirst in [true, false] {
            for index in live.journeys.indices {
                while live.isLive(index), joinLate(index, isFirst: isFirst) {}
            }
        }
        for index in live.journeys.indices where live.isLive(index) { close(index, isEvicted: false, into: &sink) }
        deadlines.removeAll()
    }

    /// Hands out copies of live journeys, as `open`, at most `limit`.
    public mutating func forEachOpen(limit: Int, _ body: (Journey) -> Void) {
        var count = 0
        for index in live.journeys.indices where live.isLive(index) {
            guard count < limit else { return }
            count += 1
            var leaf = nextLeaf(from: live.journeys[index].firstLeg)
            var branch: UInt64 = 0
            while leaf.exists {
                fill(index, endingIn: leaf, branch: branch, isEvicted: false)
                outgoing.outcome = .open
                outgoing.incompleteReason = nil
                outgoing.expected.removeAll(keepingCapacity: true)
                body(outgoing)
                branch += 1
                leaf = nextLeaf(from: live.legs[leaf].nextInJourney)
            }
        }
    }

    private mutating func expire(
        _ timeout: TimeoutQueue.Timeout, _ stage: JourneyDeadlines.Stage, _ time: Int64, into sink: inout some JourneySink
    ) {
        let index = timeout.journey
        guard live.journeys[index].serial == timeout.serial, live.isLive(index) else { return }
        guard live.journeys[index].lastActivity + deadlines.patience(stage) <= time else {
            // It moved meanwhile.
            return rearm(timeout.journey, stage)
        }
        if joinLate(timeout.journey, isFirst: stage == .settling) {
            // It is another's part now, or longer than it was.
            if live.journeys[index].serial == timeout.serial, live.isLive(index) { rearm(timeout.journey, stage) }
            return
        }
        switch stage {
        case .settling where !isSettled(timeout.journey): rearm(timeout.journey, .lingering)
        case .lingering where isCrossing(timeout.journey): rearm(timeout.journey, .crossing)
        default: close(timeout.journey, isEvicted: false, into: &sink)
        }
    }

    private mutating func rearm(_ journey: JourneyIndex, _ stage: JourneyDeadlines.Stage) {
        let timeout = TimeoutQueue.Timeout(journey: journey, serial: live.journeys[journey].serial)
        deadlines.append(timeout, stage, lastActivity: live.journeys[journey].lastActivity)
    }

    /// Whether it has left for a namespace being traced and was not seen there.
    private mutating func isCrossing(_ journey: JourneyIndex) -> Bool {
        var index = live.journeys[journey].firstLeg
        while index.exists {
            // What does not fit through goes on in pieces, which are journeys of their own.
            let fits = expectedProbes.fits(
                live.journeys[journey].length, namespace: Int(live.legs[index].namespace),
                interface: live.legs[index].outInterface)
            if !live.legs[index].hasChildren, !live.current(index).destination.isMulticast, fits,
                arrival(of: index) != nil, case .left = assessment(of: index).ending
            {
                return true
            }
            index = live.legs[index].nextInJourney
        }
        return false
    }

    /// Whether nothing more can come: one way from a known entry to a certain end.
    private mutating func isSettled(_ journey: JourneyIndex) -> Bool {
        var index = live.journeys[journey].firstLeg
        if live.legs[index].awaitsParent, live.legs[index].hook != .output, !comesFromOutside(index) { return false }
        while index.exists {
            if live.current(index).destination.isMulticast { return false }
            let assessment = assessment(of: index)
            if assessment.hasGap { return false }
            if !live.legs[index].hasChildren {
                switch assessment.ending {
                case .delivered where rulesetChanges.isAnyOpen && mayEndUnseen(index, since: .min, until: .max): return false
                case .delivered: break
                case .left where arrival(of: index) == nil && !hasLeftByNewInterface(index): break
                default: return false
                }
            }
            index = live.legs[index].nextInJourney
        }
        return true
    }

    /// Whether a rule that came meanwhile may have ended the packet's way behind the last probe of INPUT. Behind the security
    /// table's there is nothing.
    private func mayEndUnseen(_ index: LegIndex, since begin: Int64, until end: Int64) -> Bool {
        let last = layout.probes[Int(stepTrie.lastProbe(of: live.legs[index].stepPath))]
        return last.table != .security && rulesetChanges.overlaps(last.namespace, from: begin, to: end)
    }

    mutating func assessment(of index: LegIndex) -> ExpectedProbes.Assessment {
        expectedProbes.assessment(live.legs[index].stepPath, stepTrie, conditions: live.legs[index].conditions, now: now)
    }

    /// The other namespaces that a packet has left for; none where it may have left all those being traced.
    private mutating func neighbours(of index: LegIndex) -> Set<Int> {
        let namespace = Int(live.legs[index].namespace)
        guard !expectedProbes.leadsOut(of: namespace, through: live.legs[index].outInterface),
            let link = linkDomain(of: index, live.legs[index].outInterface)
        else { return [] }
        return expectedProbes.namespaces(on: link).subtracting([namespace])
    }

    private mutating func comesFromOutside(_ index: LegIndex) -> Bool {
        guard let link = linkDomain(of: index, live.legs[index].inInterface), link != 0 else { return true }
        return layout.openLinkDomains.contains(link)
    }

    private mutating func arrival(of index: LegIndex) -> ExpectedProbes.Arrival? {
        expectedProbes.arrival(
            from: Int(live.legs[index].namespace), through: live.legs[index].outInterface,
            family: live.current(index).source.family, conditions: live.legs[index].conditions, now: now)
    }

    private mutating func evict(into sink: inout some JourneySink) {
        mustEvict = false
        while live.liveJourneys > limits.journeys {
            guard let timeout = deadlines.popOldest() else { return }
            let index = timeout.journey
            guard live.journeys[index].serial == timeout.serial, live.isLive(index) else { continue }
            counters.evicted += 1
            lastEviction = now
            close(timeout.journey, isEvicted: true, into: &sink)
        }
    }

    private mutating func close(_ journey: JourneyIndex, isEvicted: Bool, into sink: inout some JourneySink) {
        var leaf = nextLeaf(from: live.journeys[journey].firstLeg)
        var branch: UInt64 = 0
        var unwanted = LegIndex.none
        while leaf.exists {
            if !isEvicted, !mayGoOn(journey), isUnwanted(leaf) {
                counters.unwanted += 1
                if !unwanted.exists { unwanted = leaf }
            } else {
                hand(journey, endingIn: leaf, branch: branch, isEvicted: isEvicted, to: &sink)
                branch += 1
            }
            leaf = nextLeaf(from: live.legs[leaf].nextInJourney)
        }
        // Where nobody wanted any of its copies, it went as far as the link.
        if branch == 0, unwanted.exists, parent(of: unwanted).exists {
            hand(journey, endingIn: parent(of: unwanted), branch: 0, isEvicted: false, to: &sink)
        }
        var index = live.journeys[journey].firstLeg
        while index.exists {
            let next = live.legs[index].nextInJourney
            if !tunnelLinks.isEmpty { tunnelLinks.forget(firstEvent(of: index)) }
            live.remove(index)
            index = next
        }
        live.release(journey)
    }

    private mutating func hand(
        _ journey: JourneyIndex, endingIn leaf: LegIndex, branch: UInt64, isEvicted: Bool, to sink: inout some JourneySink
    ) {
        fill(journey, endingIn: leaf, branch: branch, isEvicted: isEvicted)
        counters.journeys += 1
        if outgoing.isAmbiguous { counters.ambiguous += 1 }
        sink.accept(outgoing, stepTrie: stepTrie, history: history)
    }

    /// Whether everything is being closed before the packet has been silent for long enough.
    @inline(__always)
    private func mayGoOn(_ journey: JourneyIndex) -> Bool {
        isFinishing && live.journeys[journey].lastActivity + deadlines.patience(.lingering) > now
    }

    /// The next leg behind which nothing comes. A multicast packet has several, and each ends a journey.
    @inline(__always)
    private func nextLeaf(from leg: LegIndex) -> LegIndex {
        var leaf = leg
        while leaf.exists, live.legs[leaf].hasChildren { leaf = live.legs[leaf].nextInJourney }
        return leaf
    }

    /// Writes the journey that ends in `leaf` into `outgoing`.
    mutating func fill(_ journey: JourneyIndex, endingIn leaf: LegIndex, branch: UInt64, isEvicted: Bool) {
        let own = live.journeys[journey]
        // Branches past the first get serials of their own from the top of the range.
        outgoing.serial = serial(of: own) | branch << 56
        outgoing.packet = own.packet(timeToLive: live.legs[own.firstLeg].entryTimeToLive)
        outgoing.firstSeen = own.firstSeen
        outgoing.lastSeen = own.lastSeen
        outgoing.isAmbiguous = own.isAmbiguous
        outgoing.timeToLive = live.legs[leaf].timeToLive
        outgoing.legs.removeAll(keepingCapacity: true)
        if !outgoing.expected.isEmpty { outgoing.expected.removeAll(keepingCapacity: true) }
        outgoing.carries = nil
        outgoing.carriedBy = nil
        var index = leaf
        while index.exists {
            outgoing.legs.append(described(index))
            if !tunnelLinks.isEmpty {
                let name = firstEvent(of: index)
                outgoing.carries = tunnelLinks.carried(by: name) ?? outgoing.carries
                outgoing.carriedBy = tunnelLinks.carrier(of: name) ?? outgoing.carriedBy
            }
            index = parent(of: index)
        }
        outgoing.legs.reverse()
        decide(leaf, own, isEvicted: isEvicted)
    }

    private mutating func described(_ index: LegIndex) -> JourneyLeg {
        var described = JourneyLeg(
            namespace: Int(live.legs[index].namespace), stepPath: live.legs[index].stepPath, entry: live.entry(index),
            exit: live.current(index), lastHook: live.legs[index].hook,
            opensConnection: live.legs[index].opensConnection,
            firstEvent: firstEvent(of: index), lastEvent: history.position(endingIn: live.legs[index].lastEvent))
        let firstSeen = live.journeys[live.legs[index].journey].firstSeen
        if let known = translations.translation(of: described.entry, in: described.namespace, at: firstSeen) {
            described.direction = known.direction
            if described.lastHook == .postrouting { described.exit = known.translated }
        }
        return described
    }

    /// How the journey that ends in `leaf` ended, and why that is not known if it is not.
    private mutating func decide(_ leaf: LegIndex, _ own: LiveJourney, isEvicted: Bool) {
        var hasGap = false
        var hasLoss = own.mayLackEvents
        var begun = own.begunAt
        var isUnread = false
        var index = leaf
        while index.exists {
            hasGap = hasGap || assessment(of: index).hasGap
            hasLoss = hasLoss || hasLostSince(index)
            begun = min(begun, live.begunAt(index))
            isUnread = isUnread || isUnreadNamespace(Int(live.legs[index].namespace))
            index = parent(of: index)
        }
        /// Whether probes of a namespace changed while the packet was under way, or might still have got there.
        func isOutdated(_ namespace: Int, patience: Int64) -> Bool {
            rulesetChanges.overlaps(namespace, from: begun, to: own.lastActivity + patience)
        }
        func settle(_ outcome: Outcome, _ reason: IncompleteReason? = nil) {
            let isKnown = outcome == .delivered || outcome == .sent || outcome == .dropped
            outgoing.outcome = isKnown && isUnread ? .incomplete : outcome
            outgoing.incompleteReason = isKnown && isUnread ? .rulesUnread : reason
        }
        func settleExpected(by probes: some Collection<UInt32>, _ doubts: EndingDoubts, patience: Int64) {
            var doubts = doubts
            if isFinishing, own.lastActivity + patience > now { doubts.insert(.mayGoOn) }
            if isEvicted || lastEviction >= own.lastActivity { doubts.insert(.evicted) }
            if hasLoss { doubts.insert(.eventsLost) }
            if live.legs[leaf].isFragment { doubts.insert(.refragmented) }
            let decision = doubts.outcome
            if decision.outcome != .open { outgoing.expected.append(contentsOf: probes) }
            settle(decision.outcome, decision.reason)
        }
        let origin = missingOrigin(of: own)
        if let origin {
            hasGap = true
            let begun = live.begunAt(own.firstLeg)
            hasLoss = hasLoss || origin.contains { hasLost(in: $0, since: begun) }
        }
        if hasGap {
            if isEvicted { return settle(.incomplete, .evicted) }
            if hasLoss { return settle(.incomplete, .eventsLost) }
            var isAnyOutdated = origin?.contains { isOutdated($0, patience: limits.linger) } ?? false
            index = leaf
            while index.exists {
                isAnyOutdated = isAnyOutdated || isOutdated(Int(live.legs[index].namespace), patience: limits.linger)
                index = parent(of: index)
            }
            if isAnyOutdated { return settle(.incomplete, .layoutChanged) }
            let isRefragmented = live.legs[leaf].isFragment || isPutTogether(own.firstLeg)
            return settle(.incomplete, isRefragmented ? .refragmented : .stepsMissing)
        }
        switch assessment(of: leaf).ending {
        case .delivered where mayEndUnseen(leaf, since: begun, until: own.lastActivity):
            settle(.incomplete, .layoutChanged)
        case .delivered:
            settle(.delivered)
        case .decided:
            settle(.dropped)
        case .undecidable:
            settle(.incomplete, isEvicted ? .evicted : .probesMissing)
        case .expected
        where live.current(leaf).destination.isMulticast && lacksNothingButRouting(leaf)
            && mayEndBeforeRouting(leaf):
            // A rule may have dropped it, or nobody wanted it.
            settle(.incomplete, .probesMissing)
        case .expected(let probes, let crosses):
            var doubts: EndingDoubts = []
            if isOutdated(Int(live.legs[leaf].namespace), patience: deadlines.patience(.lingering)) {
                doubts.insert(.layoutChanged)
            }
            if isThinned(own), expectedProbes.probes[probes].contains(where: { isTranslated(between: leaf, and: $0) }) {
                doubts.insert(.thinned)
            }
            if !crosses.isEmpty { doubts.insert(.probesFiltered) }
            settleExpected(by: expectedProbes.probes[probes], doubts, patience: deadlines.patience(.lingering))
        case .left:
            guard !live.current(leaf).destination.isMulticast, let next = arrival(of: leaf) else {
                let isWatchLost =
                    !rulesetChanges.isQuiet(since: begun)
                    && neighbours(of: leaf).contains { isOutdated($0, patience: deadlines.patience(.crossing)) }
                let reason = isWatchLost ? .layoutChanged : reasonBeyond(leaf)
                return reason == nil ? settle(.sent) : settle(.incomplete, reason)
            }
            isUnread = isUnread || next.namespaces.contains { isUnreadNamespace($0) }
            // It may have left long before that was received, and what was lost then may have been its arrival.
            let departed = live.departedAfter(leaf)
            let since = departed == .min ? own.lastActivity : min(departed, own.lastActivity)
            var doubts: EndingDoubts = []
            if next.namespaces.contains(where: { hasLost(in: $0, since: since) }) { doubts.insert(.eventsLost) }
            if next.namespaces.contains(where: { isOutdated($0, patience: deadlines.patience(.crossing)) }) {
                doubts.insert(.layoutChanged)
            }
            let namespace = Int(live.legs[leaf].namespace)
            let outInterface = live.legs[leaf].outInterface
            if !expectedProbes.fits(own.length, namespace: namespace, interface: outInterface) { doubts.insert(.refragmented) }
            if isThinned(own), mayBeTranslated(leaf) { doubts.insert(.thinned) }
            if own.mayBeOffloaded, expectedProbes.mayBypass(next.namespaces, from: namespace, through: outInterface) {
                doubts.insert(.offloaded)
            }
            if next.dependsOnSource { doubts.insert(.probesFiltered) }
            settleExpected(by: next.probes, doubts, patience: deadlines.patience(.crossing))
        }
    }

    /// Whether a packet that was first seen here may have been put together from fragments.
    private mutating func isPutTogether(_ first: LegIndex) -> Bool {
        let leg = live.legs[first]
        return leg.hook != .prerouting && leg.hook != .output
            && !expectedProbes.fits(
                live.journeys[leg.journey].length, namespace: Int(leg.namespace), interface: leg.inInterface)
    }

    /// Whether probes that a packet must have passed before its first event in a namespace did not report it.
    mutating func isOrphan(_ index: LegIndex) -> Bool {
        assessment(of: index).hasGap && !live.legs[index].isFragment && !isPutTogether(index)
    }

    @inline(__always)
    private func isUnreadNamespace(_ namespace: Int) -> Bool { !unread.isEmpty && unread.contains(namespace) }

    @inline(__always)
    private func hasLeftByNewInterface(_ index: LegIndex) -> Bool {
        expectedProbes.isTooNew(live.legs[index].outInterface, in: Int(live.legs[index].namespace))
    }

    /// Why a packet that left may have gone on in a namespace of this machine although no probe is known that had to see it.
    private func reasonBeyond(_ index: LegIndex) -> IncompleteReason? {
        if hasLeftByNewInterface(index) { return .layoutChanged }
        guard !unread.isEmpty || !layout.unfollowedLinkDomains.isEmpty else { return nil }
        let namespace = Int(live.legs[index].namespace)
        let domain = expectedProbes.interfaces[namespace, live.legs[index].outInterface].linkDomain
        if layout.unfollowedLinkDomains.contains(domain) { return .notFollowed }
        let isUnread = expectedProbes.namespaces(on: domain).contains { $0 != namespace && unread.contains($0) }
        return isUnread ? .rulesUnread : nil
    }

    /// Whether packets were left out while it was under way, or could still go on.
    private func isThinned(_ own: LiveJourney) -> Bool { lastThinned >= own.lastActivity }

    /// Behind a source translation that is not known yet a packet may count as one of another flow, which is left out.
    private mutating func mayBeTranslated(_ index: LegIndex) -> Bool {
        layout.namespaces[Int(live.legs[index].namespace)].tracksConnections != false && knownTranslation(of: index) == nil
    }

    private mutating func isTranslated(between index: LegIndex, and probe: UInt32) -> Bool {
        let next = layout.probes[Int(probe)]
        return mayBeTranslated(index)
            && Translation.passesSource(
                from: (live.legs[index].hook, Int32(live.legs[index].priority)), to: (next.hook, next.priority))
    }

    /// The namespaces that must have seen a packet before it arrived where it was first seen, but did not.
    private mutating func missingOrigin(of own: LiveJourney) -> Set<Int>? {
        let first = own.firstLeg
        guard live.legs[first].awaitsParent, !live.current(first).destination.isMulticast else { return nil }
        // REJECT with tcp-reset answers a bridge's packet by the port that it came from, past all hooks (`nf_send_reset` in
        // net/ipv4/netfilter/nf_reject_ipv4.c).
        if own.isReset { return nil }
        return expectedProbes.origin(
            of: Int(live.legs[first].namespace), through: live.legs[first].inInterface,
            family: live.current(first).source.family, conditions: live.legs[first].conditions, now: now)
    }

    /// Where a packet has not been seen at all, any loss since it was due may have been its own. A loss is noticed with the
    /// namespace's next event, of whichever packet, and that may be before the packet's own events are received.
    @inline(__always)
    func hasLost(in namespace: Int, since time: Int64) -> Bool {
        losses.hasAny(in: namespace, since: time - limits.linger)
    }
}
