/// The best of several candidates for one place, and those that would have done as well.
package struct BestMatch {
    package private(set) var best = LegIndex.none
    /// Others with the same fit: which of them it really was cannot be told.
    package var tied: [LegIndex] { others ?? [] }
    /// No array, not even an empty one, as long as there are none: that is nearly always.
    private var others: [LegIndex]?
    private var bestFit = Int.min
    /// Candidates that were looked at.
    package private(set) var looks = 0

    package init() {}

    /// The most candidates that are looked at, the latest first. Past it, copies of one packet are so many that which of them
    /// it was cannot be told anyway, and a sender of nothing but copies must not hold the receiver up.
    private static let limit = 256

    /// Whether enough have been looked at; the best of those, if any, is then marked ambiguous.
    package var isExhausted: Bool { looks >= Self.limit }

    package var isTied: Bool { others != nil }

    /// Counts one candidate, whether it fits or not.
    @inline(__always)
    package mutating func look() { looks += 1 }

    /// - Parameter isPreferred: whether the first goes before the second where both fit alike.
    @inline(__always)
    package mutating func consider(_ candidate: LegIndex, fit: Int, isPreferred: (LegIndex, LegIndex) -> Bool) {
        if !best.exists || fit > bestFit {
            best = candidate
            bestFit = fit
            others = nil
        } else if fit == bestFit {
            if isPreferred(candidate, best) {
                tie(best)
                best = candidate
            } else {
                tie(candidate)
            }
        }
    }

    private mutating func tie(_ candidate: LegIndex) {
        if others == nil { others = [candidate] } else { others?.append(candidate) }
    }
}
