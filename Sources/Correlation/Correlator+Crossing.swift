internal import TraceModel

/// How legs of different namespaces become one journey.
extension Correlator {
    /// The link domain that an interface is on; `nil` where it has none to cross, 0 where that is not known.
    @inline(__always)
    func linkDomain(of index: LegIndex, _ interface: UInt32) -> UInt32? {
        guard interface != 0 else { return nil }
        return self.interface(of: index, interface).linkDomain
    }

    @inline(__always)
    private func interface(of index: LegIndex, _ number: UInt32) -> InterfaceTable.Interface {
        expectedProbes.interfaces[Int(live.legs[index].namespace), number]
    }

    /// A leg is about to leave: if through a tunnel, a packet that carries it will follow.
    private mutating func enterTunnel(_ index: LegIndex) {
        let leg = live.legs[index]
        guard interface(of: index, leg.outInterface).isTunnel else { return }
        // Behind the last probe it may be given another source.
        for tuple in [live.current(index), expectedArrival(of: index)] {
            tunnelLinks.enter(
                Packet.identity(live.fingerprint(index), tuple), namespace: leg.namespace, leg: firstEvent(of: index),
                tuple: tuple)
        }
    }

    /// A leg has reached a hook: it may leave from there, or end there.
    mutating func enterHook(_ index: LegIndex, _ place: ProbePlace) {
        if hasTunnels, place.isLastOnTheWayOut { enterTunnel(index) }
        if live.legs[index].awaitsParent, place.hook == .forward || place.hook == .postrouting { insertBridge(index) }
        if place.isLastOnTheWayOut, live.current(index).destination.isMulticast { adoptReceiver(index) }
        guard !live.legs[index].hasChildren else { return }
        // To be found behind the source translation of INPUT or POSTROUTING.
        if place.leadsBehindTranslation, !live.legs[index].awaitsTranslation {
            live.awaitTranslation(index)
        }
        if live.legs[index].awaitsChild {
            if place.hook == .input {
                // What goes to a local process does not leave.
                live.stopAwaitingChild(index)
            } else {
                // It goes on, perhaps with another address or one hop less to live.
                let arrivals = live.arrivals(for: index)
                if !arrivals.isEmpty { joinChildren(of: index, among: arrivals) }
            }
        } else if place.isLastOnTheWayOut {
            let interface = interface(of: index, live.legs[index].outInterface)
            guard interface.hasOtherEnd else { return }
            let link = interface.linkDomain
            live.depart(index, after: horizon)
            doubtDepartures(of: index)
            let arrivals = live.awaitChild(index, as: knownTranslation(of: index))
            if isLateAtOnce(link) { live.legs[index].isChildLate = true }
            if !arrivals.isEmpty { joinChildren(of: index, among: arrivals) }
        }
    }

    /// As what a leg that leaves will arrive, as far as connection tracking has told.
    private mutating func expectedArrival(of index: LegIndex) -> PacketTuple {
        knownTranslation(of: index) ?? live.current(index)
    }

    /// The packet behind all translation, where connection tracking has told.
    mutating func knownTranslation(of index: LegIndex) -> PacketTuple? {
        translations.translation(
            of: live.entry(index), in: Int(live.legs[index].namespace),
            at: live.journeys[live.legs[index].journey].firstSeen)?.translated
    }

    /// Whether what fits less well is looked for as soon as one of the two is looked at again. Else the other will have been
    /// looked at too by then, since between the first look and the last there is time for it.
    @inline(__always)
    private func isLateAtOnce(_ link: UInt32) -> Bool { link == 0 || limits.settle >= limits.linger }

    /// `index` has arrived: joins it to the leg that left for it, or lets it wait for one.
    mutating func joinParent(of index: LegIndex, through link: UInt32) {
        guard interface(of: index, live.legs[index].inInterface).hasOtherEnd else { return }
        var choice = BestMatch()
        var candidates = live.departures(for: index)
        var candidate = live.next(&candidates)
        while candidate.exists, !choice.isExhausted {
            choice.look()
            if let fit = crossingFit(from: candidate, to: index, link) {
                choice.consider(candidate, fit: fit) { isOlder($0, than: $1) }
            }
            candidate = live.next(&candidates)
        }
        tell(.departure, choice, namespace: live.legs[index].namespace, live.entry(index))
        guard choice.best.exists else {
            // Where not all were looked at, the right one may be among the others.
            if choice.isExhausted { live.journeys[live.legs[index].journey].isAmbiguous = true }
            live.awaitParent(index)
            if isLateAtOnce(link) { live.legs[index].isParentLate = true }
            return
        }
        if !areCopies(choice) { markAmbiguous(choice) }
        doubtCrossing(from: choice.best)
        join(choice.best, index)
    }

    /// Whether all that fit alike are copies of one multicast packet, sent by one interface: which of them arrived makes no
    /// difference, since nothing is said of the others.
    private mutating func areCopies(_ choice: BestMatch) -> Bool {
        guard live.current(choice.best).destination.isMulticast, !choice.isExhausted else { return false }
        let best = live.legs[choice.best]
        let current = live.current(choice.best)
        return choice.tied.allSatisfy {
            live.legs[$0].namespace == best.namespace && live.legs[$0].outInterface == best.outInterface
                && live.current($0) == current
        }
    }

    /// A bridge hands its frames to the chains of its namespace (`bridge-nf-call-iptables`), so that a packet passes them
    /// between two others on the same link. Where those two were joined before the bridge's events were read, it belongs
    /// between them.
    private mutating func insertBridge(_ index: LegIndex) {
        guard live.legs[index].inInterface != 0, live.legs[index].inInterface == live.legs[index].outInterface
        else { return }
        let bridged = live.legs[index]
        let fingerprint = live.fingerprint(index)
        let entry = live.entry(index)
        guard bridged.entryTimeToLive == bridged.timeToLive, !entry.destination.isMulticast,
            let link = linkDomain(of: index, bridged.inInterface), link != 0
        else { return }
        var choice = BestMatch()
        for namespace in expectedProbes.namespaces(on: link) where namespace != Int(bridged.namespace) {
            var candidates = live.atPlace(UInt16(namespace), fingerprint, entry)
            var candidate = live.next(&candidates)
            while candidate.exists, !choice.isExhausted {
                choice.look()
                let from = live.legs[candidate]
                if Int(from.namespace) == namespace, live.fingerprint(candidate) == fingerprint,
                    live.current(candidate) == entry,
                    from.journey != bridged.journey, linkDomain(of: candidate, from.outInterface) == link,
                    from.timeToLive == bridged.entryTimeToLive, let child = onlyChild(of: candidate),
                    live.legs[child].namespace != bridged.namespace,
                    linkDomain(of: child, live.legs[child].inInterface) == link
                {
                    choice.consider(candidate, fit: 0) { isOlder($0, than: $1) }
                }
                candidate = live.next(&candidates)
            }
        }
        guard choice.best.exists, let child = onlyChild(of: choice.best) else { return }
        markAmbiguous(choice)
        live.legs[child].origin = .leg(index)
        join(choice.best, index)
        live.legs[index].hasChildren = true
        live.stopAwaitingChild(index)
    }

    private mutating func onlyChild(of departed: LegIndex) -> LegIndex? {
        guard live.legs[departed].hasChildren else { return nil }
        var index = live.journeys[live.legs[departed].journey].firstLeg
        while index.exists {
            if live.legs[index].origin == .leg(departed) { return index }
            index = live.legs[index].nextInJourney
        }
        return nil
    }

    /// `index` has left: joins the one that arrived before it was known to leave, or all of them for a multicast packet.
    @inline(never)
    private mutating func joinChildren(of index: LegIndex, among arrivals: Candidates) {
        let isMulticast = live.current(index).destination.isMulticast
        var candidates = arrivals
        while true {
            var choice = BestMatch()
            var candidate = live.next(&candidates)
            while candidate.exists, !choice.isExhausted {
                choice.look()
                let link = linkDomain(of: candidate, live.legs[candidate].inInterface) ?? 0
                if let fit = crossingFit(from: index, to: candidate, link) {
                    choice.consider(candidate, fit: fit) { isOlder($0, than: $1) }
                }
                candidate = live.next(&candidates)
            }
            tell(.arrival, choice, namespace: live.legs[index].namespace, live.current(index))
            guard choice.best.exists else {
                if choice.isExhausted { live.journeys[live.legs[index].journey].isAmbiguous = true }
                return
            }
            if !isMulticast { markAmbiguous(choice) }
            join(index, choice.best)
            guard isMulticast, !isPortCopy(index) else { return }
            candidates = live.arrivals(for: index)
        }
    }

    /// Links keep the order of packets: of two that fit alike, the one that has waited longer.
    @inline(__always)
    private func isOlder(_ one: LegIndex, than other: LegIndex) -> Bool {
        live.journeys[live.legs[one].journey].serial &- live.journeys[live.legs[other].journey].serial >= 1 << 31
    }

    /// How well two ends of a crossing fit, `nil` where they cannot: addresses that are the same or translated as connection
    /// tracking says before others, and known links before unknown ones.
    ///
    /// Where the addresses are others, or the links are not known and the times to live differ, it may still fit when nothing
    /// better can come (`isLate`).
    private mutating func crossingFit(from departed: LegIndex, to arrived: LegIndex, _ link: UInt32, isLate: Bool = false)
        -> Int?
    {
        guard live.fingerprint(departed) == live.fingerprint(arrived), live.legs[departed].hook != .input,
            departed != arrived, live.legs[departed].journey != live.legs[arrived].journey,
            isLate || live.begunAt(arrived) >= live.departedAfter(departed)
        else { return nil }
        let from = live.current(departed)
        let to = live.entry(arrived)
        guard from.destination == to.destination, from.transport == to.transport,
            from.destinationPort == to.destinationPort || from.isICMP
        else { return nil }
        let isMulticast = from.destination.isMulticast
        // One copy of a multicast packet for each receiver; another is a packet of its own.
        if live.legs[departed].hasChildren, hasChild(departed, like: arrived) || isPortCopy(departed) { return nil }
        let hops = Int(live.legs[departed].timeToLive) - Int(live.legs[arrived].entryTimeToLive)
        // The kernel counts down before FORWARD.
        let isSameTimeToLive =
            hops == 0
            || hops == 1 && live.legs[arrived].hook != .input
                && expectedProbes.begins(behindRoutingIn: Int(live.legs[arrived].namespace), from.source.family)
        let outInterface = live.legs[departed].outInterface
        var score = 0
        if let out = linkDomain(of: departed, outInterface), out != 0, link != 0 {
            if out == link {
                // Links do not count down: another hop on the same link does, or a rule behind the last probe.
                guard isLate || isSameTimeToLive && !(isMulticast && passesBridge(departed, arrived, on: link)) else {
                    return nil
                }
                score += 8
            } else {
                // A router whose probes are gone lies between.
                guard hops == 1, expectedProbes.passes(unwatchedFrom: out, to: link, from.source.family) else { return nil }
            }
            // Nothing comes back through the interface that it left by, but on loopback, and copies for groups of the machine itself.
            if live.legs[departed].namespace == live.legs[arrived].namespace,
                outInterface == live.legs[arrived].inInterface,
                !interface(of: departed, outInterface).isLoopback, !(isMulticast && wasSentFromHere(departed))
            {
                return nil
            }
            if isMulticast, returnsToSender(departed, arrived) { return nil }
        } else {
            guard live.legs[departed].namespace != live.legs[arrived].namespace else { return nil }
            // Routers count down, links do not.
            if isSameTimeToLive {
                score += 2
            } else if !isLate {
                return nil
            }
        }
        // Of several copies each goes to one receiver first.
        if isMulticast, !live.legs[departed].hasChildren { score += 1 }
        if from == to {
            score += 4
        } else if knownTranslation(of: departed) == to {
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
    private mutating func hasChild(_ departed: LegIndex, like arrived: LegIndex) -> Bool {
        var index = live.journeys[live.legs[departed].journey].firstLeg
        while index.exists {
            if live.legs[index].origin == .leg(departed), live.legs[index].namespace == live.legs[arrived].namespace,
                live.legs[index].inInterface == live.legs[arrived].inInterface
            {
                return true
            }
            index = live.legs[index].nextInJourney
        }
        return false
    }

    // MARK: Late

    /// A journey is looked at again: what did not fit exactly is joined now, if it fits.
    ///
    /// - Parameter isFirst: whether that is so for the first time. What fits better may be looked at after it, so that only
    ///   what has been confirmed meanwhile is joined.
    /// - Returns: whether the journey has become part of another, or another of it.
    mutating func joinLate(_ journey: JourneyIndex, isFirst: Bool) -> Bool {
        var index = live.journeys[journey].firstLeg
        while index.exists {
            let next = live.legs[index].nextInJourney
            if live.legs[index].awaitsParent {
                live.legs[index].isParentLate = true
                if joinParentLate(of: index, isFirst) { return true }
            }
            if live.legs[index].awaitsChild, live.legs[index].hook != .input, !live.legs[index].hasChildren,
                interface(of: index, live.legs[index].outInterface).hasOtherEnd
            {
                live.legs[index].isChildLate = true
                if joinChildLate(of: index, isFirst) { return true }
            }
            index = next
        }
        return false
    }

    private mutating func joinParentLate(of index: LegIndex, _ isFirst: Bool) -> Bool {
        let link = linkDomain(of: index, live.legs[index].inInterface) ?? 0
        var choice = BestMatch()
        var candidates = live.departuresFromAnywhere(for: index)
        var candidate = live.next(&candidates)
        while candidate.exists, !choice.isExhausted {
            choice.look()
            if live.legs[candidate].isChildLate,
                let fit = crossingFit(from: candidate, to: index, link, isLate: !isFirst || isLateAtOnce(link))
            {
                choice.consider(candidate, fit: fit) { isOlder($0, than: $1) }
            }
            candidate = live.next(&candidates)
        }
        guard choice.best.exists else { return false }
        if !areCopies(choice) { markAmbiguous(choice) }
        joinInDoubt(choice.best, index)
        return true
    }

    private mutating func joinChildLate(of index: LegIndex, _ isFirst: Bool) -> Bool {
        var choice = BestMatch()
        var candidates = live.arrivalsFromAnywhere(for: index)
        var candidate = live.next(&candidates)
        while candidate.exists, !choice.isExhausted {
            choice.look()
            let link = linkDomain(of: candidate, live.legs[candidate].inInterface) ?? 0
            if live.legs[candidate].isParentLate,
                let fit = crossingFit(from: index, to: candidate, link, isLate: !isFirst || isLateAtOnce(link))
            {
                choice.consider(candidate, fit: fit) { isOlder($0, than: $1) }
            }
            candidate = live.next(&candidates)
        }
        guard choice.best.exists else { return false }
        if !live.current(index).destination.isMulticast { markAmbiguous(choice) }
        joinInDoubt(index, choice.best)
        return true
    }

    private mutating func joinInDoubt(_ departed: LegIndex, _ arrived: LegIndex) {
        let from = live.legs[departed]
        let to = live.legs[arrived]
        let entry = live.entry(arrived)
        let known = knownTranslation(of: departed)
        let isKnownLink =
            (linkDomain(of: departed, from.outInterface) ?? 0) != 0 && (linkDomain(of: arrived, to.inInterface) ?? 0) != 0
        // A hop less to live than the link explains: a router that was not watched lies between the two, or none that belongs
        // here. Where the link is known a rule may have set another value.
        let hops = Int(from.timeToLive) - Int(to.entryTimeToLive)
        let isFar = isKnownLink ? hops == 1 : hops != 0
        let isTranslated = live.current(departed) != entry && known != entry
        let left = live.journeys[from.journey].lastActivity
        let isLosing = hasLost(in: Int(from.namespace), since: left) || hasLost(in: Int(to.namespace), since: left)
        // It arrived before it left, as it seems: its departure was received very late, or that of a copy was lost.
        let begun = live.begunAt(arrived)
        let isEarly = begun < live.departedAfter(departed) && hasLost(in: Int(from.namespace), since: begun)
        if isFar || isEarly || (isTranslated && (known != nil || isLosing)) { live.journeys[from.journey].isAmbiguous = true }
        join(departed, arrived)
    }

    private mutating func join(_ departed: LegIndex, _ arrived: LegIndex) {
        let upstream = live.legs[departed].journey
        let downstream = live.legs[arrived].journey
        live.stopAwaitingParent(arrived)
        if !live.current(departed).destination.isMulticast { live.stopAwaitingChild(departed) }
        live.legs[departed].hasChildren = true
        live.legs[arrived].origin = .leg(departed)
        live.unite(upstream, downstream)
    }
}
