package import TraceModel

extension Journey {
    /// Whether it had no hop left to live where it was last seen. Groups on the link are sent to with one hop to live.
    package var isSpent: Bool { timeToLive <= 1 && !packet.tuple.destination.isMulticast }

    /// Whether it was lost with a source that no packet from a network may have (`ip_route_input_slow` in net/ipv4/route.c).
    package var hasMartianSource: Bool {
        guard let source = legs.last?.exit.source else { return false }
        return source.isMulticast || source.isLoopback || (source.family == .ipv4 && source.low >> 24 == 0)
    }
}
