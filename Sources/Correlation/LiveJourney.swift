internal import TraceModel

/// A journey under way, and the packet as it was first seen. There may be millions: 96 bytes.
///
/// Times are kept as distances in microseconds, those of the packet from when the journey began: where the clocks of the kernel
/// and of the receiver are more than 35 minutes apart, or a journey lasts for more than 71, the distance ends there.
struct LiveJourney: BitwiseCopyable {
    /// By the clock of `receive(at:)`; the origin of its legs' times, too.
    let begunAt: Int64
    private var firstSeenAfter: Int32
    /// Of its latest event, whose time may be before that of an earlier one that the kernel did not stamp.
    private var lastEventAfter: Int32
    private var activeFor: UInt32 = 0
    /// The first of its legs; none in a free place.
    var firstLeg = LegIndex.none
    var lastLeg = LegIndex.none
    /// The lower bits of its serial number.
    let serial: UInt32
    /// In bytes; without the header for IPv6, whose length field has 16 bits, too.
    private let shortLength: UInt16
    /// ICMP's, or the lower bits of TCP's.
    private let sequence: UInt16
    /// ICMP code, or the traits of a TCP segment.
    private let detail: UInt8
    /// ICMP type or TCP flags: no packet has both.
    private let kind: UInt8
    private var flags: Flags = []
    let fingerprint: Fingerprint
    let tuple: PacketTuple

    private struct Flags: OptionSet, BitwiseCopyable {
        let rawValue: UInt8

        static let isAmbiguous = Flags(rawValue: 1)
        static let isFragment = Flags(rawValue: 2)
        static let mayLackEvents = Flags(rawValue: 4)
    }

    init(_ packet: Packet, serial: UInt64, time: Int64, now: Int64) {
        begunAt = now
        firstSeenAfter = Int32(clamping: time &- now)
        lastEventAfter = firstSeenAfter
        self.serial = UInt32(truncatingIfNeeded: serial)
        if packet.isFragment { flags = .isFragment }
        kind = packet.tuple.transport == TransportProtocol.tcp ? packet.tcpFlags.rawValue : packet.icmpType
        shortLength = UInt16(clamping: Int64(packet.length) - Self.header(packet.tuple))
        let isTCP = packet.tuple.transport == TransportProtocol.tcp
        sequence = isTCP ? packet.segment.sequence : packet.icmpSequence
        detail = isTCP ? packet.segment.traits.rawValue : packet.icmpCode
        fingerprint = packet.fingerprint
        tuple = packet.tuple
    }

    /// In a place that is free, the next that is free.
    var nextFree: JourneyIndex {
        get { JourneyIndex(number: lastLeg.number) }
        set { lastLeg = LegIndex(number: newValue.number) }
    }

    /// More than one packet could have caused some of its events.
    var isAmbiguous: Bool {
        get { flags.contains(.isAmbiguous) }
        set { if newValue { flags.formUnion(.isAmbiguous) } else { flags.subtract(.isAmbiguous) } }
    }

    /// Another packet's journey may have taken some of its events while others were lost.
    var mayLackEvents: Bool {
        get { flags.contains(.mayLackEvents) }
        set { if newValue { flags.formUnion(.mayLackEvents) } else { flags.subtract(.mayLackEvents) } }
    }

    /// Whether a flowtable may take it: those carry TCP and UDP once a connection stands (`nf_flow_table_ip.c`).
    var mayBeOffloaded: Bool {
        tuple.transport == TransportProtocol.udp || (tuple.transport == TransportProtocol.tcp && kind & 0x12 != 0x02)
    }

    /// A TCP segment with RST.
    var isReset: Bool { tuple.transport == TransportProtocol.tcp && kind & 0x04 != 0 }

    private static func header(_ tuple: PacketTuple) -> Int64 { tuple.source.family == .ipv6 ? 40 : 0 }

    /// In bytes.
    var length: UInt32 { UInt32(shortLength) + UInt32(Self.header(tuple)) }

    var firstSeen: Int64 { begunAt &+ Int64(firstSeenAfter) }

    var lastSeen: Int64 { max(firstSeen, lastEvent) }

    /// When its latest event was, by the event's own time.
    var lastEvent: Int64 { begunAt &+ Int64(lastEventAfter) }

    /// By the clock of `receive(at:)`.
    var lastActivity: Int64 { begunAt &+ Int64(activeFor) }

    /// The packet was seen again.
    @inline(__always)
    mutating func see(_ time: Int64, _ now: Int64) {
        activeFor = UInt32(clamping: now &- begunAt)
        cover(time, time)
    }

    @inline(__always)
    private mutating func cover(_ first: Int64, _ last: Int64) {
        firstSeenAfter = min(firstSeenAfter, Int32(clamping: first &- begunAt))
        lastEventAfter = Int32(clamping: last &- begunAt)
    }

    /// `other` has turned out to be the rest of this one; its legs come behind those that are there.
    mutating func take(_ other: LiveJourney) {
        lastLeg = other.lastLeg
        cover(other.firstSeen, other.lastEvent)
        activeFor = UInt32(clamping: max(lastActivity, other.lastActivity) &- begunAt)
        if other.isAmbiguous { isAmbiguous = true }
        if other.mayLackEvents { mayLackEvents = true }
    }

    /// - Parameter timeToLive: that of its first leg's entry.
    func packet(timeToLive: UInt8) -> Packet {
        let isTCP = tuple.transport == TransportProtocol.tcp
        var packet = Packet(
            tuple: tuple, fingerprint: fingerprint, length: length, timeToLive: timeToLive, icmpType: isTCP ? 0 : kind,
            icmpCode: isTCP ? 0 : detail, tcpFlags: isTCP ? TCPFlags(rawValue: kind) : [], icmpSequence: isTCP ? 0 : sequence,
            isFragment: flags.contains(.isFragment))
        if isTCP { packet.segment = TCPSegment(sequence: sequence, traits: TCPSegment.Traits(rawValue: detail)) }
        return packet
    }
}
