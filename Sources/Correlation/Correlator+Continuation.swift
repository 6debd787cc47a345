internal import TraceModel

/// Which live leg an event continues: within one namespace.
///
/// Functions that change nothing are `mutating` here all the same: the compiler copies a correlator, 1.1 KB, to lend it to one that
/// is not and that it does not inline, and of copies of one packet hundreds are looked at for each event.
extension Correlator {
    /// What an event continues.
    struct Continuation {
        /// None where a leg begins with it.
        var leg: LegIndex
        /// Where it continues none: one that it could have been part of but for its place.
        var copy = LegIndex.none
        /// There are more candidates than are looked at: it may continue one that was not.
        var isCrowded = false
    }

    @inline(__always)
    mutating func continuation(of event: Event, at place: ProbePlace) -> Continuation {
        let candidates = live.atPlace(place.namespace, event.packet.fingerprint, event.packet.tuple)
        let first = candidates.first
        // Nearly always there is nothing to choose from.
        guard candidates.isOne, isCandidate(first, event, place), fit(of: first, for: event, at: place) != nil,
            !hasLostSince(first)
        else { return choose(from: candidates, for: event, at: place) }
        return Continuation(leg: first)
    }

    @inline(never)
    private mutating func choose(from candidates: Candidates, for event: Event, at place: ProbePlace) -> Continuation {
        var choice = BestMatch()
        var copy = LegIndex.none
        var candidates = candidates
        var candidate = live.next(&candidates)
        while candidate.exists, !choice.isExhausted {
            choice.look()
            if isCandidate(candidate, event, place) {
                if let fit = fit(of: candidate, for: event, at: place) {
                    choice.consider(candidate, fit: fit) { movedLater($0, than: $1) }
                } else if !copy.exists {
                    copy = candidate
                }
            }
            candidate = live.next(&candidates)
        }
        tell(.continuation, choice, namespace: place.namespace, event.packet.tuple)
        guard choice.best.exists else {
            let isBehind =
                place.priority > HookPriority.sourceTranslation && (place.hook == .input || place.hook == .postrouting)
            let leg = isBehind ? continuationBehindSourceTranslation(of: event, at: place) : .none
            return Continuation(leg: leg, copy: copy, isCrowded: choice.isExhausted)
        }
        markAmbiguous(choice)
        if hasLostSince(choice.best) { doubtContinuation(of: choice.best) }
        return Continuation(leg: choice.best)
    }

    /// Whether it is the same packet in the same namespace, from the same source.
    @inline(__always)
    private mutating func isCandidate(_ candidate: LegIndex, _ event: Event, _ place: ProbePlace) -> Bool {
        live.legs[candidate].namespace == place.namespace && live.fingerprint(candidate) == event.packet.fingerprint
            && live.current(candidate).hasSource(of: event.packet.tuple)
    }

    /// How well a candidate from the same source fits: exact addresses before translated ones, then the interface, then the nearest place.
    @inline(__always)
    private mutating func fit(of candidate: LegIndex, for event: Event, at place: ProbePlace) -> Int? {
        guard isAhead(place, event.sighting.probe, of: candidate) else { return nil }
        let hook = live.legs[candidate].hook
        let priority = live.legs[candidate].priority
        let isSame = live.current(candidate) == event.packet.tuple
        if !isSame {
            let current = live.current(candidate)
            let isTranslated = Translation.passesDestination(
                from: (hook, Int32(priority)), to: (place.hook, Int32(place.priority)))
            let isPortKept = current.sourcePort == event.packet.tuple.sourcePort || current.isICMP
            guard isTranslated, isPortKept, current.transport == event.packet.tuple.transport else { return nil }
        }
        // Priorities lie between -400 and 150; 1 << 12 keeps stages apart.
        let nearness = Int(hook.stage) << 12 + Int(priority)
        return (isSame ? 1 << 20 : 0) + (live.legs[candidate].inInterface == event.sighting.inInterface ? 1 << 16 : 0)
            + nearness
    }

    /// Whether a packet last seen where `candidate` is can be seen at `place` next.
    @inline(__always)
    mutating func isAhead(_ place: ProbePlace, _ probe: UInt32, of candidate: LegIndex) -> Bool {
        let hook = live.legs[candidate].hook
        guard place.hook == hook else { return hook.leads(to: place.hook) }
        let priority = live.legs[candidate].priority
        if place.priority != priority { return place.priority > priority }
        // The same chain, or one that it jumped to: a head probe comes once, and before all others but head probes.
        if !place.isPassedOnce { return true }
        let last = stepTrie.lastProbe(of: live.legs[candidate].stepPath)
        // Of a route that found no room in the table no probe is known.
        guard probe != last, Int(last) < places.count else { return false }
        // Both backends may have a probe at the same place.
        return places[Int(last)].isPassedOnce || places[Int(last)].backend != place.backend
    }

    /// The kernel carries a packet to its end before it takes the next: of two that fit alike, the one that moved last.
    @inline(__always)
    private func movedLater(_ one: LegIndex, than other: LegIndex) -> Bool {
        live.legs[one].lastOrder &- live.legs[other].lastOrder < 1 << 31
    }

    /// Behind the source translation of INPUT and POSTROUTING a packet has another source: it is found by where it goes.
    private mutating func continuationBehindSourceTranslation(of event: Event, at place: ProbePlace) -> LegIndex {
        var choice = BestMatch()
        var candidates = live.translated(place.namespace, event.packet.fingerprint, event.packet.tuple)
        var candidate = live.next(&candidates)
        while candidate.exists, !choice.isExhausted {
            choice.look()
            let from = (live.legs[candidate].hook, Int32(live.legs[candidate].priority))
            if live.legs[candidate].namespace == place.namespace, live.fingerprint(candidate) == event.packet.fingerprint,
                live.current(candidate).destination == event.packet.tuple.destination,
                live.current(candidate).transport == event.packet.tuple.transport,
                isAhead(place, event.sighting.probe, of: candidate),
                Translation.passesSource(from: from, to: (place.hook, Int32(place.priority)))
            {
                choice.consider(candidate, fit: Int(from.1)) { movedLater($0, than: $1) }
            }
            candidate = live.next(&candidates)
        }
        markAmbiguous(choice)
        return choice.best
    }
}
