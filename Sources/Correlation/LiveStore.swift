internal import TraceModel

/// Names a live segment for as long as it lives, and nothing afterwards.
public struct SegmentName: Sendable, BitwiseCopyable {
    let index: Int32
    /// Position of its first event in the history, which no other segment shares.
    public let firstEvent: UInt64
    /// Of the segment when it got this name: as the packet was then it is not any more once that has changed.
    let rewrites: UInt8
}

/// The journeys and segments that are under way, by number.
///
/// Segments are found by place (namespace, fingerprint and source, which nothing within a namespace rewrites but translation at
/// its end) and, while they wait for one another, by fingerprint and destination, which nothing between two namespaces rewrites:
/// first those with the same source, too, and late, when nothing better can come, any.
struct LiveStore: ~Copyable {
    private struct Addresses: BitwiseCopyable {
        var tuple: PacketTuple
        /// Those of the packet as it is now, where these are of its entry; in a free place, the next that is free.
        var next: Int32
    }

    var journeys = Slab<LiveJourney>()
    var segments = Slab<LiveSegment>()
    /// Addresses of segments that are not their journey's.
    private var addresses = Slab<Addresses>()
    // The first of the places that are free, linked by `lastSegment`, `nextInJourney` and `next`.
    private var freeJourney: Int32 = -1
    private var freeSegment: Int32 = -1
    private var freeAddresses: Int32 = -1
    private var freeJourneys = 0
    /// What is found by place; of several with one hash nothing but one of them, since `chains` has them all.
    private var places = PlaceTable(capacity: 1 << 12)
    private var chains = ChainTable(capacity: 1 << 10)

    // MARK: Journeys

    var liveJourneys: Int { journeys.count - freeJourneys }

    @inline(__always)
    func isLive(_ journey: Int32) -> Bool {
        let first = journeys[journey].firstSegment
        return first >= 0 && segments[first].journey == journey
    }

    mutating func insert(_ journey: LiveJourney) -> Int32 {
        let index = freeJourney
        guard index >= 0 else {
            journeys.append(journey)
            return Int32(journeys.count - 1)
        }
        freeJourney = journeys[index].lastSegment
        journeys.prefetch(freeJourney)
        freeJourneys -= 1
        journeys[index] = journey
        return index
    }

    /// Gives a journey's place back, which has no segments any more; appointments that still name it are void.
    mutating func release(_ journey: Int32) {
        journeys[journey].firstSegment = -1
        journeys[journey].lastSegment = freeJourney
        freeJourney = journey
        freeJourneys += 1
    }

    /// `downstream` becomes the rest of `upstream`.
    ///
    /// - Parameter layoutEpoch: the present one.
    mutating func unite(_ upstream: Int32, _ downstream: Int32, layoutEpoch: UInt8) {
        let other = journeys[downstream]
        let delay = other.begunAt &- journeys[upstream].begunAt
        let isSameTuple = other.tuple == journeys[upstream].tuple
        var index = other.firstSegment
        while index >= 0 {
            if !isSameTuple, !segments[index].hasEntry { keepEntry(other.tuple, index) }
            segments[index].journey = upstream
            segments[index].begun = Int32(clamping: Int64(segments[index].begun) &+ delay)
            if segments[index].departure != .min {
                segments[index].departure = Int32(clamping: Int64(segments[index].departure) &+ delay)
            }
            index = segments[index].nextInJourney
        }
        segments[journeys[upstream].lastSegment].nextInJourney = other.firstSegment
        journeys[upstream].take(other, layoutEpoch: layoutEpoch)
        release(downstream)
    }

    // MARK: Segments

    /// Adds the first segment of a journey.
    mutating func insert(_ segment: LiveSegment) -> Int32 {
        var index = freeSegment
        if index >= 0 {
            freeSegment = segments[index].nextInJourney
            segments.prefetch(freeSegment)
            segments[index] = segment
        } else {
            index = Int32(segments.count)
            segments.append(segment)
        }
        journeys[segment.journey].firstSegment = index
        journeys[segment.journey].lastSegment = index
        insertPlace(index)
        return index
    }

    /// Takes a segment out of every table and gives its room back. Its journey still has its place.
    mutating func remove(_ index: Int32) {
        removePlace(index)
        while segments[index].links >= 0 { chains.remove(&segments[index].links) }
        while segments[index].addresses >= 0 {
            let place = segments[index].addresses
            segments[index].addresses = addresses[place].next
            addresses[place].next = freeAddresses
            freeAddresses = place
        }
        segments[index].journey = -1
        segments[index].nextInJourney = freeSegment
        freeSegment = index
    }

    @inline(__always)
    func fingerprint(_ index: Int32) -> Fingerprint { journeys[segments[index].journey].fingerprint }

    /// The packet as it was first seen here.
    @inline(__always)
    func entry(_ index: Int32) -> PacketTuple {
        segments[index].hasEntry ? addresses[segments[index].addresses].tuple : journeys[segments[index].journey].tuple
    }

    /// The packet as it was last seen.
    @inline(__always)
    func current(_ index: Int32) -> PacketTuple {
        guard segments[index].isRewritten else { return entry(index) }
        let place = segments[index].addresses
        return addresses[segments[index].hasEntry ? addresses[place].next : place].tuple
    }

    /// When a segment began, by the clock of `receive(at:)`.
    @inline(__always)
    func begunAt(_ index: Int32) -> Int64 { journeys[segments[index].journey].begunAt &+ Int64(segments[index].begun) }

    /// It did not leave before; `Int64.min` where that is not known.
    @inline(__always)
    func departedAfter(_ index: Int32) -> Int64 {
        let departure = segments[index].departure
        return departure == .min ? .min : journeys[segments[index].journey].begunAt &+ Int64(departure)
    }

    mutating func depart(_ index: Int32, after time: Int64) {
        let since = journeys[segments[index].journey].begunAt
        segments[index].departure = time < since - Int64(Int32.max) ? .min : Int32(clamping: time - since)
    }

    /// Follows a translation: the segment is found by its new addresses from here on.
    mutating func rewrite(_ index: Int32, to tuple: PacketTuple) {
        let awaitsChild = awaitsChild(index)
        let isChildLate = isChildLate(index)
        let awaitsTranslation = awaitsTranslation(index)
        stopAwaitingChild(index)
        unlink(index, .translated)
        removePlace(index)
        keepCurrent(tuple, index)
        insertPlace(index)
        if awaitsChild { awaitChild(index, as: tuple) }
        if isChildLate { awaitChildLate(index) }
        if awaitsTranslation { awaitTranslation(index) }
    }

    private mutating func keepCurrent(_ tuple: PacketTuple, _ index: Int32) {
        segments[index].rewrites &+= 1
        let hasEntry = segments[index].hasEntry
        let first = segments[index].addresses
        if segments[index].isRewritten {
            addresses[hasEntry ? addresses[first].next : first].tuple = tuple
        } else {
            let place = insert(Addresses(tuple: tuple, next: -1))
            if hasEntry { addresses[first].next = place } else { segments[index].addresses = place }
            segments[index].isRewritten = true
        }
    }

    private mutating func keepEntry(_ tuple: PacketTuple, _ index: Int32) {
        segments[index].addresses = insert(Addresses(tuple: tuple, next: segments[index].addresses))
        segments[index].hasEntry = true
    }

    private mutating func insert(_ new: Addresses) -> Int32 {
        let place = freeAddresses
        guard place >= 0 else {
            addresses.append(new)
            return Int32(addresses.count - 1)
        }
        freeAddresses = addresses[place].next
        addresses[place] = new
        return place
    }

    // MARK: By place

    private mutating func insertPlace(_ index: Int32) {
        let hash = placeHash(index)
        let known = places.insert(index, hash)
        guard known >= 0 else { return }
        // Of several, each has a link.
        if !isAwaited(.place, known) { link(known, .place, hash) }
        link(index, .place, hash)
    }

    private mutating func removePlace(_ index: Int32) {
        let hash = placeHash(index)
        guard isAwaited(.place, index) else { return places.remove(hash) }
        unlink(index, .place)
        let link = chains.first(.place, hash)
        guard link >= 0 else { return }
        let other = chains[link].element
        places.replace(other, hash)
        if chains.next(link) < 0 { unlink(other, .place) }
    }

    /// Candidates, to be checked for what the hash does not tell.
    @inline(__always)
    func firstAtPlace(_ namespace: UInt16, _ fingerprint: Fingerprint, _ tuple: PacketTuple) -> Int32 {
        first(atPlace: Self.placeHash(namespace, fingerprint, tuple))
    }

    /// Those where one of them is, itself among them.
    @inline(__always)
    func firstAtPlaceOf(_ index: Int32) -> Int32 { first(atPlace: placeHash(index)) }

    @inline(__always)
    private func first(atPlace hash: UInt32) -> Int32 {
        let known = places[hash]
        guard known >= 0, segments[known].links >= 0, isAwaited(.place, known) else { return known }
        return element(chains.first(.place, hash))
    }

    @inline(__always)
    func nextAtPlace(_ index: Int32) -> Int32 { next(index, .place) }

    @inline(__always)
    func name(_ index: Int32, firstEvent: UInt64) -> SegmentName {
        SegmentName(index: index, firstEvent: firstEvent, rewrites: segments[index].rewrites)
    }

    /// Whether a segment goes by this name and nothing else could be found where it is.
    @inline(__always)
    func isAlone(_ name: SegmentName) -> Bool {
        guard UInt32(bitPattern: name.index) < UInt32(truncatingIfNeeded: segments.count),
            segments[name.index].firstEvent == UInt32(truncatingIfNeeded: name.firstEvent),
            segments[name.index].rewrites == name.rewrites, segments[name.index].journey >= 0
        else { return false }
        return !isAwaited(.place, name.index)
    }

    func prefetch(_ namespace: UInt16, _ fingerprint: Fingerprint, _ tuple: PacketTuple) {
        places.prefetch(Self.placeHash(namespace, fingerprint, tuple))
        let crossing = Self.crossingHash(fingerprint, tuple)
        chains.prefetch(.arrival, crossing)
        chains.prefetch(.departure, crossing)
    }

    /// The segment will be taken out soon.
    @inline(__always)
    func prefetchPlace(_ index: Int32) {
        places.prefetch(placeHash(index))
        if segments[index].links >= 0 { chains.prefetch(segments[index].links) }
    }

    // MARK: Waiting for one another

    @inline(__always)
    func awaitsParent(_ index: Int32) -> Bool { isAwaited(.arrival, index) }
    @inline(__always)
    func awaitsChild(_ index: Int32) -> Bool { isAwaited(.departure, index) }
    /// May be found behind the source translation of INPUT or POSTROUTING.
    @inline(__always)
    func awaitsTranslation(_ index: Int32) -> Bool { isAwaited(.translated, index) }

    mutating func awaitParent(_ index: Int32) {
        let entry = entry(index)
        link(
            index, .arrival, Self.crossingHash(fingerprint(index), entry),
            exactHash: Self.exactHash(fingerprint(index), entry))
    }

    /// - Parameter tuple: what it will arrive as, as far as that is known.
    mutating func awaitChild(_ index: Int32, as tuple: PacketTuple) {
        link(
            index, .departure, Self.crossingHash(fingerprint(index), current(index)),
            exactHash: Self.exactHash(fingerprint(index), tuple))
    }

    mutating func awaitTranslation(_ index: Int32) {
        link(index, .translated, Self.translatedHash(segments[index].namespace, fingerprint(index), current(index)))
    }

    /// What fits less well is looked for from now on, too, of where it came from.
    mutating func awaitParentLate(_ index: Int32) { setLate(.arrival, index) }

    /// The same of where it went.
    mutating func awaitChildLate(_ index: Int32) { setLate(.departure, index) }

    private mutating func setLate(_ search: ChainTable.Search, _ index: Int32) {
        let link = link(index, search)
        if link >= 0 { chains[link].isLate = true }
    }

    private func isChildLate(_ index: Int32) -> Bool {
        let link = link(index, .departure)
        return link >= 0 && chains[link].isLate
    }

    mutating func stopAwaitingParent(_ index: Int32) { unlink(index, .arrival) }

    mutating func stopAwaitingChild(_ index: Int32) { unlink(index, .departure) }

    // MARK: Look-up of those that wait: candidates, to be checked for what the hash does not tell

    /// Those that may be what `departed`, which waits, has arrived as.
    @inline(__always)
    func firstArrival(for departed: Int32) -> Int32 {
        let own = link(departed, .departure)
        guard own >= 0 else { return -1 }
        let exactHash = chains[own].exactHash
        return element(chains.first(.arrival, chains[own].hash) { $0.exactHash == exactHash })
    }
    @inline(__always)
    func nextArrival(_ index: Int32) -> Int32 { nextLike(index, .arrival) }

    /// Those that may have arrived as `arrived`.
    @inline(__always)
    func firstDeparture(for arrived: Int32) -> Int32 {
        let entry = entry(arrived)
        let fingerprint = fingerprint(arrived)
        let exactHash = Self.exactHash(fingerprint, entry)
        return element(chains.first(.departure, Self.crossingHash(fingerprint, entry)) { $0.exactHash == exactHash })
    }
    @inline(__always)
    func nextDeparture(_ index: Int32) -> Int32 { nextLike(index, .departure) }

    @inline(__always)
    func firstLateArrival(for departed: Int32) -> Int32 {
        element(chains.first(.arrival, Self.crossingHash(fingerprint(departed), current(departed)), where: \.isLate))
    }
    @inline(__always)
    func nextLateArrival(_ index: Int32) -> Int32 { nextLate(index, .arrival) }

    @inline(__always)
    func firstLateDeparture(for arrived: Int32) -> Int32 {
        element(chains.first(.departure, Self.crossingHash(fingerprint(arrived), entry(arrived)), where: \.isLate))
    }
    @inline(__always)
    func nextLateDeparture(_ index: Int32) -> Int32 { nextLate(index, .departure) }

    @inline(__always)
    func firstTranslated(_ namespace: UInt16, _ fingerprint: Fingerprint, _ tuple: PacketTuple) -> Int32 {
        element(chains.first(.translated, Self.translatedHash(namespace, fingerprint, tuple)))
    }
    @inline(__always)
    func nextTranslated(_ index: Int32) -> Int32 { next(index, .translated) }

    // MARK: Links

    /// The segment's link of this sort; -1 for none.
    @inline(__always)
    private func link(_ index: Int32, _ search: ChainTable.Search) -> Int32 {
        var link = segments[index].links
        while link >= 0, chains[link].search != search { link = chains[link].sibling }
        return link
    }

    @inline(__always)
    private func isAwaited(_ search: ChainTable.Search, _ index: Int32) -> Bool { link(index, search) >= 0 }

    @inline(__always)
    private func element(_ link: Int32) -> Int32 { link < 0 ? -1 : chains[link].element }

    @inline(__always)
    private func next(_ index: Int32, _ search: ChainTable.Search) -> Int32 {
        let link = link(index, search)
        return link < 0 ? -1 : element(chains.next(link))
    }

    /// The next with the same exact hash.
    @inline(__always)
    private func nextLike(_ index: Int32, _ search: ChainTable.Search) -> Int32 {
        let link = link(index, search)
        guard link >= 0 else { return -1 }
        let exactHash = chains[link].exactHash
        return element(chains.next(link) { $0.exactHash == exactHash })
    }

    @inline(__always)
    private func nextLate(_ index: Int32, _ search: ChainTable.Search) -> Int32 {
        let link = link(index, search)
        return link < 0 ? -1 : element(chains.next(link, where: \.isLate))
    }

    private mutating func link(_ index: Int32, _ search: ChainTable.Search, _ hash: UInt32, exactHash: UInt32 = 0) {
        segments[index].links = chains.insert(
            index, search, hash, exactHash: exactHash, sibling: segments[index].links)
    }

    /// Takes out the segment's link of this sort, if there is one.
    private mutating func unlink(_ index: Int32, _ search: ChainTable.Search) {
        var link = segments[index].links
        guard link >= 0 else { return }
        if chains[link].search == search { return chains.remove(&segments[index].links) }
        while chains[link].sibling >= 0 {
            if chains[chains[link].sibling].search == search { return chains.removeSibling(of: link) }
            link = chains[link].sibling
        }
    }

    // MARK: Hashes. Ports are left out for ICMP, whose query id is rewritten with either address.

    @inline(__always)
    private static func placeHash(_ namespace: UInt16, _ fingerprint: Fingerprint, _ tuple: PacketTuple) -> UInt32 {
        // The greatest number is none for `PlaceTable`.
        min(fold(fingerprint, tuple.source, tuple.isICMP ? 0 : tuple.sourcePort, UInt64(namespace) + 1), .max - 1)
    }

    @inline(__always)
    private static func crossingHash(_ fingerprint: Fingerprint, _ tuple: PacketTuple) -> UInt32 {
        fold(fingerprint, tuple.destination, tuple.isICMP ? 0 : tuple.destinationPort, 0)
    }

    @inline(__always)
    private static func exactHash(_ fingerprint: Fingerprint, _ tuple: PacketTuple) -> UInt32 {
        fold(
            fingerprint, tuple.destination, tuple.isICMP ? 0 : tuple.destinationPort,
            tuple.source.low ^ tuple.source.high &* 0x9E37_79B9_7F4A_7C15 ^ UInt64(tuple.isICMP ? 0 : tuple.sourcePort) << 32)
    }

    @inline(__always)
    private static func translatedHash(_ namespace: UInt16, _ fingerprint: Fingerprint, _ tuple: PacketTuple) -> UInt32 {
        fold(fingerprint, tuple.destination, tuple.isICMP ? 0 : tuple.destinationPort, UInt64(namespace) + 1)
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
        Self.placeHash(segments[index].namespace, fingerprint(index), current(index))
    }
}
