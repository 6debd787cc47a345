internal import TraceModel

/// A journey under way. There may be millions: 64 bytes; what its first segment has is not kept a second time.
struct LiveJourney {
    var serial: UInt64
    var firstSeen: Int64
    var lastSeen: Int64
    /// By the clock of `receive(at:)`.
    var lastActivity: Int64
    var firstSegment: Int32 = -1
    var lastSegment: Int32 = -1
    /// Counts up each time that the place is used again.
    var generation: UInt32
    var layoutEpoch: UInt32
    // Of the packet as it was first seen.
    let length: UInt32
    private let icmpSequence: UInt16
    private let icmpType: UInt8
    private let icmpCode: UInt8
    private let tcpFlags: UInt8
    private let isFragment: Bool
    var isAmbiguous = false

    init(_ event: Event, _ serial: UInt64, _ layoutEpoch: UInt32, generation: UInt32, now: Int64) {
        self.serial = serial
        firstSeen = event.sighting.time
        lastSeen = event.sighting.time
        lastActivity = now
        self.generation = generation
        self.layoutEpoch = layoutEpoch
        length = event.packet.length
        icmpSequence = event.packet.icmpSequence
        icmpType = event.packet.icmpType
        icmpCode = event.packet.icmpCode
        tcpFlags = event.packet.tcpFlags
        isFragment = event.packet.isFragment
    }

    mutating func begin(with segment: Int32, isAmbiguous: Bool) {
        firstSegment = segment
        lastSegment = segment
        self.isAmbiguous = isAmbiguous
    }

    /// The packet was seen again.
    @inline(__always)
    mutating func see(_ time: Int64, _ now: Int64) {
        lastActivity = now
        lastSeen = max(lastSeen, time)
        firstSeen = min(firstSeen, time)
    }

    /// `other` has turned out to be the rest of this one; its segments come behind those that are there.
    mutating func take(_ other: LiveJourney) {
        lastSegment = other.lastSegment
        firstSeen = min(firstSeen, other.firstSeen)
        lastSeen = max(lastSeen, other.lastSeen)
        lastActivity = max(lastActivity, other.lastActivity)
        layoutEpoch = min(layoutEpoch, other.layoutEpoch)
        isAmbiguous = isAmbiguous || other.isAmbiguous
    }

    /// - Parameter first: the journey's first segment.
    func packet(_ first: LiveSegment) -> Packet {
        Packet(
            tuple: first.entry, fingerprint: first.fingerprint, length: length, timeToLive: first.entryTimeToLive,
            icmpType: icmpType, icmpCode: icmpCode, tcpFlags: tcpFlags, icmpSequence: icmpSequence, isFragment: isFragment)
    }
}
