package import TraceModel

/// Which live leg an event continues, within one namespace: the one that stands just before it, and of several the one that moved last,
/// because the kernel carries a packet to its end before it takes the next.
package enum ContinuationSearch {
    /// The result of `best`: the leg that an event continues, and the others that it may have been.
    package struct Found {
        /// By the same addresses, or by those that destination translation has changed.
        package internal(set) var direct = BestMatch()
        /// Where nothing fitted directly: by the destination, behind the source translation of INPUT or POSTROUTING.
        package internal(set) var behindTranslation: BestMatch?
        /// One that the event could have been part of but for its place; none where a leg was found.
        package internal(set) var copy = LegIndex.none

        /// The leg; none where the event begins one.
        package var leg: LegIndex { direct.best.exists ? direct.best : behindTranslation?.best ?? .none }

        /// There are more candidates than are looked at: the event may continue one that was not.
        package var isCrowded: Bool { direct.isExhausted && !direct.best.exists }
    }

    /// The leg that an event continues where there is no other to choose from, which is nearly always.
    ///
    /// - Returns: none where `best` is to be asked.
    @inline(__always)
    static func only(
        _ event: Event, at place: ProbePlace, _ candidates: Candidates, _ state: inout LiveState, _ layout: inout LayoutIndex
    ) -> LegIndex {
        let first = candidates.first
        guard candidates.isOne, isCandidate(first, event, place, &state),
            fit(of: first, for: event, at: place, &state, &layout) != nil, !state.hasLostSince(first)
        else { return .none }
        return first
    }

    /// The leg that an event continues.
    package static func best(_ event: Event, _ state: inout LiveState, _ layout: inout LayoutIndex) -> Found {
        let place = layout.places[Int(event.sighting.probe)]
        let candidates = state.live.atPlace(place.namespace, event.packet.fingerprint, event.packet.tuple)
        return best(event, at: place, candidates, &state, &layout)
    }

    @inline(never)
    static func best(
        _ event: Event, at place: ProbePlace, _ candidates: Candidates, _ state: inout LiveState, _ layout: inout LayoutIndex
    ) -> Found {
        var found = Found()
        var candidates = candidates
        var candidate = state.live.next(&candidates)
        while candidate.exists, !found.direct.isExhausted {
            found.direct.look()
            if isCandidate(candidate, event, place, &state) {
                if let fit = fit(of: candidate, for: event, at: place, &state, &layout) {
                    found.direct.consider(candidate, fit: fit) { movedLater($0, than: $1, &state) }
                } else if !found.copy.exists {
                    found.copy = candidate
                }
            }
            candidate = state.live.next(&candidates)
        }
        if !found.direct.best.exists, place.priority > HookPriority.sourceTranslation,
            place.hook == .input || place.hook == .postrouting
        {
            found.behindTranslation = behindSourceTranslation(event, at: place, &state, &layout)
        }
        if found.leg.exists { found.copy = .none }
        return found
    }

    /// Whether it is the same packet in the same namespace, from the same source.
    @inline(__always)
    private static func isCandidate(_ candidate: LegIndex, _ event: Event, _ place: ProbePlace, _ state: inout LiveState)
        -> Bool
    {
        state.live.legs[candidate].namespace == place.namespace
            && state.live.fingerprint(candidate) == event.packet.fingerprint
            && state.live.current(candidate).hasSource(of: event.packet.tuple)
    }

    /// How well a candidate from the same source fits: exact addresses before translated ones, then the interface, then the nearest place.
    @inline(__always)
    private static func fit(
        of candidate: LegIndex, for event: Event, at place: ProbePlace, _ state: inout LiveState,
        _ layout: inout LayoutIndex
    ) -> Int? {
        guard isAhead(place, event.sighting.probe, of: candidate, &state, &layout) else { return nil }
        let hook = state.live.legs[candidate].hook
        let priority = state.live.legs[candidate].priority
        let isSame = state.live.current(candidate) == event.packet.tuple
        if !isSame {
            let current = state.live.current(candidate)
            let isTranslated = Translation.passesDestination(
                from: (hook, Int32(priority)), to: (place.hook, Int32(place.priority)))
            let isPortKept = current.sourcePort == event.packet.tuple.sourcePort || current.isICMP
            guard isTranslated, isPortKept, current.transport == event.packet.tuple.transport else { return nil }
        }
        // Priorities lie between -400 and 150; 1 << 12 keeps stages apart.
        let nearness = Int(hook.stage) << 12 + Int(priority)
        return (isSame ? 1 << 20 : 0) + (state.live.legs[candidate].inInterface == event.sighting.inInterface ? 1 << 16 : 0)
            + nearness
    }

    /// Whether a packet last seen where `candidate` is can be seen at `place` next.
    @inline(__always)
    static func isAhead(
        _ place: ProbePlace, _ probe: UInt32, of candidate: LegIndex, _ state: inout LiveState, _ layout: inout LayoutIndex
    ) -> Bool {
        let hook = state.live.legs[candidate].hook
        guard place.hook == hook else { return hook.leads(to: place.hook) }
        let priority = state.live.legs[candidate].priority
        if place.priority != priority { return place.priority > priority }
        // In the same chain, or one that it jumped to, a head probe comes once, and before all others but head probes.
        if !place.isPassedOnce { return true }
        let last = state.stepTrie.lastProbe(of: state.live.legs[candidate].stepPath)
        // Where the sequence of steps found no room in the table, the last probe is not known.
        guard probe != last, Int(last) < layout.places.count else { return false }
        // Both backends may have a probe at the same place.
        return layout.places[Int(last)].isPassedOnce || layout.places[Int(last)].backend != place.backend
    }

    @inline(__always)
    private static func movedLater(_ one: LegIndex, than other: LegIndex, _ state: inout LiveState) -> Bool {
        state.live.legs[one].lastOrder &- state.live.legs[other].lastOrder < 1 << 31
    }

    /// Behind the source translation of INPUT and POSTROUTING a packet has another source: it is found by where it goes.
    private static func behindSourceTranslation(
        _ event: Event, at place: ProbePlace, _ state: inout LiveState, _ layout: inout LayoutIndex
    ) -> BestMatch {
        var choice = BestMatch()
        var candidates = state.live.translated(place.namespace, event.packet.fingerprint, event.packet.tuple)
        var candidate = state.live.next(&candidates)
        while candidate.exists, !choice.isExhausted {
            choice.look()
            let from = (state.live.legs[candidate].hook, Int32(state.live.legs[candidate].priority))
            if state.live.legs[candidate].namespace == place.namespace,
                state.live.fingerprint(candidate) == event.packet.fingerprint,
                state.live.current(candidate).destination == event.packet.tuple.destination,
                state.live.current(candidate).transport == event.packet.tuple.transport,
                isAhead(place, event.sighting.probe, of: candidate, &state, &layout),
                Translation.passesSource(from: from, to: (place.hook, Int32(place.priority)))
            {
                choice.consider(candidate, fit: Int(from.1)) { movedLater($0, than: $1, &state) }
            }
            candidate = state.live.next(&candidates)
        }
        return choice
    }
}
