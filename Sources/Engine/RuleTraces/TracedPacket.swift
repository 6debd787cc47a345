import TraceModel

/// How the packet of a trace is found among journeys.
extension Packet {
    /// Whether both have what routing and translation leave alone and a trace shows.
    func looksLike(_ other: Packet) -> Bool {
        length == other.length && icmpType == other.icmpType && icmpCode == other.icmpCode && icmpSequence == other.icmpSequence
            && (tuple.transport != TransportProtocol.tcp || tcpFlags == other.tcpFlags)
    }
}

extension Journey {
    /// By how much the times of a packet's events and of its trace may differ: the kernel gathers events, and both are read in turns.
    static let traceTolerance: Int64 = 150_000
    /// A trace is looked for when its packet's journey is closed: so many microseconds later at most.
    static let longestTraceWait: Int64 = 10_000_000

    /// When its traces may have been received, in microseconds since 1970.
    var traceTimes: ClosedRange<Int64> { firstSeen - Self.traceTolerance...lastSeen + Self.traceTolerance }

    /// A trace that was received earlier is of a journey that has ended.
    var oldestTrace: Int64 { lastSeen - Self.longestTraceWait }
}
