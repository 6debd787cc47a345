public import TraceModel

/// Common properties of the journeys that took one path; `PathTable` has their counts.
public struct PathRecord: Sendable {
    /// By leg: the namespace is that of the step path's probes.
    public var stepPaths: [StepPathID]
    public var outcome: Outcome
    public var incompleteReason: IncompleteReason?
    /// Where they were dropped: by what, as far as the kernel has told.
    public internal(set) var decision: Decision?
    /// Where they were dropped: the probes of which they should have reached one next.
    public var expected: [UInt32]
    /// Transport protocols of the path's packets, each with the index of its count in the table's tallies.
    var protocols: [(key: UInt8, tally: Int)] = []
    /// Translations of the path's packets, each with the index of its count; at most `PathRecord.translationLimit`.
    var translations: [(key: TranslationRecord, tally: Int)] = []
    /// Addresses and ports that occurred, at most `PathRecord.endpointLimit` of each.
    public var addresses: Set<IPAddress> = []
    public var ports: Set<UInt16> = []
    public var example: JourneyRecord

    public static let translationLimit = 16
    public static let endpointLimit = 32

    init(example: JourneyRecord) {
        stepPaths = example.journey.legs.map(\.stepPath)
        outcome = example.journey.outcome
        incompleteReason = example.journey.incompleteReason
        expected = example.journey.expected
        decision = example.journey.decision
        self.example = example
    }
}
