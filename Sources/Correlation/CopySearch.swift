internal import TraceModel

/// Legs of packets that are copies of one another, as far as can be seen: one's events could be the other's.
package enum CopySearch {
    package enum Copy: Equatable {
        case none
        case leg(LegIndex)
        /// As many copies as that are told apart by nothing.
        case tooMany
    }

    private static let most = 256

    /// A copy that left the same namespace shortly before a leg did: what arrived and was joined to it may have been the leg, which had
    /// left by then but was not received.
    package static func departed(beside leg: LegIndex, _ state: inout LiveState) -> Copy {
        guard state.live.sharesPlace(leg), !state.live.current(leg).destination.isMulticast else { return .none }
        var candidates = state.live.atPlaceOf(leg)
        var candidate = state.live.next(&candidates)
        var looks = 0
        while candidate.exists {
            looks += 1
            guard looks <= most else { return .tooMany }
            if candidate != leg, isCopy(candidate, leg, &state), state.isRecent(candidate),
                state.live.legs[candidate].awaitsChild || state.live.legs[candidate].hasChildren
                    || state.hasLostSince(candidate)
            {
                return .leg(candidate)
            }
            candidate = state.live.next(&candidates)
        }
        return .none
    }

    /// A copy that may be under way beside a leg; none where none was found among the first of them.
    package static func underWay(beside leg: LegIndex, _ state: inout LiveState) -> LegIndex {
        var candidates = state.live.atPlaceOf(leg)
        var candidate = state.live.next(&candidates)
        var looks = 0
        while candidate.exists, looks < most {
            looks += 1
            if candidate != leg, isCopy(candidate, leg, &state), state.isRecent(candidate) { return candidate }
            candidate = state.live.next(&candidates)
        }
        return .none
    }

    @inline(__always)
    private static func isCopy(_ candidate: LegIndex, _ own: LegIndex, _ state: inout LiveState) -> Bool {
        state.live.legs[candidate].namespace == state.live.legs[own].namespace
            && state.live.fingerprint(candidate) == state.live.fingerprint(own)
            && state.live.current(candidate) == state.live.current(own)
            && state.live.legs[candidate].journey != state.live.legs[own].journey
    }
}
