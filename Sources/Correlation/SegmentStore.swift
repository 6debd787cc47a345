internal import TraceModel

/// Names a live segment for as long as it lives, and nothing afterwards.
public struct SegmentName: Sendable, BitwiseCopyable {
    let index: Int32
    /// Position of its first event in the history, which no other segment shares.
    public let firstEvent: UInt64
    /// Of the segment when it got this name: as the packet was then it is not any more once that has changed.
    let rewrites: UInt8
}

/// The live segments, found by place (namespace, fingerprint and source, which nothing within a namespace rewrites but
/// translation at its end) and, while they wait for one another, by crossing (fingerprint and all addresses, as they leave one
/// namespace and arrive in the next).
///
/// The late tables hold those that found nothing so: by fingerprint and destination, which nothing between two namespaces
/// rewrites.
struct SegmentStore: ~Copyable {
    private var arena = Slab<LiveSegment>()
    /// The first of the places that are free, linked by `nextInJourney`.
    private var free: Int32 = -1
    /// Addresses of the segments that have others than at their entry.
    private var rewritten = Slab<PacketTuple>()
    private var freeRewritten = Slab<Int32>()
    private var places = ChainTable(capacity: 1 << 12)
    private var arrivals = ChainTable(capacity: 1 << 10)
    private var departures = ChainTable(capacity: 1 << 10)
    private var translated = ChainTable(capacity: 1 << 10)
    private var lateArrivals = ChainTable(capacity: 1 << 8)
    private var lateDepartures = ChainTable(capacity: 1 << 8)

    @inline(__always)
    subscript(index: Int32) -> LiveSegment {
        _read { yield arena[index] }
        _modify { yield &arena[index] }
    }

    @inline(__always)
    func prefetch(_ index: Int32) { arena.prefetch(index) }

    mutating func insert(_ segment: LiveSegment) -> Int32 {
        let index: Int32
        if free >= 0 {
            index = free
            free = arena[index].nextInJourney
            arena.prefetch(free)
            arena[index] = segment
        } else {
            index = Int32(arena.count)
            arena.append(segment)
        }
        places.insert(index, placeHash(index))
        return index
    }

    /// Takes a segment out of every table and gives its room back.
    mutating func remove(_ index: Int32) {
        places.remove(index)
        stopAwaitingParent(index)
        stopAwaitingChild(index)
        stopAwaitingTranslation(index)
        if arena[index].rewritten >= 0 { freeRewritten.append(arena[index].rewritten) }
        arena[index].journey = -1
        arena[index].nextInJourney = free
        free = index
    }

    /// The packet as it was last seen.
    @inline(__always)
    func current(_ index: Int32) -> PacketTuple {
        let place = arena[index].rewritten
        return place < 0 ? arena[index].entry : rewritten[place]
    }

    private mutating func keep(_ tuple: PacketTuple, _ index: Int32) {
        arena[index].rewrites &+= 1
        if arena[index].rewritten < 0 {
            if let place = freeRewritten.popLast() {
                arena[index].rewritten = place
            } else {
                arena[index].rewritten = Int32(rewritten.count)
                rewritten.append(tuple)
            }
        }
        rewritten[arena[index].rewritten] = tuple
    }

    @inline(__always)
    func name(_ index: Int32) -> SegmentName {
        SegmentName(index: index, firstEvent: arena[index].firstEvent, rewrites: arena[index].rewrites)
    }

    /// Follows a translation: the segment is found by its new addresses from here on.
    mutating func rewrite(_ index: Int32, to tuple: PacketTuple) {
        let awaitsChild = arena[index].awaitsChild
        let isChildLate = arena[index].isChildLate
        let awaitsTranslation = arena[index].awaitsTranslation
        stopAwaitingChild(index)
        stopAwaitingTranslation(index)
        places.remove(index)
        keep(tuple, index)
        places.insert(index, placeHash(index))
        if awaitsChild { awaitChild(index, as: tuple) }
        if isChildLate { awaitChildLate(index) }
        if awaitsTranslation { awaitTranslation(index) }
    }

    // MARK: Waiting for one another

    mutating func awaitParent(_ index: Int32) {
        arrivals.insert(index, arrivalHash(index))
        arena[index].awaitsParent = true
    }

    /// - Parameter tuple: what it will arrive as, as far as that is known.
    mutating func awaitChild(_ index: Int32, as tuple: PacketTuple) {
        departures.insert(index, Self.crossingHash(arena[index].fingerprint, tuple))
        arena[index].awaitsChild = true
    }

    mutating func awaitTranslation(_ index: Int32) {
        translated.insert(index, translatedHash(index))
        arena[index].awaitsTranslation = true
    }

    mutating func awaitParentLate(_ index: Int32) {
        guard !arena[index].isParentLate else { return }
        lateArrivals.insert(index, lateArrivalHash(index))
        arena[index].isParentLate = true
    }

    mutating func awaitChildLate(_ index: Int32) {
        guard !arena[index].isChildLate else { return }
        lateDepartures.insert(index, lateDepartureHash(index))
        arena[index].isChildLate = true
    }

    mutating func stopAwaitingParent(_ index: Int32) {
        if arena[index].awaitsParent {
            arena[index].awaitsParent = false
            arrivals.remove(index)
        }
        if arena[index].isParentLate {
            arena[index].isParentLate = false
            lateArrivals.remove(index)
        }
    }

    mutating func stopAwaitingChild(_ index: Int32) {
        if arena[index].awaitsChild {
            arena[index].awaitsChild = false
            departures.remove(index)
        }
        if arena[index].isChildLate {
            arena[index].isChildLate = false
            lateDepartures.remove(index)
        }
    }

    private mutating func stopAwaitingTranslation(_ index: Int32) {
        guard arena[index].awaitsTranslation else { return }
        arena[index].awaitsTranslation = false
        translated.remove(index)
    }

    // MARK: Look-up: candidates, to be checked for what the hash does not tell

    @inline(__always)
    func firstAtPlace(_ namespace: UInt16, _ fingerprint: Fingerprint, _ tuple: PacketTuple) -> Int32 {
        places.first(Self.placeHash(namespace, fingerprint, tuple))
    }

    /// Whether a segment goes by this name and nothing else could be found where it is.
    @inline(__always)
    func isAlone(_ name: SegmentName) -> Bool {
        guard UInt32(bitPattern: name.index) < UInt32(truncatingIfNeeded: arena.count),
            arena[name.index].firstEvent == name.firstEvent, arena[name.index].rewrites == name.rewrites,
            arena[name.index].journey >= 0
        else { return false }
        return places.isAlone(name.index)
    }

    func prefetch(_ namespace: UInt16, _ fingerprint: Fingerprint, _ tuple: PacketTuple) {
        places.prefetch(Self.placeHash(namespace, fingerprint, tuple))
        let crossing = Self.crossingHash(fingerprint, tuple)
        arrivals.prefetch(crossing)
        departures.prefetch(crossing)
    }

    /// Those where one of them is, itself among them.
    @inline(__always)
    func firstAtPlaceOf(_ index: Int32) -> Int32 { places.first(placeHash(index)) }

    @inline(__always)
    func nextAtPlace(_ index: Int32) -> Int32 { places.next(index) }

    /// Those that may be what `departed` has arrived as.
    @inline(__always)
    func firstArrival(for departed: Int32) -> Int32 { arrivals.first(departures.hash(of: departed)) }
    @inline(__always)
    func nextArrival(_ index: Int32) -> Int32 { arrivals.next(index) }

    /// Those that may have arrived as `arrived`.
    @inline(__always)
    func firstDeparture(for arrived: Int32) -> Int32 { departures.first(arrivalHash(arrived)) }
    @inline(__always)
    func nextDeparture(_ index: Int32) -> Int32 { departures.next(index) }

    @inline(__always)
    func firstLateArrival(for departed: Int32) -> Int32 { lateArrivals.first(lateDepartureHash(departed)) }
    @inline(__always)
    func nextLateArrival(_ index: Int32) -> Int32 { lateArrivals.next(index) }

    @inline(__always)
    func firstLateDeparture(for arrived: Int32) -> Int32 { lateDepartures.first(lateArrivalHash(arrived)) }
    @inline(__always)
    func nextLateDeparture(_ index: Int32) -> Int32 { lateDepartures.next(index) }

    @inline(__always)
    func firstTranslated(_ namespace: UInt16, _ fingerprint: Fingerprint, _ tuple: PacketTuple) -> Int32 {
        translated.first(Self.destinationHash(fingerprint, tuple, UInt64(namespace) + 1))
    }

    @inline(__always)
    func nextTranslated(_ index: Int32) -> Int32 { translated.next(index) }

    // MARK: Hashes. Ports are left out for ICMP, whose query id is rewritten with either address.

    @inline(__always)
    private static func placeHash(_ namespace: UInt16, _ fingerprint: Fingerprint, _ tuple: PacketTuple) -> UInt32 {
        fold(fingerprint, tuple.source, tuple.isICMP ? 0 : tuple.sourcePort, UInt64(namespace) + 1)
    }

    @inline(__always)
    private static func crossingHash(_ fingerprint: Fingerprint, _ tuple: PacketTuple) -> UInt32 {
        fold(
            fingerprint, tuple.destination, tuple.isICMP ? 0 : tuple.destinationPort,
            tuple.source.low ^ tuple.source.high &* 0x9E37_79B9_7F4A_7C15 ^ UInt64(tuple.isICMP ? 0 : tuple.sourcePort) << 32)
    }

    @inline(__always)
    private static func destinationHash(_ fingerprint: Fingerprint, _ tuple: PacketTuple, _ salt: UInt64) -> UInt32 {
        fold(fingerprint, tuple.destination, tuple.isICMP ? 0 : tuple.destinationPort, salt)
    }

    @inline(__always)
    private static func fold(_ fingerprint: Fingerprint, _ address: IPAddress, _ port: UInt16, _ salt: UInt64) -> UInt32 {
        // The fingerprint is well mixed already; the rest needs a multiplication.
        let word = address.low ^ (address.high &* 0x9E37_79B9_7F4A_7C15) ^ UInt64(port) << 40 ^ salt &* 0xC2B2_AE3D_27D4_EB4F
        let product = (word ^ fingerprint.header).multipliedFullWidth(by: 0xD6E8_FEB8_6659_FD93)
        let hash = product.high ^ product.low ^ fingerprint.payload
        return UInt32(truncatingIfNeeded: hash ^ hash >> 32)
    }

    @inline(__always)
    private func placeHash(_ index: Int32) -> UInt32 {
        Self.placeHash(self[index].namespace, self[index].fingerprint, current(index))
    }

    @inline(__always)
    private func arrivalHash(_ index: Int32) -> UInt32 { Self.crossingHash(self[index].fingerprint, self[index].entry) }

    private func translatedHash(_ index: Int32) -> UInt32 {
        Self.destinationHash(self[index].fingerprint, current(index), UInt64(self[index].namespace) + 1)
    }

    private func lateArrivalHash(_ index: Int32) -> UInt32 {
        Self.destinationHash(self[index].fingerprint, self[index].entry, 0)
    }

    private func lateDepartureHash(_ index: Int32) -> UInt32 {
        Self.destinationHash(self[index].fingerprint, current(index), 0)
    }
}
