internal import TraceModel

/// A journey under way, and the packet as it was first seen. There may be millions: 104 bytes.
struct LiveJourney: BitwiseCopyable {
    /// When it began, by the clock of `receive(at:)`; the origin of its segments' times.
    private(set) var begunAt: Int64
    private(set) var firstSeen: Int64
    /// From `firstSeen` and from `begunAt` on, in microseconds: what lasts for longer than 71 minutes ends there.
    private var seenFor: UInt32 = 0
    private var activeFor: UInt32 = 0
    /// -1 for a place that is free.
    var firstSegment: Int32 = -1
    var lastSegment: Int32 = -1
    /// The lower bits of its serial number.
    let serial: UInt32
    /// Whether probes or namespaces have changed since it began is told by the layout's number then, modulo 65536.
    private(set) var layoutEpoch: UInt16
    private var flags: Flags = []
    /// ICMP type or TCP flags: no packet has both.
    private let kind: UInt8
    /// In bytes.
    let length: UInt32
    private let icmpSequence: UInt16
    private let icmpCode: UInt8
    let fingerprint: Fingerprint
    let tuple: PacketTuple

    private struct Flags: OptionSet, BitwiseCopyable {
        let rawValue: UInt8

        static let isAmbiguous = Flags(rawValue: 1)
        static let isFragment = Flags(rawValue: 2)
    }

    init(_ packet: Packet, serial: UInt64, layoutEpoch: UInt16, time: Int64, now: Int64) {
        begunAt = now
        firstSeen = time
        self.serial = UInt32(truncatingIfNeeded: serial)
        self.layoutEpoch = layoutEpoch
        if packet.isFragment { flags = .isFragment }
        kind = packet.tuple.transport == TransportProtocol.tcp ? packet.tcpFlags : packet.icmpType
        length = packet.length
        icmpSequence = packet.icmpSequence
        icmpCode = packet.icmpCode
        fingerprint = packet.fingerprint
        tuple = packet.tuple
    }

    /// More than one packet could have caused some of its events.
    var isAmbiguous: Bool {
        get { flags.contains(.isAmbiguous) }
        set { if newValue { flags.formUnion(.isAmbiguous) } else { flags.subtract(.isAmbiguous) } }
    }

    var lastSeen: Int64 { firstSeen &+ Int64(seenFor) }

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
        let last = max(lastSeen, last)
        firstSeen = min(firstSeen, first)
        seenFor = UInt32(clamping: last &- firstSeen)
    }

    /// `other` has turned out to be the rest of this one; its segments come behind those that are there.
    ///
    /// - Parameter layoutEpoch: the present one; whichever of the two is older than that stays older.
    mutating func take(_ other: LiveJourney, layoutEpoch: UInt16) {
        lastSegment = other.lastSegment
        cover(other.firstSeen, other.lastSeen)
        activeFor = UInt32(clamping: max(lastActivity, other.lastActivity) &- begunAt)
        if other.layoutEpoch != layoutEpoch { self.layoutEpoch = other.layoutEpoch }
        if other.isAmbiguous { isAmbiguous = true }
    }

    /// - Parameter timeToLive: that of its first segment's entry.
    func packet(timeToLive: UInt8) -> Packet {
        let isTCP = tuple.transport == TransportProtocol.tcp
        return Packet(
            tuple: tuple, fingerprint: fingerprint, length: length, timeToLive: timeToLive, icmpType: isTCP ? 0 : kind,
            icmpCode: icmpCode, tcpFlags: isTCP ? kind : 0, icmpSequence: icmpSequence, isFragment: flags.contains(.isFragment))
    }
}
