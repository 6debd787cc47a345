internal import TraceModel

/// Joins legs of different namespaces into one journey, and marks those that a copy of the packet makes doubtful.
extension Correlator {
    /// A leg has reached a hook: it may leave from there, or end there.
    mutating func enterHook(_ leg: LegIndex, _ place: ProbePlace) {
        if hasTunnels, place.isLastOnTheWayOut { enterTunnel(leg) }
        if state.live.legs[leg].awaitsParent, place.hook == .forward || place.hook == .postrouting { insertBridge(leg) }
        if place.isLastOnTheWayOut, state.live.current(leg).destination.isMulticast { adoptReceiver(leg) }
        guard !state.live.legs[leg].hasChildren else { return }
        // To be found behind the source translation of INPUT or POSTROUTING.
        if place.leadsBehindTranslation, !state.live.legs[leg].awaitsTranslation {
            state.live.awaitTranslation(leg)
        }
        if state.live.legs[leg].awaitsChild {
            if place.hook == .input {
                // What goes to a local process does not leave.
                state.live.stopAwaitingChild(leg)
            } else {
                // It goes on, perhaps with another address or one hop less to live.
                let arrivals = state.live.arrivals(for: leg)
                if !arrivals.isEmpty { joinChildren(of: leg, among: arrivals) }
            }
        } else if place.isLastOnTheWayOut {
            let interface = layoutIndex.interface(state.live.legs[leg].outInterface, in: state.live.legs[leg].namespace)
            guard interface.hasOtherEnd else { return }
            state.live.depart(leg, after: state.clock.horizon)
            doubtDepartures(of: leg)
            let arrivals = state.live.awaitChild(leg, as: state.knownTranslation(of: leg))
            if CrossingSearch.isLateAtOnce(interface.linkDomain, &state) { state.live.legs[leg].isChildLate = true }
            if !arrivals.isEmpty { joinChildren(of: leg, among: arrivals) }
        }
    }

    /// A leg is about to leave: if through a tunnel, a packet that carries it will follow.
    private mutating func enterTunnel(_ leg: LegIndex) {
        let left = state.live.legs[leg]
        guard layoutIndex.interface(left.outInterface, in: left.namespace).isTunnel else { return }
        let current = state.live.current(leg)
        // Behind the last probe it may be given another source.
        for tuple in [current, state.knownTranslation(of: leg) ?? current] {
            tunnelLinks.enter(
                Packet.identity(state.live.fingerprint(leg), tuple), namespace: left.namespace,
                leg: state.firstEvent(of: leg), tuple: tuple)
        }
    }

    /// `leg` has arrived: joins it to the leg that left for it, or lets it wait for one.
    mutating func joinParent(of leg: LegIndex, through link: UInt32) {
        let arrived = state.live.legs[leg]
        guard layoutIndex.interface(arrived.inInterface, in: arrived.namespace).hasOtherEnd else { return }
        let choice = CrossingSearch.departure(of: leg, by: link, &state, &layoutIndex)
        tell(.departure, choice, namespace: arrived.namespace, state.live.entry(leg))
        guard choice.best.exists else {
            // Where not all were looked at, the right one may be among the others.
            if choice.isExhausted { state.markAmbiguous(leg) }
            state.live.awaitParent(leg)
            if CrossingSearch.isLateAtOnce(link, &state) { state.live.legs[leg].isParentLate = true }
            return
        }
        if !CrossingSearch.areCopies(choice, &state) { state.markAmbiguous(choice) }
        doubtCrossing(from: choice.best)
        state.live.join(choice.best, leg)
    }

    /// `leg` has left: joins the one that arrived before it was known to leave, or all of them for a multicast packet.
    @inline(never)
    private mutating func joinChildren(of leg: LegIndex, among arrivals: Candidates) {
        let isMulticast = state.live.current(leg).destination.isMulticast
        var candidates = arrivals
        while true {
            let choice = CrossingSearch.arrival(of: leg, among: candidates, &state, &layoutIndex)
            tell(.arrival, choice, namespace: state.live.legs[leg].namespace, state.live.current(leg))
            guard choice.best.exists else {
                if choice.isExhausted { state.markAmbiguous(leg) }
                return
            }
            if !isMulticast { state.markAmbiguous(choice) }
            state.live.join(leg, choice.best)
            guard isMulticast, !BranchSearch.isPortCopy(leg, &state, &layoutIndex) else { return }
            candidates = state.live.arrivals(for: leg)
        }
    }

    /// Puts a bridge's leg between those that were joined before its events were read.
    private mutating func insertBridge(_ leg: LegIndex) {
        let choice = CrossingSearch.ends(around: leg, &state, &layoutIndex)
        guard choice.best.exists, let child = CrossingSearch.child(of: choice.best, &state) else { return }
        state.markAmbiguous(choice)
        state.live.legs[child].origin = .leg(leg)
        state.live.join(choice.best, leg)
        state.live.legs[leg].hasChildren = true
        state.live.stopAwaitingChild(leg)
    }

    /// A multicast packet is about to leave, perhaps as the copy for one port. Where a receiver was joined to the sender before the
    /// bridge's events were read, it belongs behind the copy.
    private mutating func adoptReceiver(_ leg: LegIndex) {
        guard !state.live.legs[leg].hasChildren, BranchSearch.isPortCopy(leg, &state, &layoutIndex) else { return }
        let sender = state.parent(of: leg)
        guard sender.exists else { return }
        var receiver = state.live.journeys[state.live.legs[leg].journey].firstLeg
        while receiver.exists {
            if state.live.legs[receiver].origin == .leg(sender),
                state.live.legs[receiver].namespace != state.live.legs[leg].namespace
            {
                state.live.legs[receiver].origin = .leg(leg)
                state.live.legs[leg].hasChildren = true
                return
            }
            receiver = state.live.legs[receiver].nextInJourney
        }
    }

    // MARK: Late

    /// A journey is looked at again: what did not fit exactly is joined now, if it fits.
    ///
    /// - Parameter isFirst: whether that is so for the first time.
    /// - Returns: whether the journey has become part of another, or another of it.
    mutating func joinLate(_ journey: JourneyIndex, isFirst: Bool) -> Bool {
        var leg = state.live.journeys[journey].firstLeg
        while leg.exists {
            let next = state.live.legs[leg].nextInJourney
            if state.live.legs[leg].awaitsParent {
                state.live.legs[leg].isParentLate = true
                let choice = CrossingSearch.lateDeparture(of: leg, isFirst, &state, &layoutIndex)
                if choice.best.exists {
                    if !CrossingSearch.areCopies(choice, &state) { state.markAmbiguous(choice) }
                    joinInDoubt(choice.best, leg)
                    return true
                }
            }
            if state.live.legs[leg].awaitsChild, state.live.legs[leg].hook != .input, !state.live.legs[leg].hasChildren,
                layoutIndex.interface(state.live.legs[leg].outInterface, in: state.live.legs[leg].namespace).hasOtherEnd
            {
                state.live.legs[leg].isChildLate = true
                let choice = CrossingSearch.lateArrival(of: leg, isFirst, &state, &layoutIndex)
                if choice.best.exists {
                    if !state.live.current(leg).destination.isMulticast { state.markAmbiguous(choice) }
                    joinInDoubt(leg, choice.best)
                    return true
                }
            }
            leg = next
        }
        return false
    }

    private mutating func joinInDoubt(_ departed: LegIndex, _ arrived: LegIndex) {
        let from = state.live.legs[departed]
        let to = state.live.legs[arrived]
        let entry = state.live.entry(arrived)
        let known = state.knownTranslation(of: departed)
        let isKnownLink =
            (layoutIndex.departureDomain(from) ?? 0) != 0 && (layoutIndex.arrivalDomain(to) ?? 0) != 0
        // A hop less to live than the link explains: a router that was not watched lies between the two, or none that belongs
        // here. Where the link is known a rule may have set another value.
        let hops = Int(from.timeToLive) - Int(to.entryTimeToLive)
        let isFar = isKnownLink ? hops == 1 : hops != 0
        let isTranslated = state.live.current(departed) != entry && known != entry
        let left = state.live.journeys[from.journey].lastActivity
        let isLosing =
            state.hasLost(in: Int(from.namespace), since: left) || state.hasLost(in: Int(to.namespace), since: left)
        // It arrived before it left, as it seems: its departure was received very late, or that of a copy was lost.
        let begun = state.live.begunAt(arrived)
        let isEarly =
            begun < state.live.departedAfter(departed) && state.hasLost(in: Int(from.namespace), since: begun)
        if isFar || isEarly || (isTranslated && (known != nil || isLosing)) {
            state.live.journeys[from.journey].isAmbiguous = true
        }
        state.live.join(departed, arrived)
    }

    // MARK: Doubts because of copies

    private mutating func doubtDepartures(of leg: LegIndex) {
        switch CopySearch.departed(beside: leg, &state) {
        case .none: break
        case .leg(let copy):
            state.markAmbiguous(leg)
            state.markAmbiguous(copy)
        case .tooMany: state.markAmbiguous(leg)
        }
    }

    /// A leg has begun beside a copy of it: where events are being lost at that, either may have got the other's
    /// beginning.
    mutating func doubtCopy(_ copy: LegIndex, of leg: LegIndex) {
        guard state.losses.latest + state.limits.linger * 2 >= state.clock.now,
            state.live.legs[copy].journey != state.live.legs[leg].journey, state.isRecent(copy)
        else { return }
        for doubtful in [leg, copy] {
            state.markAmbiguous(doubtful)
            doubtEvents(of: doubtful)
        }
    }

    /// Events of a leg's packet may have been taken for those of a copy of it, which a damaged file may hold.
    private mutating func doubtEvents(of leg: LegIndex) {
        if state.limits.doubtsGaps { state.live.journeys[state.live.legs[leg].journey].mayLackEvents = true }
    }

    /// A leg goes on in a namespace of which events have been lost since it began: its next event may be that of a copy.
    mutating func doubtContinuation(of leg: LegIndex) {
        // Nothing holds a packet up within a namespace but a queue to a program.
        guard state.isRecent(leg) else { return state.markAmbiguous(leg) }
        let copy = CopySearch.underWay(beside: leg, &state)
        guard copy.exists else { return }
        doubtEvents(of: copy)
        state.markAmbiguous(leg)
    }

    /// A leg is joined that had left long before: where events of its namespace were lost meanwhile, the one that really
    /// left may be a copy whose departure was lost.
    private mutating func doubtCrossing(from leg: LegIndex) {
        let left = state.live.journeys[state.live.legs[leg].journey].lastActivity
        if !state.isRecent(leg), state.hasLost(in: Int(state.live.legs[leg].namespace), since: left) {
            state.markAmbiguous(leg)
        }
    }
}
