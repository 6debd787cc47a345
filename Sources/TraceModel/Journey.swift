/// How a journey ended.
public enum Outcome: UInt8, Sendable, Hashable, CaseIterable {
    /// Last seen in INPUT's last probe.
    case delivered
    /// Passed POSTROUTING and left the namespaces being traced.
    case sent
    /// Did not reach the next probe that it had to reach.
    case dropped
    /// Events were lost or probes are missing, so it cannot be told.
    case incomplete
    /// May still go on.
    case open

    public var name: String {
        switch self {
        case .delivered: "delivered"
        case .sent: "sent"
        case .dropped: "dropped"
        case .incomplete: "incomplete"
        case .open: "open"
        }
    }

    public init?(name: some StringProtocol) {
        guard let outcome = Outcome.allCases.first(where: { $0.name == name }) else { return nil }
        self = outcome
    }
}

/// Why a journey is `incomplete`.
public enum IncompleteReason: UInt8, Sendable, Hashable, CaseIterable {
    /// Events of a namespace on its way were lost while it was under way.
    case eventsLost = 1
    /// It was seen at a probe without having been seen at one that it must have passed before.
    case stepsMissing
    /// No probe stands where its end would be decided.
    case probesMissing
    /// The probes' match may not have accepted the packet after a translation.
    case probesFiltered
    /// It was in pieces, or too large for the next link, so that it goes on in another shape.
    case refragmented
    /// Probes or namespaces changed while it was under way.
    case layoutChanged
    /// It was closed early to bound memory.
    case evicted
    /// Some flows were not followed, and behind a translation it may have counted as one of them.
    case thinned
    /// The rules or interfaces of a namespace on its way could not be read.
    case rulesUnread
    /// It left towards a namespace that is not followed although it should be.
    case notFollowed
    /// A flowtable of nf_tables may have carried it past all chains.
    case offloaded

    /// A sentence for a person.
    public var explanation: String {
        switch self {
        case .eventsLost: "events were lost while the packet was under way"
        case .stepsMissing: "the packet was not seen at a probe that it must have passed before"
        case .probesMissing: "no probe stands where the packet's end would be decided"
        case .probesFiltered: "the probes' match may not accept the packet after a translation"
        case .refragmented: "the packet was in fragments or too large for the next link, and goes on in another shape"
        case .layoutChanged: "probes or namespaces changed while the packet was under way"
        case .thinned: "more came than could be followed, and behind a translation the packet may be among the rest"
        case .rulesUnread: "the rules or interfaces of a namespace on the packet's way could not be read"
        case .offloaded: "a flowtable of nftables may have carried the packet past all chains"
        case .notFollowed: "the packet left towards a namespace that is not followed"
        case .evicted: "the journey was closed early to bound memory"
        }
    }
}

/// A packet's way along its connection.
@frozen public enum Direction: UInt8, Sendable, Hashable, BitwiseCopyable {
    /// As the connection's first packet.
    case original
    case reply

    public var name: String { self == .original ? "original" : "reply" }
}

/// The part of a journey within one namespace, from entry to exit.
public struct JourneyLeg: Sendable {
    public var namespace: Int
    public var stepPath: StepPathID
    /// As the packet was first seen here.
    public var entry: PacketTuple
    /// The packet's tuple on leaving: as last seen here, or as connection tracking says that it was rewritten behind the
    /// last probe.
    public var exit: PacketTuple
    public var lastHook: Hook
    /// Whether a chain of the nat table saw the packet: it opened a connection.
    public var opensConnection: Bool
    /// Which way of its connection the packet goes, where connection tracking says so.
    public var direction: Direction?
    /// Positions of the leg's first and last event in the history.
    public var firstEvent: UInt64
    public var lastEvent: UInt64

    public init(
        namespace: Int, stepPath: StepPathID, entry: PacketTuple, exit: PacketTuple, lastHook: Hook, opensConnection: Bool,
        direction: Direction? = nil, firstEvent: UInt64, lastEvent: UInt64
    ) {
        self.firstEvent = firstEvent
        self.namespace = namespace
        self.stepPath = stepPath
        self.entry = entry
        self.exit = exit
        self.lastHook = lastHook
        self.opensConnection = opensConnection
        self.direction = direction
        self.lastEvent = lastEvent
    }
}

/// A packet within another, or around it.
public struct CarriedPacket: Sendable, Equatable {
    /// `JourneyLeg.firstEvent` of a leg of its journey.
    public var leg: UInt64
    public var tuple: PacketTuple

    public init(leg: UInt64, tuple: PacketTuple) {
        self.leg = leg
        self.tuple = tuple
    }
}

/// Everything that happened to one packet, in order, across chains, address translation and namespaces.
public struct Journey: Sendable {
    /// Counts up from 1 within one run of the collector.
    public var serial: UInt64
    /// First to last; never empty in a journey that is handed out.
    public var legs: [JourneyLeg]
    public var outcome: Outcome
    public var incompleteReason: IncompleteReason?
    /// More than one packet could have caused some of its events.
    public var isAmbiguous: Bool
    /// For `dropped`: by what, where the kernel has told.
    public var decision: Decision?
    /// For `dropped`: the probes of which the packet should have reached one next.
    public var expected: [UInt32]
    /// Microseconds since 1970.
    public var firstSeen: Int64
    public var lastSeen: Int64
    /// The time of its latest event, which the kernel stamped at PREROUTING, INPUT and FORWARD; it may be before that of an earlier event
    /// that it did not stamp, and then `lastSeen` is later.
    public var lastEvent: Int64
    /// The packet at its first event.
    public var packet: Packet
    /// Time to live (hop limit) when the packet was last seen.
    public var timeToLive: UInt8
    /// The packet that it carried through a tunnel.
    public var carries: CarriedPacket?
    /// The packet that carried it.
    public var carriedBy: CarriedPacket?

    public init(packet: Packet) {
        serial = 0
        legs = []
        outcome = .open
        incompleteReason = nil
        isAmbiguous = false
        expected = []
        firstSeen = 0
        lastSeen = 0
        lastEvent = 0
        self.packet = packet
        timeToLive = packet.timeToLive
    }
}
