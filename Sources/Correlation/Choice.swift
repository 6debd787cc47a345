/// The best of several candidates for one place, and those that would have done as well.
struct Choice {
    /// -1: none.
    private(set) var best: Int32 = -1
    /// Others with the same fit: which of them it really was cannot be told.
    private(set) var tied: [Int32] = []
    private var bestFit = Int.min

    /// - Parameter isPreferred: whether the first goes before the second where both fit alike.
    @inline(__always)
    mutating func consider(_ candidate: Int32, fit: Int, isPreferred: (Int32, Int32) -> Bool) {
        if best < 0 || fit > bestFit {
            best = candidate
            bestFit = fit
            if !tied.isEmpty { tied.removeAll() }
        } else if fit == bestFit {
            if isPreferred(candidate, best) {
                tied.append(best)
                best = candidate
            } else {
                tied.append(candidate)
            }
        }
    }
}

extension Correlator {
    /// Marks the journeys of all that fit alike.
    @inline(__always)
    mutating func markAmbiguous(_ choice: Choice) {
        guard !choice.tied.isEmpty else { return }
        for candidate in choice.tied + [choice.best] { journeys[Int(segments[candidate].journey)].isAmbiguous = true }
    }
}
