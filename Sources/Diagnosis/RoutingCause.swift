internal import TraceModel

/// What makes the kernel drop a packet where it is routed. Raw values are those of JSON.
public enum RoutingCause: String, Sendable, Hashable {
    /// `ip_forward`, `net.ipv6.conf.all.forwarding`.
    case forwardingDisabled = "forwarding-disabled"
    /// It could not be sent on with less than one hop to live.
    case timeToLive = "ttl-spent"
    /// An address that no packet from a network may have.
    case martian = "martian-source"
    /// The interface has a strict reverse-path filter, which may have been it.
    case reversePath = "reverse-path-filter"
    /// No route leads to its destination.
    case noRoute = "no-route"
    /// The route of its destination discards packets, and tells nobody.
    case blackholeRoute = "blackhole-route"
    /// The route of its destination forbids packets.
    case prohibitRoute = "prohibit-route"
    /// The route of its destination says that it cannot be reached.
    case unreachableRoute = "unreachable-route"
    /// It is larger than the next link takes, and must not be cut.
    case tooLarge = "too-large"
    /// Multicast, which the kernel discards there unless somebody has joined the group.
    case groupNotJoined = "group-not-joined"

    public var explanation: String {
        switch self {
        case .forwardingDisabled: "forwarding is switched off"
        case .timeToLive: "the packet had no hops left to live"
        case .martian: "its source address cannot come from a network"
        case .reversePath: "the interface's reverse-path filter is strict"
        case .noRoute: "no route leads to its destination"
        case .blackholeRoute: "its destination has a blackhole route"
        case .prohibitRoute: "its destination has a route that prohibits it"
        case .unreachableRoute: "its destination has a route that says unreachable"
        case .tooLarge: "it is larger than the next link takes, and must not be cut"
        case .groupNotJoined: "it is multicast, and perhaps nobody there has joined the group"
        }
    }
}

extension RoutingCause {
    /// The kernel's name for it (`enum skb_drop_reason`, include/net/dropreason-core.h): the one with which the counter rises.
    /// `nil` for causes that no counter tells.
    public var dropReason: String? {
        switch self {
        case .noRoute: "IP_INNOROUTES"
        case .timeToLive: "IP_INHDR"
        case .forwardingDisabled: "IP_INADDRERRORS"
        case .reversePath: "IP_RPFILTER"
        case .tooLarge: "PKT_TOO_BIG"
        case .martian, .groupNotJoined, .blackholeRoute, .prohibitRoute, .unreachableRoute: nil
        }
    }

    /// - Returns: `nil` for a counter of packets that were dropped elsewhere.
    init?(_ counter: DropCounters.Counter) {
        switch counter {
        case .noRoutes: self = .noRoute
        case .headerErrors: self = .timeToLive
        case .addressErrors: self = .forwardingDisabled
        case .reversePath: self = .reversePath
        case .tooLarge: self = .tooLarge
        case .receiveBufferFull, .listenQueueFull, .badChecksum, .untracked, .insertionFailed, .earlyDrop: return nil
        }
    }
}
