internal import TraceModel

/// A packet's way through one namespace while it is under way. There may be millions: 128 bytes, two lines of the processor's
/// cache. `SegmentStore.current` has the packet as it was last seen.
struct LiveSegment: BitwiseCopyable {
    let fingerprint: Fingerprint
    /// As first seen.
    let entry: PacketTuple
    var timeToLive: UInt8
    /// Position in the history of its first event, which names the segment, and how far behind it the last one is.
    let firstEvent: UInt64
    /// When it was received, by the clock of `receive(at:)`.
    let begunAt: Int64
    private var span: UInt32 = 0
    private var departure = Int32.min
    var route: RouteID
    var lastOrder: UInt32
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
    /// Where the store keeps the addresses that it has now; -1 as long as they are those of `entry`.
    var rewritten: Int32 = -1
    var priority: Int16
    var namespace: UInt16
    var hook: Hook
    let entryTimeToLive: UInt8
    private var flags: Flags = []
    /// How often its addresses have changed, modulo 256.
    var rewrites: UInt8 = 0

    private struct Flags: OptionSet, BitwiseCopyable {
        let rawValue: UInt8

        static let hasChildren = Flags(rawValue: 1)
        static let opensConnection = Flags(rawValue: 2)
        static let isFragment = Flags(rawValue: 4)
        static let awaitsParent = Flags(rawValue: 8)
        static let awaitsChild = Flags(rawValue: 16)
        static let awaitsTranslation = Flags(rawValue: 32)
        static let isParentLate = Flags(rawValue: 64)
        static let isChildLate = Flags(rawValue: 128)
    }

    private subscript(flag: Flags) -> Bool {
        get { flags.contains(flag) }
        set { if newValue { flags.formUnion(flag) } else { flags.subtract(flag) } }
    }

    var hasChildren: Bool {
        get { self[.hasChildren] }
        set { self[.hasChildren] = newValue }
    }
    var opensConnection: Bool {
        get { self[.opensConnection] }
        set { self[.opensConnection] = newValue }
    }
    /// Was seen in pieces here, which may be put together or taken apart on the way.
    var isFragment: Bool {
        get { self[.isFragment] }
        set { self[.isFragment] = newValue }
    }
    var awaitsParent: Bool {
        get { self[.awaitsParent] }
        set { self[.awaitsParent] = newValue }
    }
    var awaitsChild: Bool {
        get { self[.awaitsChild] }
        set { self[.awaitsChild] = newValue }
    }
    /// May be found behind the source translation of INPUT or POSTROUTING.
    var awaitsTranslation: Bool {
        get { self[.awaitsTranslation] }
        set { self[.awaitsTranslation] = newValue }
    }
    /// What fits less well is looked for too, of where it came from.
    var isParentLate: Bool {
        get { self[.isParentLate] }
        set { self[.isParentLate] = newValue }
    }
    /// The same of where it went.
    var isChildLate: Bool {
        get { self[.isChildLate] }
        set { self[.isChildLate] = newValue }
    }

    /// Position of its last event in the history.
    var lastEvent: UInt64 {
        get { firstEvent &+ UInt64(span) }
        // Histories are shorter by far: one that far back is not there any more.
        set { span = UInt32(clamping: newValue &- firstEvent) }
    }

    /// It did not leave before.
    var departedAfter: Int64 {
        get { departure == .min ? .min : begunAt + Int64(departure) }
        set { departure = newValue < begunAt - Int64(Int32.max) ? .min : Int32(clamping: newValue - begunAt) }
    }

    init(
        _ event: Event, at place: Correlator.ProbePlace, route: RouteID, position: UInt64, lossEpoch: UInt32,
        journey: Int32, now: Int64
    ) {
        fingerprint = event.packet.fingerprint
        entry = event.packet.tuple
        timeToLive = event.sighting.timeToLive
        entryTimeToLive = event.sighting.timeToLive
        firstEvent = position
        begunAt = now
        self.route = route
        lastOrder = event.sighting.order
        inInterface = event.sighting.inInterface
        outInterface = event.sighting.outInterface
        conditions = place.condition
        self.lossEpoch = lossEpoch
        self.journey = journey
        priority = place.priority
        namespace = place.namespace
        hook = place.hook
        opensConnection = place.isNAT
        isFragment = event.packet.isFragment
    }

    /// Takes an event that continues the segment; its addresses are the store's to change.
    @inline(__always)
    mutating func advance(_ sighting: Sighting, at place: Correlator.ProbePlace, route: RouteID, position: UInt64) {
        self.route = route
        lastEvent = position
        lastOrder = sighting.order
        hook = place.hook
        priority = place.priority
        conditions |= place.condition
        timeToLive = sighting.timeToLive
        if sighting.inInterface != 0 { inInterface = sighting.inInterface }
        if sighting.outInterface != 0 { outInterface = sighting.outInterface }
        if place.isNAT { opensConnection = true }
    }
}
