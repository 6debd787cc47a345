internal import TraceModel

/// Packets that are copies of one another, as far as can be seen: what may be concluded although one's events could be the
/// other's.
extension Correlator {
    /// No event that is received from now on happened before: when sockets were read the last time, they were read to their
    /// ends, or `complete` says which was not.
    var horizon: Int64 { min(complete, receiptBefore) - limits.delay }

    /// Whether it may be under way still, or what it has done may be told by events that are not in yet.
    @inline(__always)
    func isRecent(_ index: LegIndex) -> Bool { live.journeys[live.legs[index].journey].lastActivity >= horizon }

    private mutating func doubt(_ index: LegIndex) { live.journeys[live.legs[index].journey].isAmbiguous = true }

    /// A leg has left its namespace. Where a copy of it did so shortly before, what arrived and was joined to that copy may
    /// have been this one, which had left by then but was not received.
    mutating func doubtDepartures(of index: LegIndex) {
        guard live.sharesPlace(index), !live.current(index).destination.isMulticast else { return }
        var candidates = live.atPlaceOf(index)
        var candidate = live.next(&candidates)
        var looks = 0
        while candidate.exists {
            looks += 1
            // As many copies as that are not told apart by anything.
            guard looks <= 256 else { return doubt(index) }
            if candidate != index, isCopy(candidate, index), isRecent(candidate),
                live.legs[candidate].awaitsChild || live.legs[candidate].hasChildren
                    || hasLostSince(candidate)
            {
                doubt(index)
                doubt(candidate)
                return
            }
            candidate = live.next(&candidates)
        }
    }

    @inline(__always)
    private func isCopy(_ candidate: LegIndex, _ own: LegIndex) -> Bool {
        live.legs[candidate].namespace == live.legs[own].namespace
            && live.fingerprint(candidate) == live.fingerprint(own)
            && live.current(candidate) == live.current(own) && live.legs[candidate].journey != live.legs[own].journey
    }

    /// A leg has begun beside a copy of it: where events are being lost at that, either may have got the other's
    /// beginning.
    mutating func doubtCopy(_ copy: LegIndex, of index: LegIndex) {
        guard losses.latest + limits.linger * 2 >= now, live.legs[copy].journey != live.legs[index].journey, isRecent(copy)
        else {
            return
        }
        doubt(index)
        doubt(copy)
        doubtEvents(of: index)
        doubtEvents(of: copy)
    }

    /// Events of a leg's packet may have been taken for those of a copy of it, which a damaged file may hold.
    private mutating func doubtEvents(of index: LegIndex) {
        if limits.doubtsGaps { live.journeys[live.legs[index].journey].mayLackEvents = true }
    }

    /// A leg goes on in a namespace of which events have been lost since it began: its next event may be that of a copy.
    mutating func doubtContinuation(of index: LegIndex) {
        // Nothing holds a packet up within a namespace but a queue to a program.
        guard isRecent(index) else { return doubt(index) }
        var candidates = live.atPlaceOf(index)
        var candidate = live.next(&candidates)
        var looks = 0
        while candidate.exists, looks < 256 {
            looks += 1
            if candidate != index, isCopy(candidate, index), isRecent(candidate) {
                doubtEvents(of: candidate)
                return doubt(index)
            }
            candidate = live.next(&candidates)
        }
    }

    /// A leg is joined that had left long before: where events of its namespace were lost meanwhile, the one that really
    /// left may be a copy whose departure was lost.
    mutating func doubtCrossing(from index: LegIndex) {
        let left = live.journeys[live.legs[index].journey].lastActivity
        if !isRecent(index), hasLost(in: Int(live.legs[index].namespace), since: left) { doubt(index) }
    }
}
