internal import TraceModel

/// The journeys under way, their steps, the latest events, losses and translations. Searches read it; the correlator alone changes it.
///
/// Functions that change nothing are `mutating` all the same, here and in the searches: the compiler copies a state, 1 KB, to lend it to
/// one that is not and that it does not inline, and of copies of one packet hundreds are looked at for each event.
package struct LiveState: ~Copyable {
    let limits: Correlator.Limits
    var live = LiveStore()
    var stepTrie: StepTrie
    var history: EventHistory
    var losses = EventLosses()
    var translations: TranslationTable
    var clock: ReceiptClock

    init(_ limits: Correlator.Limits) {
        self.limits = limits
        stepTrie = StepTrie(capacity: limits.stepPaths)
        history = EventHistory(capacity: limits.history)
        translations = TranslationTable(capacity: limits.translations)
        clock = ReceiptClock(delay: limits.delay)
    }

    /// Position of a leg's first event in the history, which names it.
    @inline(__always)
    func firstEvent(of leg: LegIndex) -> UInt64 { history.position(endingIn: live.legs[leg].firstEvent) }

    /// Whether events of its namespace have been lost since a leg began.
    @inline(__always)
    func hasLostSince(_ leg: LegIndex) -> Bool {
        losses.hasAny(in: Int(live.legs[leg].namespace), sinceEvent: firstEvent(of: leg))
    }

    /// Where a packet has not been seen at all, any loss since it was due may have been its own. A loss is noticed with the
    /// namespace's next event, of whichever packet, and that may be before the packet's own events are received.
    @inline(__always)
    func hasLost(in namespace: Int, since time: Int64) -> Bool {
        losses.hasAny(in: namespace, since: time - limits.linger)
    }

    /// Whether a leg's packet may still be under way, or some of its events may not have been received yet.
    @inline(__always)
    func isRecent(_ leg: LegIndex) -> Bool { live.journeys[live.legs[leg].journey].lastActivity >= clock.horizon }

    /// The packet behind all translation, where connection tracking has told.
    mutating func knownTranslation(of leg: LegIndex) -> PacketTuple? {
        translations.translation(
            of: live.entry(leg), in: Int(live.legs[leg].namespace),
            at: live.journeys[live.legs[leg].journey].firstSeen)?.translated
    }

    /// The leg of the namespace that the packet came from; none where there is none.
    @inline(__always)
    func parent(of leg: LegIndex) -> LegIndex {
        let origin = live.legs[leg].origin
        return origin.original.exists ? live.legs[origin.original].origin.leg : origin.leg
    }

    @inline(__always)
    mutating func markAmbiguous(_ leg: LegIndex) { live.journeys[live.legs[leg].journey].isAmbiguous = true }

    /// Marks the journeys of all that fit alike.
    @inline(__always)
    mutating func markAmbiguous(_ choice: BestMatch) {
        guard choice.isTied || choice.isExhausted, choice.best.exists else { return }
        for candidate in choice.tied + [choice.best] { markAmbiguous(candidate) }
    }
}

extension ExpectedProbes {
    /// The probes that a leg has missed, and those that its packet must pass next.
    @inline(__always)
    mutating func assessment(of leg: LegIndex, in state: inout LiveState) -> Assessment {
        assessment(
            state.live.legs[leg].stepPath, state.stepTrie, conditions: state.live.legs[leg].conditions, now: state.clock.now)
    }
}
