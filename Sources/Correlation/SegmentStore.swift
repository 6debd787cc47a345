internal import TraceModel

/// A packet's way through one namespace while it is under way.
struct LiveSegment {
    var fingerprint: Fingerprint
    var entry: PacketTuple
    /// As last seen.
    var current: PacketTuple
    /// Positions in the history; the first names the segment.
    let firstEvent: UInt64
    var lastEvent: UInt64
    var route: RouteID
    var lastOrder: UInt32
    var lastProbe: UInt32
    var inInterface: UInt32
    var outInterface: UInt32
    /// Conditions met so far, as bits.
    var conditions: UInt32
    var lossEpoch: UInt32
    /// Index of its journey; -1 for a place in the arena that is free.
    var journey: Int32
    /// The segment that the packet came from, -1 for none.
    var parent: Int32 = -1
    var nextInJourney: Int32 = -1
    var priority: Int16
    var namespace: UInt16
    var hook: Hook
    var hasChildren = false
    var opensConnection: Bool
    /// As first and as last seen.
    let entryTimeToLive: UInt8
    var timeToLive: UInt8
    /// Was seen in pieces here, which may be put together or taken apart on the way.
    var isFragment: Bool
    var awaitsParent = false
    var awaitsChild = false

    /// Takes an event that continues the segment; `current` is the store's to change.
    @inline(__always)
    mutating func advance(
        _ event: Event, route: RouteID, position: UInt64, _ condition: UInt32, _ hook: Hook, _ priority: Int16
    ) {
        self.route = route
        lastEvent = position
        lastOrder = event.order
        lastProbe = event.probe
        self.hook = hook
        self.priority = priority
        conditions |= condition
        isFragment = isFragment || event.packet.isFragment
        timeToLive = event.packet.timeToLive
        if event.inInterface != 0 { inInterface = event.inInterface }
        if event.outInterface != 0 { outInterface = event.outInterface }
    }
}

/// The live segments, found by place (namespace, fingerprint and source, which nothing within a namespace rewrites but
/// translation at its end) and, while they wait for one another, by crossing (fingerprint and destination, which nothing
/// between two namespaces rewrites).
struct SegmentStore {
    private var arena: [LiveSegment] = []
    private var free: [Int32] = []
    private var places = ChainTable(capacity: 1 << 12)
    private var arrivals = ChainTable(capacity: 1 << 10)
    private var departures = ChainTable(capacity: 1 << 10)

    @inline(__always)
    subscript(index: Int32) -> LiveSegment {
        get { arena[Int(index)] }
        _modify { yield &arena[Int(index)] }
    }

    mutating func insert(_ segment: LiveSegment) -> Int32 {
        let index: Int32
        if let reused = free.popLast() {
            index = reused
            arena[Int(index)] = segment
        } else {
            index = Int32(arena.count)
            arena.append(segment)
        }
        if places.isCrowded {
            places.grow()
            for other in live where other != index { places.insert(other, placeHash(other)) }
        }
        places.insert(index, placeHash(index))
        return index
    }

    /// Takes a segment out of every table and gives its room back.
    mutating func remove(_ index: Int32) {
        places.remove(index, placeHash(index))
        stopAwaitingParent(index)
        stopAwaitingChild(index)
        arena[Int(index)].journey = -1
        free.append(index)
    }

    private var live: some Sequence<Int32> {
        arena.indices.lazy.filter { [arena] in arena[$0].journey >= 0 }.map { Int32($0) }
    }

    /// Follows a translation: the segment is found by its new addresses from here on.
    mutating func rewrite(_ index: Int32, to tuple: PacketTuple) {
        let awaitsChild = arena[Int(index)].awaitsChild
        if awaitsChild { stopAwaitingChild(index) }
        places.remove(index, placeHash(index))
        arena[Int(index)].current = tuple
        places.insert(index, placeHash(index))
        if awaitsChild { awaitChild(index) }
    }

    // MARK: Waiting for one another

    mutating func awaitParent(_ index: Int32) {
        if arrivals.isCrowded {
            arrivals.grow()
            for other in live where arena[Int(other)].awaitsParent { arrivals.insert(other, arrivalHash(other)) }
        }
        arrivals.insert(index, arrivalHash(index))
        arena[Int(index)].awaitsParent = true
    }

    mutating func awaitChild(_ index: Int32) {
        if departures.isCrowded {
            departures.grow()
            for other in live where arena[Int(other)].awaitsChild { departures.insert(other, departureHash(other)) }
        }
        departures.insert(index, departureHash(index))
        arena[Int(index)].awaitsChild = true
    }

    mutating func stopAwaitingParent(_ index: Int32) {
        guard arena[Int(index)].awaitsParent else { return }
        arena[Int(index)].awaitsParent = false
        arrivals.remove(index, arrivalHash(index))
    }

    mutating func stopAwaitingChild(_ index: Int32) {
        guard arena[Int(index)].awaitsChild else { return }
        arena[Int(index)].awaitsChild = false
        departures.remove(index, departureHash(index))
    }

    // MARK: Look-up: candidates, to be checked for what the hash does not tell

    @inline(__always)
    func firstAtPlace(_ namespace: UInt16, _ fingerprint: Fingerprint, _ tuple: PacketTuple) -> Int32 {
        places.first(Self.placeHash(namespace, fingerprint, tuple))
    }

    @inline(__always)
    func nextAtPlace(_ index: Int32) -> Int32 { places.next(index) }

    func firstArrival(_ fingerprint: Fingerprint, _ tuple: PacketTuple) -> Int32 {
        arrivals.first(Self.crossingHash(fingerprint, tuple))
    }

    func nextArrival(_ index: Int32) -> Int32 { arrivals.next(index) }

    func firstDeparture(_ fingerprint: Fingerprint, _ tuple: PacketTuple) -> Int32 {
        departures.first(Self.crossingHash(fingerprint, tuple))
    }

    func nextDeparture(_ index: Int32) -> Int32 { departures.next(index) }

    // MARK: Hashes. Ports are left out for ICMP, whose query id is rewritten with either address.

    @inline(__always)
    private static func placeHash(_ namespace: UInt16, _ fingerprint: Fingerprint, _ tuple: PacketTuple) -> UInt64 {
        fold(fingerprint, tuple.source, tuple.isICMP ? 0 : tuple.sourcePort, UInt64(namespace) + 1)
    }

    @inline(__always)
    private static func crossingHash(_ fingerprint: Fingerprint, _ tuple: PacketTuple) -> UInt64 {
        fold(fingerprint, tuple.destination, tuple.isICMP ? 0 : tuple.destinationPort, 0)
    }

    @inline(__always)
    private static func fold(_ fingerprint: Fingerprint, _ address: IPAddress, _ port: UInt16, _ salt: UInt64) -> UInt64 {
        // The fingerprint is well mixed already; the rest needs a multiplication.
        let word = address.low ^ (address.high &* 0x9E37_79B9_7F4A_7C15) ^ UInt64(port) << 40 ^ salt &* 0xC2B2_AE3D_27D4_EB4F
        let product = (word ^ fingerprint.header).multipliedFullWidth(by: 0xD6E8_FEB8_6659_FD93)
        return product.high ^ product.low ^ fingerprint.payload
    }

    @inline(__always)
    private func placeHash(_ index: Int32) -> UInt64 {
        Self.placeHash(self[index].namespace, self[index].fingerprint, self[index].current)
    }

    private func arrivalHash(_ index: Int32) -> UInt64 {
        Self.crossingHash(self[index].fingerprint, self[index].entry)
    }

    private func departureHash(_ index: Int32) -> UInt64 {
        Self.crossingHash(self[index].fingerprint, self[index].current)
    }
}
