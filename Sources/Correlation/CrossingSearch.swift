internal import TraceModel

/// Which leg that has left is the beginning of which one that has arrived: by fingerprint, addresses and links; of several the one that
/// has waited longest, since links keep the order of packets.
package enum CrossingSearch {
    /// The leg from which `arrived` has come.
    ///
    /// - Parameter link: the link domain that it arrived by.
    package static func departure(
        of arrived: LegIndex, by link: UInt32, _ state: inout LiveState, _ layout: inout LayoutIndex
    ) -> BestMatch {
        var choice = BestMatch()
        consider(state.live.departures(for: arrived), for: &choice, &state) { candidate, state in
            fit(from: candidate, to: arrived, link, &state, &layout)
        }
        return choice
    }

    /// The leg as which `departed`, which waits for one, has arrived.
    package static func arrival(of departed: LegIndex, _ state: inout LiveState, _ layout: inout LayoutIndex) -> BestMatch {
        arrival(of: departed, among: state.live.arrivals(for: departed), &state, &layout)
    }

    static func arrival(
        of departed: LegIndex, among arrivals: Candidates, _ state: inout LiveState, _ layout: inout LayoutIndex
    ) -> BestMatch {
        var choice = BestMatch()
        consider(arrivals, for: &choice, &state) { candidate, state in
            let link = layout.arrivalDomain(state.live.legs[candidate]) ?? 0
            return fit(from: departed, to: candidate, link, &state, &layout)
        }
        return choice
    }

    // MARK: Late

    /// The leg from which `arrived` has come, when nothing better can be expected: of those that are looked at late, too.
    ///
    /// - Parameter isFirst: whether it is looked at for the first time. What fits better may be looked at after it, so that only what
    ///   has been confirmed meanwhile counts.
    static func lateDeparture(
        of arrived: LegIndex, _ isFirst: Bool, _ state: inout LiveState, _ layout: inout LayoutIndex
    ) -> BestMatch {
        let link = layout.arrivalDomain(state.live.legs[arrived]) ?? 0
        let isLate = !isFirst || isLateAtOnce(link, &state)
        var choice = BestMatch()
        consider(state.live.departuresFromAnywhere(for: arrived), for: &choice, &state) { candidate, state in
            guard state.live.legs[candidate].isChildLate else { return nil }
            return fit(from: candidate, to: arrived, link, isLate: isLate, &state, &layout)
        }
        return choice
    }

    /// The leg as which `departed` has arrived, when nothing better can be expected (`lateDeparture`).
    static func lateArrival(
        of departed: LegIndex, _ isFirst: Bool, _ state: inout LiveState, _ layout: inout LayoutIndex
    ) -> BestMatch {
        var choice = BestMatch()
        consider(state.live.arrivalsFromAnywhere(for: departed), for: &choice, &state) { candidate, state in
            guard state.live.legs[candidate].isParentLate else { return nil }
            let link = layout.arrivalDomain(state.live.legs[candidate]) ?? 0
            let isLate = !isFirst || isLateAtOnce(link, &state)
            return fit(from: departed, to: candidate, link, isLate: isLate, &state, &layout)
        }
        return choice
    }

    /// Whether what fits less well is looked for as soon as one of the two is looked at again. Else the other will have been
    /// looked at too by then, since between the first look and the last there is time for it.
    @inline(__always)
    static func isLateAtOnce(_ link: UInt32, _ state: inout LiveState) -> Bool {
        link == 0 || state.limits.settle >= state.limits.linger
    }

    // MARK: Bridges

    /// A bridge hands its frames to the chains of its namespace (`bridge-nf-call-iptables`), so that a packet passes them
    /// between two others on the same link.
    ///
    /// - Parameter bridged: a leg of a bridge's namespace.
    /// - Returns: the legs that were joined before the bridge's events were read, and between which `bridged` belongs: the one that
    ///   left, of which `child` is the one that arrived.
    static func ends(around bridged: LegIndex, _ state: inout LiveState, _ layout: inout LayoutIndex) -> BestMatch {
        var choice = BestMatch()
        let leg = state.live.legs[bridged]
        let fingerprint = state.live.fingerprint(bridged)
        let entry = state.live.entry(bridged)
        guard leg.inInterface != 0, leg.inInterface == leg.outInterface, leg.entryTimeToLive == leg.timeToLive,
            !entry.destination.isMulticast, let link = layout.arrivalDomain(leg), link != 0
        else { return choice }
        for namespace in layout.expectedProbes.namespaces(on: link) where namespace != Int(leg.namespace) {
            consider(state.live.atPlace(UInt16(namespace), fingerprint, entry), for: &choice, &state) { candidate, state in
                let from = state.live.legs[candidate]
                guard Int(from.namespace) == namespace, state.live.fingerprint(candidate) == fingerprint,
                    state.live.current(candidate) == entry, from.journey != leg.journey,
                    layout.departureDomain(from) == link, from.timeToLive == leg.entryTimeToLive,
                    let child = child(of: candidate, &state), state.live.legs[child].namespace != leg.namespace,
                    layout.arrivalDomain(state.live.legs[child]) == link
                else { return nil }
                return 0
            }
        }
        return choice
    }

    /// The first leg that `departed` has arrived as; `nil` where there is none.
    static func child(of departed: LegIndex, _ state: inout LiveState) -> LegIndex? {
        guard state.live.legs[departed].hasChildren else { return nil }
        var leg = state.live.journeys[state.live.legs[departed].journey].firstLeg
        while leg.exists {
            if state.live.legs[leg].origin == .leg(departed) { return leg }
            leg = state.live.legs[leg].nextInJourney
        }
        return nil
    }

    // MARK: How well two ends fit

    /// Looks at candidates, as many as may be, and considers those that fit.
    ///
    /// - Parameter fit: how well a candidate fits; `nil` where it does not.
    @inline(__always)
    private static func consider(
        _ candidates: Candidates, for choice: inout BestMatch, _ state: inout LiveState,
        _ fit: (LegIndex, inout LiveState) -> Int?
    ) {
        var candidates = candidates
        var candidate = state.live.next(&candidates)
        while candidate.exists, !choice.isExhausted {
            choice.look()
            if let fit = fit(candidate, &state) {
                choice.consider(candidate, fit: fit) { isOlder($0, than: $1, &state) }
            }
            candidate = state.live.next(&candidates)
        }
    }

    @inline(__always)
    private static func isOlder(_ one: LegIndex, than other: LegIndex, _ state: inout LiveState) -> Bool {
        state.live.journeys[state.live.legs[one].journey].serial
            &- state.live.journeys[state.live.legs[other].journey].serial >= 1 << 31
    }

    /// How well two ends of a crossing fit, `nil` where they cannot: addresses that are the same or translated as connection
    /// tracking says before others, and known links before unknown ones.
    ///
    /// Where the addresses are others, or the links are not known and the times to live differ, it may still fit when nothing
    /// better can come (`isLate`).
    private static func fit(
        from departed: LegIndex, to arrived: LegIndex, _ link: UInt32, isLate: Bool = false, _ state: inout LiveState,
        _ layout: inout LayoutIndex
    ) -> Int? {
        guard state.live.fingerprint(departed) == state.live.fingerprint(arrived),
            state.live.legs[departed].hook != .input, departed != arrived,
            state.live.legs[departed].journey != state.live.legs[arrived].journey,
            isLate || state.live.begunAt(arrived) >= state.live.departedAfter(departed)
        else { return nil }
        let from = state.live.current(departed)
        let to = state.live.entry(arrived)
        guard from.destination == to.destination, from.transport == to.transport,
            from.destinationPort == to.destinationPort || from.isICMP
        else { return nil }
        let isMulticast = from.destination.isMulticast
        // One copy of a multicast packet for each receiver; another is a packet of its own.
        if state.live.legs[departed].hasChildren,
            hasChild(departed, like: arrived, &state) || BranchSearch.isPortCopy(departed, &state, &layout)
        {
            return nil
        }
        let hops = Int(state.live.legs[departed].timeToLive) - Int(state.live.legs[arrived].entryTimeToLive)
        // The kernel counts down before FORWARD.
        let isSameTimeToLive =
            hops == 0
            || hops == 1 && state.live.legs[arrived].hook != .input
                && layout.expectedProbes.begins(
                    behindRoutingIn: Int(state.live.legs[arrived].namespace), from.source.family)
        let outInterface = state.live.legs[departed].outInterface
        var score = 0
        if let out = layout.departureDomain(state.live.legs[departed]), out != 0, link != 0 {
            if out == link {
                // Links do not count down: another hop on the same link does, or a rule behind the last probe.
                guard
                    isLate
                        || isSameTimeToLive && !(isMulticast && passesBridge(departed, arrived, on: link, &state, &layout))
                else {
                    return nil
                }
                score += 8
            } else {
                // A router whose probes are gone lies between.
                guard hops == 1, layout.expectedProbes.passes(unwatchedFrom: out, to: link, from.source.family) else {
                    return nil
                }
            }
            // Nothing comes back through the interface that it left by, but on loopback, and copies for groups of the machine itself.
            if state.live.legs[departed].namespace == state.live.legs[arrived].namespace,
                outInterface == state.live.legs[arrived].inInterface,
                !layout.interface(outInterface, in: state.live.legs[departed].namespace).isLoopback,
                !(isMulticast && BranchSearch.wasSentFromHere(departed, &state, &layout))
            {
                return nil
            }
            if isMulticast, returnsToSender(departed, arrived, &state) { return nil }
        } else {
            guard state.live.legs[departed].namespace != state.live.legs[arrived].namespace else { return nil }
            // Routers count down, links do not.
            if isSameTimeToLive {
                score += 2
            } else if !isLate {
                return nil
            }
        }
        // Of several copies each goes to one receiver first.
        if isMulticast, !state.live.legs[departed].hasChildren { score += 1 }
        if from == to {
            score += 4
        } else if state.knownTranslation(of: departed) == to {
            score += 5
        } else if !isLate || isMulticast {
            // Another sender's packet may be the same in all but its source, as reports of group members are.
            return nil
        } else if from.source == to.source || from.sourcePort == to.sourcePort {
            score += 1
        }
        return score
    }

    /// Whether the packet has already arrived where `arrived` has.
    private static func hasChild(_ departed: LegIndex, like arrived: LegIndex, _ state: inout LiveState) -> Bool {
        var leg = state.live.journeys[state.live.legs[departed].journey].firstLeg
        while leg.exists {
            if state.live.legs[leg].origin == .leg(departed),
                state.live.legs[leg].namespace == state.live.legs[arrived].namespace,
                state.live.legs[leg].inInterface == state.live.legs[arrived].inInterface
            {
                return true
            }
            leg = state.live.legs[leg].nextInJourney
        }
        return false
    }

    /// Whether a multicast packet goes from one namespace to another by a bridge that hands its packets to the chains of a third: the
    /// one that left has not arrived then, but a copy that the bridge made of it.
    private static func passesBridge(
        _ departed: LegIndex, _ arrived: LegIndex, on link: UInt32, _ state: inout LiveState, _ layout: inout LayoutIndex
    ) -> Bool {
        let family = state.live.entry(arrived).source.family
        guard let bridge = layout.expectedProbes.filteringBridges[link, family] else { return false }
        return Int(state.live.legs[departed].namespace) != bridge && Int(state.live.legs[arrived].namespace) != bridge
    }

    /// Whether a multicast packet would come back to where it was sent from, which no bridge does. The copy that the sender's own
    /// kernel makes for it has not left.
    private static func returnsToSender(_ departed: LegIndex, _ arrived: LegIndex, _ state: inout LiveState) -> Bool {
        let to = state.live.legs[arrived]
        var leg = state.parent(of: departed)
        while leg.exists {
            if state.live.legs[leg].namespace == to.namespace, state.live.legs[leg].outInterface == to.inInterface {
                return true
            }
            leg = state.parent(of: leg)
        }
        return false
    }

    /// Whether all that fit alike are copies of one multicast packet, sent by one interface: which of them arrived makes no
    /// difference, since nothing is said of the others.
    static func areCopies(_ choice: BestMatch, _ state: inout LiveState) -> Bool {
        guard state.live.current(choice.best).destination.isMulticast, !choice.isExhausted else { return false }
        let best = state.live.legs[choice.best]
        let current = state.live.current(choice.best)
        for tied in choice.tied {
            guard state.live.legs[tied].namespace == best.namespace,
                state.live.legs[tied].outInterface == best.outInterface, state.live.current(tied) == current
            else { return false }
        }
        return true
    }
}
