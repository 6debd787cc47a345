internal import TraceModel

/// One multicast packet may pass a hook several times: a bridge with br_netfilter hands a copy for each port to FORWARD and
/// POSTROUTING, and another one to INPUT (`br_flood` in net/bridge/br_forward.c); what a process sends to a group that the machine
/// is a member of passes POSTROUTING again for the copy that comes back (`ip_mc_output` in net/ipv4/ip_output.c). Each copy has a
/// leg of its own, which begins with the steps that they share.
extension Correlator {
    /// Begins the leg of a copy.
    ///
    /// - Parameter event: of a multicast packet, at a hook behind PREROUTING and OUTPUT.
    /// - Returns: none where the event is no copy of a packet that has passed already.
    mutating func branch(with event: Event, _ place: ProbePlace) -> LegIndex {
        var original = LegIndex.none
        var candidates = live.atPlace(place.namespace, event.packet.fingerprint, event.packet.tuple)
        var candidate = live.next(&candidates)
        var looks = 0
        while candidate.exists, !original.exists, looks < 256 {
            looks += 1
            if live.legs[candidate].namespace == place.namespace, !live.legs[candidate].origin.original.exists,
                live.fingerprint(candidate) == event.packet.fingerprint,
                live.current(candidate) == event.packet.tuple, isRecent(candidate), sharesWay(candidate, event, place)
            {
                original = candidate
            }
            candidate = live.next(&candidates)
        }
        return original.exists ? branch(off: original, with: event, place) : .none
    }

    /// Whether the packet of a leg went the copy's way up to the hook where the copy is seen now.
    private func sharesWay(_ original: LegIndex, _ event: Event, _ place: ProbePlace) -> Bool {
        guard let last = sharedWay(of: original, before: place).last else { return false }
        switch place.hook {
        case .input, .forward:
            return places[Int(last.probe)].hook == .prerouting && last.inInterface == event.sighting.inInterface
        case .postrouting:
            return places[Int(last.probe)].hook == .output && live.legs[original].outInterface == event.sighting.outInterface
        case .prerouting, .output: return false
        }
    }

    /// The steps of a leg before a hook's stage; none where it has not gone further than that itself.
    private func sharedWay(of original: LegIndex, before place: ProbePlace) -> ArraySlice<Step> {
        let steps = stepTrie.steps(of: live.legs[original].stepPath)
        let shared = steps.prefix { places[Int($0.probe)].hook.stage < place.hook.stage }
        return shared.count < steps.count ? shared : []
    }

    private mutating func branch(off original: LegIndex, with event: Event, _ place: ProbePlace) -> LegIndex {
        let shared = sharedWay(of: original, before: place)
        var stepPath = StepTrie.root
        for step in shared { stepPath = stepTrie.advance(stepPath, by: step) }
        // The history keeps the steps that they share once.
        var before = history.position(endingIn: live.legs[original].lastEvent)
        for _ in shared.count..<stepTrie.steps(of: live.legs[original].stepPath).count {
            before = history.predecessor(of: before)
        }
        let position =
            history.append(event.sighting, like: before) ?? history.append(event.sighting, event.packet.tuple, after: before)
        let journey = live.legs[original].journey
        var leg = LiveLeg(
            event, at: place, stepPath: stepTrie.advance(stepPath, by: event.sighting.step), position: position,
            journey: journey)
        leg.conditions |= live.legs[original].conditions
        leg.begun = Int32(clamping: now &- live.journeys[journey].begunAt)
        leg.origin = .beginning(of: original)
        if leg.inInterface == 0 { leg.inInterface = live.legs[original].inInterface }
        live.journeys[journey].see(event.sighting.time, now)
        let index = live.insertBranch(leg, event.packet.tuple)
        if hasLostSince(original) { live.journeys[journey].isAmbiguous = true }
        enterHook(index, place)
        return index
    }

    /// The leg of the namespace that the packet came from; none where there is none.
    @inline(__always)
    func parent(of index: LegIndex) -> LegIndex {
        let origin = live.legs[index].origin
        return origin.original.exists ? live.legs[origin.original].origin.leg : origin.leg
    }

    /// Whether a leg is the copy for one port of a bridge.
    mutating func isPortCopy(_ index: LegIndex) -> Bool {
        guard live.legs[index].inInterface != 0, live.legs[index].inInterface == live.legs[index].outInterface else {
            return false
        }
        return stepTrie.steps(of: live.legs[index].stepPath).contains { places[Int($0.probe)].hook == .forward }
    }

    /// A multicast packet is about to leave, perhaps as the copy for one port. Where a receiver was joined to the sender before the bridge's events were read, it belongs
    /// behind the copy.
    mutating func adoptReceiver(_ index: LegIndex) {
        guard !live.legs[index].hasChildren, isPortCopy(index) else { return }
        let sender = parent(of: index)
        guard sender.exists else { return }
        var receiver = live.journeys[live.legs[index].journey].firstLeg
        while receiver.exists {
            if live.legs[receiver].origin == .leg(sender), live.legs[receiver].namespace != live.legs[index].namespace {
                live.legs[receiver].origin = .leg(index)
                live.legs[index].hasChildren = true
                return
            }
            receiver = live.legs[receiver].nextInJourney
        }
    }

    /// Whether a leg began in OUTPUT. If to a group, a copy may come back to the machine, as one of its members.
    mutating func wasSentFromHere(_ index: LegIndex) -> Bool {
        guard let first = stepTrie.steps(of: live.legs[index].stepPath).first else { return false }
        return places[Int(first.probe)].hook == .output
    }

    /// Whether a multicast packet goes from one namespace to another by a bridge that hands its packets to the chains of a third: the
    /// one that left has not arrived then, but a copy that the bridge made of it.
    mutating func passesBridge(_ departed: LegIndex, _ arrived: LegIndex, on link: UInt32) -> Bool {
        guard let bridge = expectedProbes.filteringBridges[link, live.entry(arrived).source.family] else { return false }
        return Int(live.legs[departed].namespace) != bridge && Int(live.legs[arrived].namespace) != bridge
    }

    /// Whether a multicast packet would come back to where it was sent from, which no bridge does. The copy that the sender's own
    /// kernel makes for it has not left.
    mutating func returnsToSender(_ departed: LegIndex, _ arrived: LegIndex) -> Bool {
        let to = live.legs[arrived]
        var leg = parent(of: departed)
        while leg.exists {
            if live.legs[leg].namespace == to.namespace, live.legs[leg].outInterface == to.inInterface { return true }
            leg = parent(of: leg)
        }
        return false
    }

    // MARK: Copies that nobody wants

    /// Whether a leg is a copy of a multicast packet that arrived, and that nobody in the namespace had asked for: the kernel
    /// looks no further at it behind PREROUTING. That is no drop.
    mutating func isUnwanted(_ leaf: LegIndex) -> Bool {
        guard live.legs[leaf].hook == .prerouting, live.current(leaf).destination.isMulticast,
            !hasLost(in: Int(live.legs[leaf].namespace), since: live.begunAt(leaf)), lacksNothingButRouting(leaf),
            !isWantedByAll(leaf), !mayFailReversePath(leaf)
        else { return false }
        return !mayEndBeforeRouting(leaf)
    }

    /// IPv4's limited broadcast is for every namespace.
    private func isWantedByAll(_ leaf: LegIndex) -> Bool { live.entry(leaf).destination == IPAddress(ipv4: .max) }

    /// Whether a strict reverse-path filter may have dropped it (`ip_mc_validate_source` in net/ipv4/route.c).
    private func mayFailReversePath(_ leaf: LegIndex) -> Bool {
        let leg = live.legs[leaf]
        let namespace = layout.namespaces[Int(leg.namespace)]
        guard live.entry(leaf).source.family == .ipv4, let name = namespace.interfaces[leg.inInterface]?.name else {
            return false
        }
        return namespace.facts?.strictInterfaces.contains(name) == true
    }

    /// Whether all probes of PREROUTING have seen it.
    mutating func lacksNothingButRouting(_ leaf: LegIndex) -> Bool {
        guard live.legs[leaf].hook == .prerouting else { return false }
        let assessment = assessment(of: leaf)
        guard case .expected(let probes, _) = assessment.ending, !assessment.hasGap else { return false }
        return expectedProbes.probes[probes].allSatisfy { places[Int($0)].hook != .prerouting }
    }

    /// Whether a chain behind the last probe of PREROUTING may have dropped it.
    func mayEndBeforeRouting(_ leaf: LegIndex) -> Bool {
        let last = layout.probes[Int(stepTrie.lastProbe(of: live.legs[leaf].stepPath))]
        let namespace = layout.namespaces[last.namespace]
        let mayDrop = namespace.decidingChains.contains {
            $0.hook == .prerouting && $0.family == last.family && $0.table != .nat
                && (last.sentinel == nil ? $0.priority >= last.priority : $0.priority > last.priority)
        }
        return mayDrop
            || namespace.facts?.otherChains.contains {
                $0.hook == .ip(.prerouting) && $0.family ?? last.family == last.family && $0.priority >= last.priority
            } == true
    }
}
