/// How much of what happened is known.
public struct Completeness: Codable, Sendable, Equatable {
    /// Events received.
    public var events: UInt64 = 0
    /// Events that the kernel counted and nobody received: gaps in its sequence numbers.
    public var lost: UInt64 = 0
    /// Journeys that have ended.
    public var journeys: UInt64 = 0
    /// Journeys among `journeys` of which the end cannot be told.
    public var incomplete: UInt64 = 0
    /// Journeys among `journeys` with events that more than one packet could have caused.
    public var ambiguous: UInt64 = 0
    /// Journeys among `journeys` to or from the collector's own endpoint, which are in no report.
    public var own: UInt64 = 0
    /// Journeys among `journeys` in no path, because as many paths as are kept apart were there.
    public var unlisted: UInt64 = 0
    /// Journeys still under way.
    public var open: UInt64 = 0
    /// Journeys closed early to bound memory.
    public var evicted: UInt64 = 0
    /// Copies of multicast packets that arrived in a namespace where nobody had asked for them; in no path. `nil` for none.
    public var unwanted: UInt64?
    /// Receive buffers that overflowed (ENOBUFS, or the drops column of /proc/net/netlink).
    public var overflows: UInt64 = 0
    /// Events of flows that were not followed, because more came than could be; `nil` where there were none. They are
    /// among `events`, and their packets in no path.
    public var thinned: UInt64?
    /// Of this many flows one is followed at the moment; `nil` where all are.
    public var followedOneIn: UInt64?
    /// Of this many flows the probes report one (`--sample`); `nil` where they report all.
    public var sampledOneIn: UInt64?
    /// Microseconds by which receiving lags behind the kernel's events; `nil` below 100 ms.
    public var behindUs: UInt64?
    /// Times for which a recording holds nothing, or not all: it was cut off, or could not be written. `nil` where there are
    /// none. A journey open at such a time is not called dropped.
    public var gaps: UInt64?
    /// Namespaces that should be followed and are not; `nil` where all are. What packets do there is in no report.
    public var namespacesLeftOut: UInt64?
    /// Namespaces whose rules or interfaces cannot be read at the moment; `nil` where all can.
    public var namespacesUnread: UInt64?
    /// Deliveries of rule traces that were dropped because a receive buffer was full; `nil` where there were none. A drop whose trace
    /// was among them has no rule's name.
    public var ruleTracesLost: UInt64?
    /// Drops of which the kernel could not keep the reason for want of room; `nil` where there were none.
    public var dropReasonsLost: UInt64?
    /// Dropped packets of which several reasons of the kernel may be the one, so that none is given; `nil` where there were none.
    public var dropReasonsAmbiguous: UInt64?
    /// Messages and packets that could not be parsed.
    public var malformed: UInt64 = 0
    /// Events whose prefix no rule explains.
    public var unplaced: UInt64 = 0

    public init() {}
}
