/// What a namespace's routing tables are asked about a packet.
public struct RouteLookup: Sendable, Hashable {
    /// Index in the layout.
    public var namespace: Int
    /// As the packet was when it was routed: behind the translation of PREROUTING or OUTPUT, before that of POSTROUTING.
    public var tuple: PacketTuple
    /// Index of the interface that it had come by; 0 for a packet that was sent there.
    public var inInterface: UInt32
    public var mark: UInt32

    /// Ports that connections take by chance, and query ids, are left out (0): many packets then ask the same.
    public init(namespace: Int, tuple: PacketTuple, inInterface: UInt32, mark: UInt32) {
        self.namespace = namespace
        self.inInterface = inInterface
        self.mark = mark
        var tuple = tuple
        if tuple.isICMP || tuple.sourcePort >= Self.firstEphemeralPort { tuple.sourcePort = 0 }
        if tuple.isICMP || tuple.destinationPort >= Self.firstEphemeralPort { tuple.destinationPort = 0 }
        self.tuple = tuple
    }

    /// As Linux has it by default (`net.ipv4.ip_local_port_range`).
    private static let firstEphemeralPort: UInt16 = 32_768
}

/// An entry of a routing table.
public struct Route: Sendable, Hashable, Codable {
    /// `default`, `10.0.0.0/16`; one address without its length.
    public var prefix: String
    /// `local`, `blackhole`, …; `unicast` for one that leads somewhere.
    public var type: String
    /// One for each next hop; where there is no gateway, the destination is on the link.
    public var nextHops: [NextHop]
    /// `main`, `local`, `default`, or a number.
    public var table: String
    /// Of two routes with one prefix, that with the lower number counts.
    public var metric: UInt32?

    public struct NextHop: Sendable, Hashable, Codable {
        public var gateway: String?
        public var device: String?

        public init(gateway: String?, device: String?) {
            self.gateway = gateway
            self.device = device
        }
    }

    public init(prefix: String, type: String, nextHops: [NextHop], table: String, metric: UInt32?) {
        self.prefix = prefix
        self.type = type
        self.nextHops = nextHops
        self.table = table
        self.metric = metric
    }

    /// As `ip route` prints it, without what is of no account for the packet's way: `default via 10.0.2.2 dev eth0`.
    public var text: String {
        var words = type == "unicast" ? [prefix] : [type, prefix]
        for hop in nextHops {
            if nextHops.count > 1 { words.append("nexthop") }
            if let gateway = hop.gateway { words += ["via", gateway] }
            if let device = hop.device { words += ["dev", device] }
        }
        if table != "main" { words += ["table", table] }
        if let metric, metric != 0 { words += ["metric", "\(metric)"] }
        return words.joined(separator: " ")
    }
}

/// What a namespace's routing tables say of a packet: asked of the kernel afterwards, so never more than inferred.
public struct RoutingDecision: Sendable, Hashable, Codable {
    /// Why a packet goes nowhere.
    public enum Failure: String, Sendable, Codable {
        case noRoute = "no route"
        case unreachable
        case prohibited
        case blackhole
        /// Its source does not lie where it came from (`rp_filter`), or cannot be a source.
        case source = "source refused"
    }

    /// The entry that fits; for a packet that goes nowhere, the one that says so, where it is known.
    public var route: Route?
    public var failure: Failure?
    /// The source address that the kernel would give a packet which has none.
    public var preferredSource: String?
    /// The rule that led to the table, as `ip rule` prints it; `nil` where it is not known.
    public var rule: String?
    /// Entries of that table which fit, too, and have shorter prefixes, longest first; `nil` where they are not known.
    public var passedOver: [Route]?

    public init(
        route: Route? = nil, failure: Failure? = nil, preferredSource: String? = nil, rule: String? = nil,
        passedOver: [Route]? = nil
    ) {
        self.route = route
        self.failure = failure
        self.preferredSource = preferredSource
        self.rule = rule
        self.passedOver = passedOver
    }
}
