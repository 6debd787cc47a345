package import TraceModel

/// Decides how a journey ended, and why that is not known where it is not.
package struct OutcomeDecision {
    /// While rules change nobody knows which probes a packet had to meet.
    var rulesetChanges = RulesetChanges()
    /// While everything is being closed for good.
    package var isFinishing = false
    /// When packets were not handed in last.
    private var lastThinned: Int64 = .min / 2
    /// When a journey was closed early last.
    private var lastEviction: Int64 = .min / 2
    /// Microseconds without an event after which a journey counts as silent.
    private let linger: Int64
    /// Microseconds without an event after which a journey counts as silent that may be waiting for the next hop's address (ARP).
    private let cross: Int64

    init(_ deadlines: JourneyDeadlines) {
        linger = deadlines.patience(.lingering)
        cross = deadlines.patience(.crossing)
    }

    package mutating func noteThinning(at time: Int64) { lastThinned = time }

    package mutating func noteEviction(at time: Int64) { lastEviction = time }

    // MARK: Whether it has ended

    /// Whether nothing more can come: one way from a known entry to a certain end.
    func isSettled(_ journey: JourneyIndex, _ state: inout LiveState, _ layout: inout LayoutIndex) -> Bool {
        var leg = state.live.journeys[journey].firstLeg
        if state.live.legs[leg].awaitsParent, state.live.legs[leg].hook != .output,
            !Self.comesFromOutside(leg, &state, &layout)
        {
            return false
        }
        while leg.exists {
            if state.live.current(leg).destination.isMulticast { return false }
            let assessment = layout.expectedProbes.assessment(of: leg, in: &state)
            if assessment.hasGap { return false }
            if !state.live.legs[leg].hasChildren {
                switch assessment.ending {
                case .delivered
                where rulesetChanges.isAnyOpen && mayEndUnseen(leg, since: .min, until: .max, &state, &layout):
                    return false
                case .delivered: break
                case .left
                where Self.arrival(of: leg, &state, &layout) == nil && !Self.leftByNewInterface(leg, &state, &layout):
                    break
                default: return false
                }
            }
            leg = state.live.legs[leg].nextInJourney
        }
        return true
    }

    /// Whether it has left for a namespace being traced and was not seen there.
    func isCrossing(_ journey: JourneyIndex, _ state: inout LiveState, _ layout: inout LayoutIndex) -> Bool {
        var leg = state.live.journeys[journey].firstLeg
        while leg.exists {
            // What does not fit through goes on in pieces, which are journeys of their own.
            let fits = layout.expectedProbes.fits(
                state.live.journeys[journey].length, namespace: Int(state.live.legs[leg].namespace),
                interface: state.live.legs[leg].outInterface)
            if !state.live.legs[leg].hasChildren, !state.live.current(leg).destination.isMulticast, fits,
                Self.arrival(of: leg, &state, &layout) != nil,
                case .left = layout.expectedProbes.assessment(of: leg, in: &state).ending
            {
                return true
            }
            leg = state.live.legs[leg].nextInJourney
        }
        return false
    }

    /// Whether everything is being closed before the packet has been silent for long enough.
    @inline(__always)
    func mayGoOn(_ journey: JourneyIndex, _ state: inout LiveState) -> Bool {
        isFinishing && state.live.journeys[journey].lastActivity + linger > state.clock.now
    }

    /// Whether probes that a packet must have passed before its first event in a namespace did not report it.
    static func isOrphan(_ leg: LegIndex, _ state: inout LiveState, _ layout: inout LayoutIndex) -> Bool {
        layout.expectedProbes.assessment(of: leg, in: &state).hasGap && !state.live.legs[leg].isFragment
            && !isPutTogether(leg, &state, &layout)
    }

    // MARK: How it has ended

    package struct Ending: Equatable {
        package var outcome: Outcome
        /// Why the outcome is not known; `nil` where it is.
        package var reason: IncompleteReason?

        package init(_ outcome: Outcome, _ reason: IncompleteReason? = nil) {
            self.outcome = outcome
            self.reason = reason
        }
    }

    /// How a journey ended.
    ///
    /// - Parameters:
    ///   - leaf: its last leg.
    ///   - isEvicted: whether it is closed before its time.
    ///   - expected: takes the probes of which one had to report the packet next, where it ended before one.
    package func ending(
        of leaf: LegIndex, isEvicted: Bool, expected: inout [UInt32], _ state: inout LiveState, _ layout: inout LayoutIndex
    ) -> Ending {
        let own = state.live.journeys[state.live.legs[leaf].journey]
        var past = past(of: leaf, own, &state, &layout)
        let ending =
            past.hasGap
            ? endingBehindGap(leaf, own, past, isEvicted: isEvicted, &state, &layout)
            : ending(leaf, own, &past, isEvicted: isEvicted, expected: &expected, &state, &layout)
        let isKnown = ending.outcome == .delivered || ending.outcome == .sent || ending.outcome == .dropped
        return isKnown && past.isUnread ? Ending(.incomplete, .rulesUnread) : ending
    }

    /// What became known of a journey on its way.
    private struct Past {
        /// Whether a probe that it must have passed did not report it.
        var hasGap = false
        var hasLoss = false
        var begun: Int64
        /// Whether it was, or was to come, where rules could not be read.
        var isUnread = false
        /// The namespaces that must have seen it before it was first seen; `nil` where there are none.
        var origin: Set<Int>?
    }

    private func past(
        of leaf: LegIndex, _ own: LiveJourney, _ state: inout LiveState, _ layout: inout LayoutIndex
    ) -> Past {
        var past = Past(hasLoss: own.mayLackEvents, begun: own.begunAt)
        var leg = leaf
        while leg.exists {
            past.hasGap = past.hasGap || layout.expectedProbes.assessment(of: leg, in: &state).hasGap
            past.hasLoss = past.hasLoss || state.hasLostSince(leg)
            past.begun = min(past.begun, state.live.begunAt(leg))
            past.isUnread = past.isUnread || layout.isUnread(Int(state.live.legs[leg].namespace))
            leg = state.parent(of: leg)
        }
        if let origin = Self.missingOrigin(of: own, &state, &layout) {
            past.hasGap = true
            past.origin = origin
            let begun = state.live.begunAt(own.firstLeg)
            for namespace in origin where state.hasLost(in: namespace, since: begun) { past.hasLoss = true }
        }
        return past
    }

    private func endingBehindGap(
        _ leaf: LegIndex, _ own: LiveJourney, _ past: Past, isEvicted: Bool, _ state: inout LiveState,
        _ layout: inout LayoutIndex
    ) -> Ending {
        if isEvicted { return Ending(.incomplete, .evicted) }
        if past.hasLoss { return Ending(.incomplete, .eventsLost) }
        var isAnyOutdated = past.origin?.contains { isOutdated($0, past, own, patience: state.limits.linger) } ?? false
        var leg = leaf
        while leg.exists {
            let namespace = Int(state.live.legs[leg].namespace)
            isAnyOutdated = isAnyOutdated || isOutdated(namespace, past, own, patience: state.limits.linger)
            leg = state.parent(of: leg)
        }
        if isAnyOutdated { return Ending(.incomplete, .layoutChanged) }
        let isRefragmented = state.live.legs[leaf].isFragment || Self.isPutTogether(own.firstLeg, &state, &layout)
        return Ending(.incomplete, isRefragmented ? .refragmented : .stepsMissing)
    }

    private func ending(
        _ leaf: LegIndex, _ own: LiveJourney, _ past: inout Past, isEvicted: Bool, expected: inout [UInt32],
        _ state: inout LiveState, _ layout: inout LayoutIndex
    ) -> Ending {
        switch layout.expectedProbes.assessment(of: leaf, in: &state).ending {
        case .delivered where mayEndUnseen(leaf, since: past.begun, until: own.lastActivity, &state, &layout):
            return Ending(.incomplete, .layoutChanged)
        case .delivered: return Ending(.delivered)
        case .decided: return Ending(.dropped)
        case .undecidable: return Ending(.incomplete, isEvicted ? .evicted : .probesMissing)
        case .expected
        where state.live.current(leaf).destination.isMulticast
            && UnwantedCopies.lacksNothingButRouting(leaf, &state, &layout)
            && UnwantedCopies.mayEndBeforeRouting(leaf, &state, &layout):
            // A rule may have dropped it, or nobody wanted it.
            return Ending(.incomplete, .probesMissing)
        case .expected(let probes, let crosses):
            var doubts = doubts(leaf, own, past, isEvicted: isEvicted, patience: linger, &state)
            if isOutdated(Int(state.live.legs[leaf].namespace), past, own, patience: linger) { doubts.insert(.layoutChanged) }
            let next = layout.expectedProbes.probes[probes]
            if isThinned(own) {
                for probe in next where Self.isTranslated(between: leaf, and: probe, &state, &layout) {
                    doubts.insert(.thinned)
                }
            }
            if !crosses.isEmpty { doubts.insert(.probesFiltered) }
            return Self.ending(doubts, expecting: next, expected: &expected)
        case .left:
            guard !state.live.current(leaf).destination.isMulticast, let next = Self.arrival(of: leaf, &state, &layout) else {
                let reason = reasonBeyond(leaf, own, past, &state, &layout)
                return reason == nil ? Ending(.sent) : Ending(.incomplete, reason)
            }
            for namespace in next.namespaces where layout.isUnread(namespace) { past.isUnread = true }
            let doubts = doubtsOfCrossing(to: next, leaf, own, past, isEvicted: isEvicted, &state, &layout)
            return Self.ending(doubts, expecting: next.probes, expected: &expected)
        }
    }

    private static func ending(
        _ doubts: EndingDoubts, expecting probes: some Collection<UInt32>, expected: inout [UInt32]
    ) -> Ending {
        let decision = doubts.outcome
        if decision.outcome != .open { expected.append(contentsOf: probes) }
        return Ending(decision.outcome, decision.reason)
    }

    /// What makes it doubtful that a packet which was not seen where it had to come next was dropped.
    private func doubts(
        _ leaf: LegIndex, _ own: LiveJourney, _ past: Past, isEvicted: Bool, patience: Int64, _ state: inout LiveState
    ) -> EndingDoubts {
        var doubts: EndingDoubts = []
        if isFinishing, own.lastActivity + patience > state.clock.now { doubts.insert(.mayGoOn) }
        if isEvicted || lastEviction >= own.lastActivity { doubts.insert(.evicted) }
        if past.hasLoss { doubts.insert(.eventsLost) }
        if state.live.legs[leaf].isFragment { doubts.insert(.refragmented) }
        return doubts
    }

    /// What makes it doubtful that a packet was dropped which left for another namespace and was not seen there.
    private func doubtsOfCrossing(
        to next: ExpectedProbes.Arrival, _ leaf: LegIndex, _ own: LiveJourney, _ past: Past, isEvicted: Bool,
        _ state: inout LiveState, _ layout: inout LayoutIndex
    ) -> EndingDoubts {
        var doubts = doubts(leaf, own, past, isEvicted: isEvicted, patience: cross, &state)
        // Events that were lost since it left may have been its arrival; its departure may have been received late.
        let departed = state.live.departedAfter(leaf)
        let since = departed == .min ? own.lastActivity : min(departed, own.lastActivity)
        for namespace in next.namespaces {
            if state.hasLost(in: namespace, since: since) { doubts.insert(.eventsLost) }
            if isOutdated(namespace, past, own, patience: cross) { doubts.insert(.layoutChanged) }
        }
        let namespace = Int(state.live.legs[leaf].namespace)
        let outInterface = state.live.legs[leaf].outInterface
        if !layout.expectedProbes.fits(own.length, namespace: namespace, interface: outInterface) {
            doubts.insert(.refragmented)
        }
        if isThinned(own), Self.mayBeTranslated(leaf, &state, &layout) { doubts.insert(.thinned) }
        if own.mayBeOffloaded, layout.expectedProbes.mayBypass(next.namespaces, from: namespace, through: outInterface) {
            doubts.insert(.offloaded)
        }
        if next.dependsOnSource { doubts.insert(.probesFiltered) }
        return doubts
    }

    /// Why a packet that left may have gone on in a namespace of this machine although no probe is known that had to see it; `nil` where
    /// it has not.
    private func reasonBeyond(
        _ leaf: LegIndex, _ own: LiveJourney, _ past: Past, _ state: inout LiveState, _ layout: inout LayoutIndex
    ) -> IncompleteReason? {
        let leg = state.live.legs[leaf]
        if !rulesetChanges.isQuiet(since: past.begun) {
            for namespace in Self.neighbours(of: leg, &layout) where isOutdated(namespace, past, own, patience: cross) {
                return .layoutChanged
            }
        }
        if Self.leftByNewInterface(leaf, &state, &layout) { return .layoutChanged }
        if layout.isWhole { return nil }
        let domain = layout.interface(leg.outInterface, in: leg.namespace).linkDomain
        if layout.layout.unfollowedLinkDomains.contains(domain) { return .notFollowed }
        for namespace in layout.expectedProbes.namespaces(on: domain)
        where namespace != Int(leg.namespace) && layout.isUnread(namespace) {
            return .rulesUnread
        }
        return nil
    }

    /// Whether probes of a namespace changed while the packet was under way, or might still have got there.
    private func isOutdated(_ namespace: Int, _ past: Past, _ own: LiveJourney, patience: Int64) -> Bool {
        rulesetChanges.overlaps(namespace, from: past.begun, to: own.lastActivity + patience)
    }

    /// Whether a rule that came meanwhile may have ended the packet's way behind the last probe of INPUT. Behind the security
    /// table's there is nothing.
    private func mayEndUnseen(
        _ leg: LegIndex, since begin: Int64, until end: Int64, _ state: inout LiveState, _ layout: inout LayoutIndex
    ) -> Bool {
        let last = layout.layout.probes[Int(state.stepTrie.lastProbe(of: state.live.legs[leg].stepPath))]
        return last.table != .security && rulesetChanges.overlaps(last.namespace, from: begin, to: end)
    }

    /// Whether packets were left out while it was under way, or could still go on.
    private func isThinned(_ own: LiveJourney) -> Bool { lastThinned >= own.lastActivity }

    // MARK: What the layout says of a leg

    /// Probes that must see a packet next which left a namespace; `nil` where it left all those being traced, or may have.
    private static func arrival(
        of leg: LegIndex, _ state: inout LiveState, _ layout: inout LayoutIndex
    ) -> ExpectedProbes.Arrival? {
        layout.expectedProbes.arrival(
            from: Int(state.live.legs[leg].namespace), through: state.live.legs[leg].outInterface,
            family: state.live.current(leg).source.family, conditions: state.live.legs[leg].conditions, now: state.clock.now)
    }

    @inline(__always)
    private static func leftByNewInterface(_ leg: LegIndex, _ state: inout LiveState, _ layout: inout LayoutIndex) -> Bool {
        layout.expectedProbes.isTooNew(state.live.legs[leg].outInterface, in: Int(state.live.legs[leg].namespace))
    }

    /// The other namespaces that a packet has left for; none where it may have left all those being traced.
    private static func neighbours(of leg: LiveLeg, _ layout: inout LayoutIndex) -> Set<Int> {
        guard !layout.expectedProbes.leadsOut(of: Int(leg.namespace), through: leg.outInterface),
            let link = layout.departureDomain(leg)
        else { return [] }
        return layout.expectedProbes.namespaces(on: link).subtracting([Int(leg.namespace)])
    }

    private static func comesFromOutside(_ leg: LegIndex, _ state: inout LiveState, _ layout: inout LayoutIndex) -> Bool {
        guard let link = layout.arrivalDomain(state.live.legs[leg]), link != 0 else { return true }
        return layout.layout.openLinkDomains.contains(link)
    }

    /// Whether a packet that was first seen here may have been put together from fragments.
    private static func isPutTogether(_ first: LegIndex, _ state: inout LiveState, _ layout: inout LayoutIndex) -> Bool {
        let leg = state.live.legs[first]
        return leg.hook != .prerouting && leg.hook != .output
            && !layout.expectedProbes.fits(
                state.live.journeys[leg.journey].length, namespace: Int(leg.namespace), interface: leg.inInterface)
    }

    /// The namespaces that must have seen a packet before it arrived where it was first seen, but did not.
    private static func missingOrigin(
        of own: LiveJourney, _ state: inout LiveState, _ layout: inout LayoutIndex
    ) -> Set<Int>? {
        let first = own.firstLeg
        guard state.live.legs[first].awaitsParent, !state.live.current(first).destination.isMulticast else { return nil }
        // REJECT with tcp-reset answers a bridge's packet by the port that it came from, past all hooks (`nf_send_reset` in
        // net/ipv4/netfilter/nf_reject_ipv4.c).
        if own.isReset { return nil }
        return layout.expectedProbes.origin(
            of: Int(state.live.legs[first].namespace), through: state.live.legs[first].inInterface,
            family: state.live.current(first).source.family, conditions: state.live.legs[first].conditions,
            now: state.clock.now)
    }

    /// Behind a source translation that is not known yet a packet may count as one of another flow, which is left out.
    private static func mayBeTranslated(_ leg: LegIndex, _ state: inout LiveState, _ layout: inout LayoutIndex) -> Bool {
        layout.layout.namespaces[Int(state.live.legs[leg].namespace)].tracksConnections != false
            && state.knownTranslation(of: leg) == nil
    }

    private static func isTranslated(
        between leg: LegIndex, and probe: UInt32, _ state: inout LiveState, _ layout: inout LayoutIndex
    ) -> Bool {
        let next = layout.layout.probes[Int(probe)]
        return mayBeTranslated(leg, &state, &layout)
            && Translation.passesSource(
                from: (state.live.legs[leg].hook, Int32(state.live.legs[leg].priority)), to: (next.hook, next.priority))
    }
}
