package import TraceModel

/// What makes it uncertain that a packet that went no further was dropped.
package struct EndingDoubts: OptionSet {
    package let rawValue: UInt16

    package init(rawValue: UInt16) { self.rawValue = rawValue }

    /// Everything is being closed, and it has not been silent for long enough.
    package static let mayGoOn = EndingDoubts(rawValue: 1)
    /// It was closed early, or others were, which may have been the rest of it.
    package static let evicted = EndingDoubts(rawValue: 2)
    /// Events were lost where it was, or was to come.
    package static let eventsLost = EndingDoubts(rawValue: 4)
    /// Probes changed where it was, or was to come.
    package static let layoutChanged = EndingDoubts(rawValue: 8)
    /// It may go on in pieces, or as a part of a whole, which are packets of their own.
    package static let refragmented = EndingDoubts(rawValue: 16)
    /// It may count as one of another flow from here on, and that is left out.
    package static let thinned = EndingDoubts(rawValue: 32)
    /// A flowtable may have carried it past the hooks.
    package static let offloaded = EndingDoubts(rawValue: 64)
    /// The probes that had to report it report some packets only.
    package static let probesFiltered = EndingDoubts(rawValue: 128)

    /// How the packet ended, and why that is not known if it is not: of several doubts the one that explains most.
    package var outcome: (outcome: Outcome, reason: IncompleteReason?) {
        if contains(.mayGoOn) { return (.open, nil) }
        for (doubt, reason) in Self.reasons where contains(doubt) { return (.incomplete, reason) }
        return (.dropped, nil)
    }

    private static let reasons: [(EndingDoubts, IncompleteReason)] = [
        (.evicted, .evicted), (.eventsLost, .eventsLost), (.layoutChanged, .layoutChanged), (.refragmented, .refragmented),
        (.thinned, .thinned), (.offloaded, .offloaded), (.probesFiltered, .probesFiltered),
    ]
}
