internal import TraceModel

/// How segments of different namespaces become one journey.
extension Correlator {
    /// The segment of the network that an interface is on; `nil` where it has none to cross, 0 where that is not known.
    func linkSegment(of index: Int32, _ interface: UInt32) -> UInt32? {
        guard interface != 0 else { return nil }
        return layout.namespaces[Int(segments[index].namespace)].interfaces[interface]?.segment ?? 0
    }

    /// A segment has reached a hook: it may leave from there, or end there.
    mutating func enterHook(_ index: Int32, _ place: ProbePlace) {
        guard !segments[index].hasChildren else { return }
        // To be found behind the source translation of INPUT or POSTROUTING.
        if place.leadsBehindTranslation, !segments[index].awaitsTranslation {
            segments.awaitTranslation(index)
        }
        if segments[index].awaitsChild {
            // It goes on, perhaps with another address or one hop less to live.
            if place.hook != .input { joinChildren(of: index) }
        } else if place.isLastOnTheWayOut {
            let link = linkSegment(of: index, segments[index].outInterface) ?? 0
            guard itinerary.hasOtherEnd(link, beside: Int(segments[index].namespace)) else { return }
            segments[index].departedAfter = horizon
            doubtDepartures(of: index)
            segments.awaitChild(index, as: expectedArrival(of: index))
            if isLateAtOnce(link) { segments.awaitChildLate(index) }
            joinChildren(of: index)
        }
    }

    /// As what a segment that leaves will arrive, as far as connection tracking has told.
    private func expectedArrival(of index: Int32) -> PacketTuple {
        translations.translation(of: segments[index].entry, in: Int(segments[index].namespace))?.translated
            ?? segments[index].current
    }

    /// Whether what fits less well is looked for as soon as one of the two is looked at again. Else the other will have been
    /// looked at too by then, since between the first look and the last there is time for it.
    private func isLateAtOnce(_ link: UInt32) -> Bool { link == 0 || limits.settle >= limits.linger }

    /// `index` has arrived: joins it to the segment that left for it, or lets it wait for one.
    mutating func joinParent(of index: Int32, through link: UInt32) {
        guard itinerary.hasOtherEnd(link, beside: Int(segments[index].namespace)) else { return }
        var choice = Choice()
        var candidate = segments.firstDeparture(for: index)
        while candidate >= 0, !choice.isExhausted {
            choice.look()
            if let fit = crossingFit(from: candidate, to: index, link) {
                choice.consider(candidate, fit: fit) { isOlder($0, than: $1) }
            }
            candidate = segments.nextDeparture(candidate)
        }
        guard choice.best >= 0 else {
            // Where not all were looked at, the right one may be among the others.
            if choice.isExhausted { journeys[Int(segments[index].journey)].isAmbiguous = true }
            segments.awaitParent(index)
            if isLateAtOnce(link) { segments.awaitParentLate(index) }
            return
        }
        markAmbiguous(choice)
        doubtCrossing(from: choice.best)
        join(choice.best, index)
    }

    /// `index` has left: joins the one that arrived before it was known to leave, or all of them for a multicast packet.
    private mutating func joinChildren(of index: Int32) {
        let isMulticast = segments[index].current.destination.isMulticast
        repeat {
            var choice = Choice()
            var candidate = segments.firstArrival(for: index)
            while candidate >= 0, !choice.isExhausted {
                choice.look()
                let link = linkSegment(of: candidate, segments[candidate].inInterface) ?? 0
                if let fit = crossingFit(from: index, to: candidate, link) {
                    choice.consider(candidate, fit: fit) { isOlder($0, than: $1) }
                }
                candidate = segments.nextArrival(candidate)
            }
            guard choice.best >= 0 else {
                if choice.isExhausted { journeys[Int(segments[index].journey)].isAmbiguous = true }
                return
            }
            if !isMulticast { markAmbiguous(choice) }
            join(index, choice.best)
        } while isMulticast
    }

    /// Links keep the order of packets: of two that fit alike, the one that has waited longer.
    private func isOlder(_ one: Int32, than other: Int32) -> Bool {
        journeys[Int(segments[one].journey)].serial < journeys[Int(segments[other].journey)].serial
    }

    /// How well two ends of a crossing fit, `nil` where they cannot: addresses that are the same or translated as connection
    /// tracking says before others, and known links before unknown ones.
    ///
    /// Where the addresses are others, or the links are not known and the times to live differ, it may still fit when nothing
    /// better can come (`isLate`).
    private func crossingFit(from departed: Int32, to arrived: Int32, _ link: UInt32, isLate: Bool = false) -> Int? {
        let from = segments[departed]
        let to = segments[arrived]
        guard from.fingerprint == to.fingerprint, from.hook != .input, departed != arrived,
            from.current.destination == to.entry.destination, from.current.transport == to.entry.transport,
            from.current.destinationPort == to.entry.destinationPort || from.current.isICMP,
            from.journey != to.journey, isLate || to.begunAt >= from.departedAfter
        else { return nil }
        var score = 0
        if let out = linkSegment(of: departed, from.outInterface), out != 0, link != 0 {
            guard out == link else { return nil }
            score += 8
            // Nothing comes back through the interface that it left by, but on loopback.
            if from.namespace == to.namespace, from.outInterface == to.inInterface,
                layout.namespaces[Int(from.namespace)].interfaces[from.outInterface]?.name != "lo"
            {
                return nil
            }
        } else {
            guard from.namespace != to.namespace else { return nil }
            // Routers count down, links do not.
            if from.timeToLive == to.entryTimeToLive {
                score += 2
            } else if !isLate {
                return nil
            }
        }
        if from.current == to.entry {
            score += 4
        } else if translations.translation(of: from.entry, in: Int(from.namespace))?.translated == to.entry {
            score += 5
        } else if !isLate {
            return nil
        } else if from.current.source == to.entry.source || from.current.sourcePort == to.entry.sourcePort {
            score += 1
        }
        return score
    }

    // MARK: Late

    /// A journey is looked at again: what did not fit exactly is joined now, if it fits.
    ///
    /// - Parameter isFirst: whether that is so for the first time. What fits better may be looked at after it, so that only
    ///   what has been confirmed meanwhile is joined.
    /// - Returns: whether the journey has become part of another, or another of it.
    mutating func joinLate(_ journey: Int32, isFirst: Bool) -> Bool {
        var index = journeys[Int(journey)].firstSegment
        while index >= 0 {
            let segment = segments[index]
            if segment.awaitsParent {
                segments.awaitParentLate(index)
                if joinParentLate(of: index, isFirst) { return true }
            }
            if segment.awaitsChild, segment.hook != .input, !segment.hasChildren {
                segments.awaitChildLate(index)
                if joinChildLate(of: index, isFirst) { return true }
            }
            index = segment.nextInJourney
        }
        return false
    }

    private mutating func joinParentLate(of index: Int32, _ isFirst: Bool) -> Bool {
        let link = linkSegment(of: index, segments[index].inInterface) ?? 0
        var choice = Choice()
        var candidate = segments.firstLateDeparture(for: index)
        while candidate >= 0, !choice.isExhausted {
            choice.look()
            if let fit = crossingFit(from: candidate, to: index, link, isLate: !isFirst || isLateAtOnce(link)) {
                choice.consider(candidate, fit: fit) { isOlder($0, than: $1) }
            }
            candidate = segments.nextLateDeparture(candidate)
        }
        guard choice.best >= 0 else { return false }
        markAmbiguous(choice)
        joinInDoubt(choice.best, index)
        return true
    }

    private mutating func joinChildLate(of index: Int32, _ isFirst: Bool) -> Bool {
        var choice = Choice()
        var candidate = segments.firstLateArrival(for: index)
        while candidate >= 0, !choice.isExhausted {
            choice.look()
            let link = linkSegment(of: candidate, segments[candidate].inInterface) ?? 0
            if let fit = crossingFit(from: index, to: candidate, link, isLate: !isFirst || isLateAtOnce(link)) {
                choice.consider(candidate, fit: fit) { isOlder($0, than: $1) }
            }
            candidate = segments.nextLateArrival(candidate)
        }
        guard choice.best >= 0 else { return false }
        if !segments[index].current.destination.isMulticast { markAmbiguous(choice) }
        joinInDoubt(index, choice.best)
        return true
    }

    private mutating func joinInDoubt(_ departed: Int32, _ arrived: Int32) {
        let from = segments[departed]
        let to = segments[arrived]
        let known = translations.translation(of: from.entry, in: Int(from.namespace))?.translated
        let isKnownLink = (linkSegment(of: departed, from.outInterface) ?? 0) != 0
        // A hop less to live than the link explains: a router that was not watched lies between the two, or none that belongs
        // here.
        let isFar = !isKnownLink && from.timeToLive != to.entryTimeToLive
        let isTranslated = from.current != to.entry && known != to.entry
        let left = journeys[Int(from.journey)].lastActivity
        let isLosing = hasLost(in: Int(from.namespace), since: left) || hasLost(in: Int(to.namespace), since: left)
        // It arrived before it left, as it seems: its departure was received very late, or that of a copy was lost.
        let isEarly = to.begunAt < from.departedAfter && hasLost(in: Int(from.namespace), since: to.begunAt)
        if isFar || isEarly || (isTranslated && (known != nil || isLosing)) { journeys[Int(from.journey)].isAmbiguous = true }
        join(departed, arrived)
    }

    private mutating func join(_ departed: Int32, _ arrived: Int32) {
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
        journeys[upstream].isAmbiguous = journeys[upstream].isAmbiguous || other.isAmbiguous
        release(downstream)
    }
}
