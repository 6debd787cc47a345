import Correlation
import Testing
import TraceModel

@Suite struct EndingDoubtsTests {
    @Test("without a doubt a packet that went no further was dropped")
    func none() {
        #expect(EndingDoubts([]).outcome == (.dropped, nil))
    }

    /// From the one that explains most to the one that explains least.
    private static let inOrder: [(EndingDoubts, Outcome, IncompleteReason?)] = [
        (.mayGoOn, .open, nil), (.evicted, .incomplete, .evicted), (.eventsLost, .incomplete, .eventsLost),
        (.layoutChanged, .incomplete, .layoutChanged), (.refragmented, .incomplete, .refragmented),
        (.thinned, .incomplete, .thinned), (.offloaded, .incomplete, .offloaded),
        (.probesFiltered, .incomplete, .probesFiltered),
    ]

    @Test("each doubt gives its reason, alone and beside all that explain less")
    func reasons() {
        for (number, (doubt, outcome, reason)) in Self.inOrder.enumerated() {
            #expect(doubt.outcome == (outcome, reason))
            let rest = Self.inOrder[number...].reduce(EndingDoubts()) { $0.union($1.0) }
            #expect(rest.outcome == (outcome, reason))
        }
    }
}
