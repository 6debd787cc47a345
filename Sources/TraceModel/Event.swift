/// A packet seen by one probe in one network namespace. A fixed-size value: nothing is allocated for it.
@frozen public struct Event: Sendable {
    public var packet: Packet
    public var sighting: Sighting

    @inlinable public init(packet: Packet, sighting: Sighting) {
        self.packet = packet
        self.sighting = sighting
    }
}

/// Where and when a packet was seen: what of an event differs from one probe to the next while the packet stays the same.
@frozen public struct Sighting: Sendable, BitwiseCopyable {
    /// Microseconds since 1970-01-01 UTC: the kernel's stamp where it has one (`NFULA_TIMESTAMP`, only at PREROUTING,
    /// INPUT and FORWARD), else when the event was received.
    public var time: Int64
    /// Index into the layout's probes.
    public var probe: UInt32
    /// Interface index in the event's namespace, 0 where the packet has none.
    public var inInterface: UInt32
    public var outInterface: UInt32
    /// The packet's fwmark.
    public var mark: UInt32
    /// `NFULA_SEQ_GLOBAL`: the order of events in this namespace across groups.
    public var order: UInt32
    /// Hops that the packet had left here; routers count it down.
    public var timeToLive: UInt8
    /// Whether `time` is the kernel's stamp. Times of receipt say nothing about the order of two namespaces.
    public var isStamped: Bool

    @inlinable public init(
        time: Int64, probe: UInt32, inInterface: UInt32, outInterface: UInt32, mark: UInt32, order: UInt32,
        timeToLive: UInt8, isStamped: Bool
    ) {
        self.time = time
        self.probe = probe
        self.inInterface = inInterface
        self.outInterface = outInterface
        self.mark = mark
        self.order = order
        self.timeToLive = timeToLive
        self.isStamped = isStamped
    }
}
