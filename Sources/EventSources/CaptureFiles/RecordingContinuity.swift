/// Whether the files of recordings follow one another without a gap.
struct RecordingContinuity {
    /// A file of a recording.
    struct Part: Hashable {
        /// The recording's name.
        var run: UInt64
        /// From 1.
        var number: UInt64

        var next: Part { Part(run: run, number: number &+ 1) }
    }

    /// The parts before which something is missing.
    private var behindGaps: Set<Part> = []
    /// The parts before which another one was read to its end, and nothing is missing.
    private var continued: Set<Part> = []
    /// Whether events were left out within parts.
    var isThin = false

    mutating func end(_ part: Part, isBroken: Bool) {
        if isBroken { behindGaps.insert(part.next) } else { continued.insert(part.next) }
    }

    /// - Returns: whether the part directly follows the one that was read before it, or is a recording's first.
    mutating func begin(_ part: Part, hasGap: Bool) -> Bool {
        if hasGap { behindGaps.insert(part) }
        return !hasGap && (part.number <= 1 || continued.contains(part))
    }

    /// `nil` for none.
    var gaps: UInt64? {
        let count = UInt64(behindGaps.count) + (isThin ? 1 : 0)
        return count > 0 ? count : nil
    }
}
