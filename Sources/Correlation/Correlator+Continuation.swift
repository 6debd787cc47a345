internal import TraceModel

/// Which live segment an event continues: within one namespace.
extension Correlator {
    /// The segment that `event` continues; -1 for none.
    @inline(__always)
    mutating func continuation(of event: Event, at place: ProbePlace) -> Int32 {
        var choice = Choice()
        copy = -1
        var candidate = segments.firstAtPlace(place.namespace, event.packet.fingerprint, event.packet.tuple)
        while candidate >= 0, !choice.isExhausted {
            choice.look()
            if segments[candidate].namespace == place.namespace, segments[candidate].fingerprint == event.packet.fingerprint,
                segments[candidate].current.source == event.packet.tuple.source
            {
                if let fit = fit(of: candidate, for: event, at: place) {
                    choice.consider(candidate, fit: fit) { movedLater($0, than: $1) }
                } else if copy < 0 {
                    copy = candidate
                }
            }
            candidate = segments.nextAtPlace(candidate)
        }
        isCrowded = choice.isExhausted
        guard choice.best >= 0 else {
            let isBehind =
                place.priority > HookPriority.sourceTranslation && (place.hook == .input || place.hook == .postrouting)
            return isBehind ? continuationBehindSourceTranslation(of: event, at: place) : -1
        }
        markAmbiguous(choice)
        if segments[choice.best].lossEpoch != lossEpochs[Int(place.namespace)] { doubtContinuation(of: choice.best) }
        return choice.best
    }

    /// How well a candidate from the same source fits: exact addresses before translated ones, then the interface, then the nearest place.
    @inline(__always)
    private func fit(of candidate: Int32, for event: Event, at place: ProbePlace) -> Int? {
        let segment = segments[candidate]
        guard isAhead(place, event, of: segment) else { return nil }
        let isSame = segment.current == event.packet.tuple
        if !isSame {
            let isTranslated = Translation.passesDestination(
                from: (segment.hook, Int32(segment.priority)), to: (place.hook, Int32(place.priority)))
            let isPortKept = segment.current.sourcePort == event.packet.tuple.sourcePort || segment.current.isICMP
            guard isTranslated, isPortKept, segment.current.transport == event.packet.tuple.transport else { return nil }
        }
        // Priorities lie between -400 and 150; 1 << 12 keeps stages apart.
        let nearness = Int(segment.hook.stage) << 12 + Int(segment.priority)
        return (isSame ? 1 << 20 : 0) + (segment.inInterface == event.inInterface ? 1 << 16 : 0) + nearness
    }

    /// Whether a packet last seen where `segment` is can be seen at `place` next.
    @inline(__always)
    private func isAhead(_ place: ProbePlace, _ event: Event, of segment: LiveSegment) -> Bool {
        guard place.hook == segment.hook else { return segment.hook.leads(to: place.hook) }
        if place.priority != segment.priority { return place.priority > segment.priority }
        // The same chain, or one that it jumped to: a head probe comes once, and before all others but head probes.
        if !place.isPassedOnce { return true }
        guard event.probe != segment.lastProbe else { return false }
        return places[Int(segment.lastProbe)].isPassedOnce || isOtherBackend(event.probe, segment.lastProbe)
    }

    /// Both backends may have a probe at the same place.
    private func isOtherBackend(_ one: UInt32, _ other: UInt32) -> Bool {
        layout.probes[Int(one)].backend != layout.probes[Int(other)].backend
    }

    /// The kernel carries a packet to its end before it takes the next: of two that fit alike, the one that moved last.
    private func movedLater(_ one: Int32, than other: Int32) -> Bool {
        segments[one].lastOrder &- segments[other].lastOrder < 1 << 31
    }

    /// Behind the source translation of INPUT and POSTROUTING a packet has another source: it is found by where it goes.
    private mutating func continuationBehindSourceTranslation(of event: Event, at place: ProbePlace) -> Int32 {
        var choice = Choice()
        var candidate = segments.firstTranslated(place.namespace, event.packet.fingerprint, event.packet.tuple)
        while candidate >= 0, !choice.isExhausted {
            choice.look()
            let segment = segments[candidate]
            let from = (segment.hook, Int32(segment.priority))
            if segment.namespace == place.namespace, segment.fingerprint == event.packet.fingerprint,
                segment.current.destination == event.packet.tuple.destination,
                segment.current.transport == event.packet.tuple.transport, isAhead(place, event, of: segment),
                Translation.passesSource(from: from, to: (place.hook, Int32(place.priority)))
            {
                choice.consider(candidate, fit: Int(segment.priority)) { movedLater($0, than: $1) }
            }
            candidate = segments.nextTranslated(candidate)
        }
        markAmbiguous(choice)
        return choice.best
    }
}
