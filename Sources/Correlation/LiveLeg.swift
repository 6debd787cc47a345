internal import TraceModel

/// A packet's way through one namespace while it is under way. There may be millions: 64 bytes, one line of the processor's
/// cache. What it shares with its journey is there, and its addresses are where `LiveStore.entry` and `current` find them.
struct LiveLeg: BitwiseCopyable {
    /// Positions of its first event, which names the leg, and of its last in the history: the lower bits, which
    /// `EventHistory.position(endingIn:)` completes.
    let firstEvent: UInt32
    var lastEvent: UInt32
    /// When it was received, in microseconds from the beginning of its journey, which it may precede where two were joined.
    var begun: Int32 = 0
    /// It did not leave before, likewise; `Int32.min` where that is not known.
    var departure = Int32.min
    var stepPath: StepPathID
    var lastOrder: UInt32
    var inInterface: UInt32
    var outInterface: UInt32
    /// Conditions met so far, as bits.
    var conditions: UInt32
    /// The leg's journey; none in a free place.
    var journey: JourneyIndex
    var origin = LegOrigin.none
    var nextInJourney = LegIndex.none
    /// The first of its links.
    var links = LinkIndex.none
    /// Where the store keeps those of its addresses that are not its journey's.
    var addresses = AddressesIndex.none
    var namespace: UInt16
    var priority: Int16
    var timeToLive: UInt8
    let entryTimeToLive: UInt8
    private var state: State

    /// Flags, from the eleventh bit on how often its addresses have changed, and in the upper three bits the hook.
    private struct State: OptionSet, BitwiseCopyable {
        var rawValue: UInt16

        static let hasChildren = State(rawValue: 1)
        static let opensConnection = State(rawValue: 2)
        static let isFragment = State(rawValue: 4)
        static let hasEntry = State(rawValue: 8)
        static let isRewritten = State(rawValue: 16)
        static let awaitsParent = State(rawValue: 32)
        static let awaitsChild = State(rawValue: 64)
        static let awaitsTranslation = State(rawValue: 128)
        static let isParentLate = State(rawValue: 256)
        static let isChildLate = State(rawValue: 512)
    }

    private subscript(flag: State) -> Bool {
        @inline(__always) get { state.contains(flag) }
        @inline(__always) set { if newValue { state.formUnion(flag) } else { state.subtract(flag) } }
    }

    var hook: Hook {
        @inline(__always) get { Hook(bits: UInt8(truncatingIfNeeded: state.rawValue >> 13)) }
        @inline(__always) set { state.rawValue = state.rawValue & 0x1FFF | UInt16(newValue.rawValue) << 13 }
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
    /// Had other addresses than its journey when it was first seen.
    var hasEntry: Bool {
        get { self[.hasEntry] }
        set { self[.hasEntry] = newValue }
    }
    /// Has other addresses than when it was first seen.
    var isRewritten: Bool {
        get { self[.isRewritten] }
        set { self[.isRewritten] = newValue }
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
    /// Whether where the packet went is looked for late.
    var isChildLate: Bool {
        get { self[.isChildLate] }
        set { self[.isChildLate] = newValue }
    }
    /// Whether it is looked for in any way but by place.
    var isLookedFor: Bool { !state.isDisjoint(with: [.awaitsParent, .awaitsChild, .awaitsTranslation]) }

    /// How often its addresses have changed, modulo 8: each translation of a namespace comes once.
    var rewrites: UInt8 {
        get { UInt8(truncatingIfNeeded: state.rawValue >> 10 & 7) }
        set { state.rawValue = state.rawValue & ~(7 << 10) | UInt16(newValue & 7) << 10 }
    }

    init(_ event: Event, at place: ProbePlace, stepPath: StepPathID, position: UInt64, journey: JourneyIndex) {
        firstEvent = UInt32(truncatingIfNeeded: position)
        lastEvent = firstEvent
        self.stepPath = stepPath
        lastOrder = event.sighting.order
        inInterface = event.sighting.inInterface
        outInterface = event.sighting.outInterface
        conditions = place.condition
        self.journey = journey
        namespace = place.namespace
        priority = place.priority
        timeToLive = event.sighting.timeToLive
        entryTimeToLive = event.sighting.timeToLive
        state = []
        hook = place.hook
        if place.isNAT { opensConnection = true }
        if event.packet.isFragment { isFragment = true }
    }

    /// Takes an event that continues the leg; its addresses are the store's to change.
    @inline(__always)
    mutating func advance(_ sighting: Sighting, at place: ProbePlace) {
        lastOrder = sighting.order
        hook = place.hook
        priority = place.priority
        conditions |= place.condition
        timeToLive = sighting.timeToLive
        if sighting.inInterface != 0 { inInterface = sighting.inInterface }
        if sighting.outInterface != 0 { outInterface = sighting.outInterface }
        if place.isNAT { opensConnection = true }
    }

    /// The event is a step of its way, at `position` in the history.
    @inline(__always)
    mutating func advance(along stepPath: StepPathID, position: UInt64) {
        self.stepPath = stepPath
        lastEvent = UInt32(truncatingIfNeeded: position)
    }
}

/// What comes before a leg in its journey: nothing, the leg of the namespace that the packet came from, or, for a copy that the leg's
/// own namespace made (`BranchSearch`), the leg whose beginning it shares.
struct LegOrigin: BitwiseCopyable, Equatable {
    private let number: Int32

    static let none = LegOrigin(number: -1)

    @inline(__always)
    static func leg(_ leg: LegIndex) -> LegOrigin { LegOrigin(number: leg.number) }

    @inline(__always)
    static func beginning(of original: LegIndex) -> LegOrigin { LegOrigin(number: -2 - original.number) }

    /// The leg that the packet came from; none where there is none, or the leg is a copy.
    var leg: LegIndex {
        @inline(__always) get { LegIndex(number: max(number, -1)) }
    }

    /// The leg whose beginning a copy shares; none where the leg is no copy.
    var original: LegIndex {
        @inline(__always) get { number <= -2 ? LegIndex(number: -2 - number) : .none }
    }
}
