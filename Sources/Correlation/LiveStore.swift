internal import TraceModel

/// Names a live leg for as long as it lives, and nothing afterwards.
public struct LegName: Sendable, BitwiseCopyable {
    package let index: LegIndex
    /// Position of its first event in the history, which no other leg shares.
    public let firstEvent: UInt64
    /// How often the leg's packet had been rewritten when it got this name: the name is stale once it is rewritten again.
    let rewrites: UInt8
}

/// Legs with one hash, of which some have been looked at. None may be put in or taken out meanwhile.
struct Candidates {
    /// The next one to be looked at.
    fileprivate(set) var first: LegIndex
    /// Its link; none where it is the only one.
    fileprivate var link: LinkIndex

    /// Where `first` was found, when all that begin alike are candidates.
    fileprivate var found: OrderedTable.Found?

    @inline(__always)
    var isEmpty: Bool { !first.exists }

    /// Whether there is nothing to choose from.
    var isOne: Bool { first.exists && !link.exists }
}

/// The journeys and legs that are under way, by number, and where legs are found.
///
/// Some functions that change nothing are `mutating`: the compiler copies a store, 240 bytes, to lend it to one that is not and that
/// it does not inline, for each of the candidates that are looked at.
struct LiveStore: ~Copyable {
    struct Addresses: BitwiseCopyable {
        var tuple: PacketTuple
        /// Where these are the addresses at entry: the present ones. In a free place: the next free place.
        var next: AddressesIndex
    }

    var journeys = Slab<LiveJourney, JourneyIndex>()
    var legs = Slab<LiveLeg, LegIndex>()
    /// Addresses of legs that are not their journey's.
    private var addresses = Slab<Addresses, AddressesIndex>()
    // The first of the places that are free, linked by `lastLeg`, `nextInJourney` and `next`.
    private var freeJourney = JourneyIndex.none
    private var freeLeg = LegIndex.none
    private var freeAddresses = AddressesIndex.none
    private var freeJourneys = 0
    // Legs by hash; of several with one hash only one of them, since `chains` has them all.
    private var bySource = OrderedTable(capacity: 1 << 10)
    private var byDestination = OrderedTable(capacity: 1 << 10)
    private var chains = CollisionLists(capacity: 1 << 8)

    // MARK: Journeys

    var liveJourneys: Int { journeys.count - freeJourneys }

    @inline(__always)
    func isLive(_ journey: JourneyIndex) -> Bool {
        let first = journeys[journey].firstLeg
        return first.exists && legs[first].journey == journey
    }

    mutating func insert(_ journey: LiveJourney) -> JourneyIndex {
        let index = freeJourney
        guard index.exists else { return journeys.append(journey) }
        freeJourney = journeys[index].nextFree
        journeys.prefetch(freeJourney)
        freeJourneys -= 1
        journeys[index] = journey
        return index
    }

    /// Gives a journey's place back, which has no legs any more; timeouts that still name it are void.
    mutating func release(_ journey: JourneyIndex) {
        journeys[journey].firstLeg = .none
        journeys[journey].nextFree = freeJourney
        freeJourney = journey
        freeJourneys += 1
    }

    /// `downstream` becomes the rest of `upstream`.
    mutating func unite(_ upstream: JourneyIndex, _ downstream: JourneyIndex) {
        let other = journeys[downstream]
        let delay = other.begunAt &- journeys[upstream].begunAt
        let isSameTuple = other.tuple == journeys[upstream].tuple
        var index = other.firstLeg
        while index.exists {
            if !isSameTuple, !legs[index].hasEntry { keepEntry(other.tuple, index) }
            legs[index].journey = upstream
            legs[index].begun = Int32(clamping: Int64(legs[index].begun) &+ delay)
            if legs[index].departure != .min {
                legs[index].departure = Int32(clamping: Int64(legs[index].departure) &+ delay)
            }
            index = legs[index].nextInJourney
        }
        legs[journeys[upstream].lastLeg].nextInJourney = other.firstLeg
        journeys[upstream].take(other)
        release(downstream)
    }

    /// `arrived` is the rest of the way of `departed`.
    mutating func join(_ departed: LegIndex, _ arrived: LegIndex) {
        let upstream = legs[departed].journey
        let downstream = legs[arrived].journey
        stopAwaitingParent(arrived)
        if !current(departed).destination.isMulticast { stopAwaitingChild(departed) }
        legs[departed].hasChildren = true
        legs[arrived].origin = .leg(departed)
        unite(upstream, downstream)
    }

    // MARK: Legs

    /// Adds the first leg of a journey.
    mutating func insert(_ leg: LiveLeg) -> LegIndex {
        let index = place(leg)
        journeys[leg.journey].firstLeg = index
        journeys[leg.journey].lastLeg = index
        insert(index, .place)
        return index
    }

    @inline(__always)
    private mutating func place(_ leg: LiveLeg) -> LegIndex {
        var index = freeLeg
        if index.exists {
            freeLeg = legs[index].nextInJourney
            legs.prefetch(freeLeg)
            legs[index] = leg
        } else {
            index = legs.append(leg)
        }
        return index
    }

    /// Adds a leg to a journey that has others.
    ///
    /// - Parameter tuple: the packet as it is first seen there.
    mutating func insertBranch(_ leg: LiveLeg, _ tuple: PacketTuple) -> LegIndex {
        let journey = leg.journey
        let index = place(leg)
        legs[journeys[journey].lastLeg].nextInJourney = index
        journeys[journey].lastLeg = index
        if journeys[journey].tuple != tuple { keepEntry(tuple, index) }
        insert(index, .place)
        return index
    }

    /// Takes a leg out of every table and gives its room back. Its journey still has its place.
    mutating func remove(_ index: LegIndex) {
        remove(index, .place)
        if legs[index].isLookedFor {
            stopAwaitingParent(index)
            stopAwaitingChild(index)
            stopAwaitingTranslation(index)
        }
        while legs[index].addresses.exists {
            let place = legs[index].addresses
            legs[index].addresses = addresses[place].next
            addresses[place].next = freeAddresses
            freeAddresses = place
        }
        legs[index].journey = .none
        legs[index].nextInJourney = freeLeg
        freeLeg = index
    }

    @inline(__always)
    func fingerprint(_ index: LegIndex) -> Fingerprint { journeys[legs[index].journey].fingerprint }

    /// The packet as it was first seen here.
    @inline(__always)
    func entry(_ index: LegIndex) -> PacketTuple {
        legs[index].hasEntry ? addresses[legs[index].addresses].tuple : journeys[legs[index].journey].tuple
    }

    /// The packet as it was last seen.
    @inline(__always)
    func current(_ index: LegIndex) -> PacketTuple {
        guard legs[index].isRewritten else { return entry(index) }
        let place = legs[index].addresses
        return addresses[legs[index].hasEntry ? addresses[place].next : place].tuple
    }

    /// When a leg began, by the clock of `receive(at:)`.
    @inline(__always)
    func begunAt(_ index: LegIndex) -> Int64 { journeys[legs[index].journey].begunAt &+ Int64(legs[index].begun) }

    /// It did not leave before; `Int64.min` where that is not known.
    @inline(__always)
    func departedAfter(_ index: LegIndex) -> Int64 {
        let departure = legs[index].departure
        return departure == .min ? .min : journeys[legs[index].journey].begunAt &+ Int64(departure)
    }

    mutating func depart(_ index: LegIndex, after time: Int64) {
        let since = journeys[legs[index].journey].begunAt
        legs[index].departure = time < since - Int64(Int32.max) ? .min : Int32(clamping: time - since)
    }

    /// Follows a translation: the leg is found by its new addresses from here on.
    mutating func rewrite(_ index: LegIndex, to tuple: PacketTuple) {
        let before = legs[index]
        stopAwaitingChild(index)
        stopAwaitingTranslation(index)
        remove(index, .place)
        keepCurrent(tuple, index)
        insert(index, .place)
        if before.awaitsChild { _ = awaitChild(index, as: tuple) }
        if before.isChildLate { legs[index].isChildLate = true }
        if before.awaitsTranslation { awaitTranslation(index) }
    }

    private mutating func keepCurrent(_ tuple: PacketTuple, _ index: LegIndex) {
        legs[index].rewrites &+= 1
        let hasEntry = legs[index].hasEntry
        let first = legs[index].addresses
        if legs[index].isRewritten {
            addresses[hasEntry ? addresses[first].next : first].tuple = tuple
        } else {
            let place = insert(Addresses(tuple: tuple, next: .none))
            if hasEntry { addresses[first].next = place } else { legs[index].addresses = place }
            legs[index].isRewritten = true
        }
    }

    private mutating func keepEntry(_ tuple: PacketTuple, _ index: LegIndex) {
        legs[index].addresses = insert(Addresses(tuple: tuple, next: legs[index].addresses))
        legs[index].hasEntry = true
    }

    private mutating func insert(_ new: Addresses) -> AddressesIndex {
        let place = freeAddresses
        guard place.exists else { return addresses.append(new) }
        freeAddresses = addresses[place].next
        addresses[place] = new
        return place
    }

    // MARK: Names

    @inline(__always)
    func name(_ index: LegIndex, firstEvent: UInt64) -> LegName {
        LegName(index: index, firstEvent: firstEvent, rewrites: legs[index].rewrites)
    }

    /// Whether a leg goes by this name and nothing else could be found where it is.
    @inline(__always)
    func isAlone(_ name: LegName) -> Bool {
        guard UInt32(bitPattern: name.index.number) < UInt32(truncatingIfNeeded: legs.count),
            legs[name.index].firstEvent == UInt32(truncatingIfNeeded: name.firstEvent),
            legs[name.index].rewrites == name.rewrites, legs[name.index].journey.exists
        else { return false }
        return !link(name.index, .place).exists
    }

    // MARK: Waiting for one another

    mutating func awaitParent(_ index: LegIndex) {
        legs[index].awaitsParent = true
        insert(index, .arrival)
    }

    /// - Parameter tuple: the addresses with which it will arrive; `nil`: those that it has now.
    /// - Returns: legs that it may have arrived as.
    mutating func awaitChild(_ index: LegIndex, as tuple: PacketTuple?) -> Candidates {
        legs[index].awaitsChild = true
        let own = hash(index, .departure)
        let hash = tuple.map { SearchHash.crossing(.departure, fingerprint(index), $0) } ?? own
        // To another destination nothing is joined.
        let known = SearchHash.near(own).contains(hash) ? hash : own
        insert(index, .departure, known)
        return candidates(.arrival, SearchHash.facing(known, .arrival))
    }

    mutating func awaitTranslation(_ index: LegIndex) {
        legs[index].awaitsTranslation = true
        insert(index, .translated)
    }

    mutating func stopAwaitingParent(_ index: LegIndex) {
        guard legs[index].awaitsParent else { return }
        legs[index].awaitsParent = false
        legs[index].isParentLate = false
        remove(index, .arrival)
    }

    mutating func stopAwaitingChild(_ index: LegIndex) {
        guard legs[index].awaitsChild else { return }
        legs[index].awaitsChild = false
        legs[index].isChildLate = false
        remove(index, .departure)
    }

    private mutating func stopAwaitingTranslation(_ index: LegIndex) {
        guard legs[index].awaitsTranslation else { return }
        legs[index].awaitsTranslation = false
        remove(index, .translated)
    }

    // MARK: Look-up: candidates, to be checked for what the hash does not tell. Of several, the one that came last goes first.

    @inline(__always)
    func atPlace(_ namespace: UInt16, _ fingerprint: Fingerprint, _ tuple: PacketTuple) -> Candidates {
        candidates(.place, SearchHash.place(namespace, fingerprint, tuple))
    }

    /// Whether others are found where a leg is.
    @inline(__always)
    func sharesPlace(_ index: LegIndex) -> Bool { link(index, .place).exists }

    /// Legs at the place of a leg, that leg among them.
    @inline(__always)
    mutating func atPlaceOf(_ index: LegIndex) -> Candidates { candidates(.place, hash(index, .place)) }

    /// Legs as which `departed` may have arrived.
    @inline(__always)
    mutating func arrivals(for departed: LegIndex) -> Candidates {
        candidates(.arrival, SearchHash.facing(knownHash(departed, .departure), .arrival))
    }

    /// Legs that may have arrived as `arrived`.
    @inline(__always)
    mutating func departures(for arrived: LegIndex) -> Candidates {
        candidates(.departure, SearchHash.facing(hash(arrived, .arrival), .departure))
    }

    /// Legs as which `departed` may have arrived, from whatever source.
    @inline(__always)
    mutating func arrivalsFromAnywhere(for departed: LegIndex) -> Candidates {
        nearCandidates(SearchHash.facing(hash(departed, .departure), .arrival), after: nil)
    }

    @inline(__always)
    mutating func departuresFromAnywhere(for arrived: LegIndex) -> Candidates {
        nearCandidates(SearchHash.facing(hash(arrived, .arrival), .departure), after: nil)
    }

    @inline(__always)
    func translated(_ namespace: UInt16, _ fingerprint: Fingerprint, _ tuple: PacketTuple) -> Candidates {
        candidates(.translated, SearchHash.translated(namespace, fingerprint, tuple))
    }

    @inline(__always)
    private func candidates(_ search: Search, _ hash: UInt32) -> Candidates {
        candidates(LegIndex(number: search == .place ? bySource[hash] : byDestination[hash]), search, hash, nil)
    }

    /// Candidates behind `found` whose hash begins like this one and is for the same search.
    private mutating func nearCandidates(_ hash: UInt32, after found: OrderedTable.Found?) -> Candidates {
        guard let search = Search(hash),
            let next = byDestination.next(after: found, in: SearchHash.near(hash), like: hash, mask: SearchHash.searchMask)
        else { return Candidates(first: .none, link: .none) }
        return candidates(LegIndex(number: next.element), search, next.hash, next)
    }

    @inline(__always)
    private func candidates(_ known: LegIndex, _ search: Search, _ hash: UInt32, _ found: OrderedTable.Found?) -> Candidates {
        guard known.exists, link(known, search).exists else { return Candidates(first: known, link: .none, found: found) }
        let link = chains.first(hash)
        return Candidates(first: element(link), link: link, found: found)
    }

    /// Takes the next candidate, none at the end, and prefetches the one behind it.
    @inline(__always)
    mutating func next(_ candidates: inout Candidates) -> LegIndex {
        let first = candidates.first
        candidates.link = candidates.link.exists ? chains.next(candidates.link) : .none
        candidates.first = element(candidates.link)
        if !candidates.first.exists, let found = candidates.found { candidates = nearCandidates(found.hash, after: found) }
        legs.prefetch(candidates.first)
        return first
    }

    /// A packet will be taken soon.
    @inline(__always)
    func prefetch(_ namespace: UInt16, _ fingerprint: Fingerprint, _ tuple: PacketTuple) {
        bySource.prefetch(SearchHash.place(namespace, fingerprint, tuple))
        byDestination.prefetch(SearchHash.crossing(.departure, fingerprint, tuple))
    }

    /// A leg will be taken out soon.
    @inline(__always)
    mutating func prefetchTables(_ index: LegIndex) {
        bySource.prefetch(hash(index, .place))
        if legs[index].isLookedFor { byDestination.prefetch(hash(index, .departure)) }
    }

    // MARK: Tables and chains

    private mutating func insert(_ index: LegIndex, _ search: Search) { insert(index, search, hash(index, search)) }

    private mutating func insert(_ index: LegIndex, _ search: Search, _ hash: UInt32) {
        let known = LegIndex(
            number: search == .place ? bySource.insert(index.number, hash) : byDestination.insert(index.number, hash))
        guard known.exists else { return }
        // Of several, each has a link.
        if !link(known, search).exists { chain(known, hash) }
        chain(index, hash)
    }

    private mutating func remove(_ index: LegIndex, _ search: Search) {
        let own = link(index, search)
        guard !own.exists else { return removeShared(index, search, chains[own].hash) }
        if search == .place { bySource.remove(hash(index, search)) } else { byDestination.remove(knownHash(index, search)) }
    }

    @inline(never)
    private mutating func removeShared(_ index: LegIndex, _ search: Search, _ hash: UInt32) {
        unchain(index, search)
        let link = chains.first(hash)
        let other = chains[link].element
        if search == .place { bySource.replace(other.number, hash) } else { byDestination.replace(other.number, hash) }
        if !chains.next(link).exists { unchain(other, search) }
    }

    /// The hash that a leg is found by.
    @inline(__always)
    private mutating func knownHash(_ index: LegIndex, _ search: Search) -> UInt32 {
        let own = hash(index, search)
        // A departure is found by the addresses with which it should arrive.
        guard search == .departure, byDestination[own] != index.number else { return own }
        return expectedHash(index, own)
    }

    @inline(never)
    private mutating func expectedHash(_ departed: LegIndex, _ own: UInt32) -> UInt32 {
        let link = link(departed, .departure)
        guard !link.exists else { return chains[link].hash }
        var found: OrderedTable.Found?
        repeat {
            found = byDestination.next(after: found, in: SearchHash.near(own), like: own, mask: SearchHash.searchMask)
        } while found.map { $0.element != departed.number } ?? false
        return found?.hash ?? own
    }

    /// The leg's link of this sort.
    @inline(__always)
    private func link(_ index: LegIndex, _ search: Search) -> LinkIndex {
        var link = legs[index].links
        while link.exists, !search.isOf(chains[link].hash) { link = chains[link].sibling }
        return link
    }

    @inline(__always)
    private func element(_ link: LinkIndex) -> LegIndex { link.exists ? chains[link].element : .none }

    private mutating func chain(_ index: LegIndex, _ hash: UInt32) {
        legs[index].links = chains.insert(index, hash, sibling: legs[index].links)
    }

    /// Takes out the leg's link of this sort, which is there.
    private mutating func unchain(_ index: LegIndex, _ search: Search) {
        var link = legs[index].links
        if search.isOf(chains[link].hash) { return chains.remove(&legs[index].links) }
        while !search.isOf(chains[chains[link].sibling].hash) { link = chains[link].sibling }
        chains.removeSibling(of: link)
    }

    /// The hash that a leg has by itself.
    private mutating func hash(_ index: LegIndex, _ search: Search) -> UInt32 {
        switch search {
        case .place: SearchHash.place(legs[index].namespace, fingerprint(index), current(index))
        case .translated: SearchHash.translated(legs[index].namespace, fingerprint(index), current(index))
        case .arrival: SearchHash.crossing(search, fingerprint(index), entry(index))
        case .departure: SearchHash.crossing(search, fingerprint(index), current(index))
        }
    }
}
