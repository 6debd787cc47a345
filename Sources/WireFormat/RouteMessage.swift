public import TraceModel

/// An entry of a routing table as rtnetlink has it (`RTM_NEWROUTE`, linux/rtnetlink.h).
public struct RouteMessage: Equatable, Sendable {
    public static let newRoute: UInt16 = 24  // RTM_NEWROUTE

    public struct NextHop: Equatable, Sendable {
        /// 0: none.
        public var interface: UInt32 = 0
        public var gateway: IPAddress?

        package init(interface: UInt32 = 0, gateway: IPAddress? = nil) {
            self.interface = interface
            self.gateway = gateway
        }
    }

    public var destination: AddressPrefix
    /// `RTN_*`: unicast, local, blackhole, …
    public var type: UInt8
    public var table: UInt32
    public var metric: UInt32 = 0
    public var preferredSource: IPAddress?
    public var nextHops: [NextHop] = []
    /// Matches packets of this type of service only; 0: all.
    public var typeOfService: UInt8
    /// Matches packets from this network only; of length 0: all.
    public var source: AddressPrefix

    /// Parses the body of a message: `struct rtmsg` (12 bytes) and attributes.
    ///
    /// - Returns: `nil` for a family other than IPv4 and IPv6.
    public init?(parsing bytes: RawSpan, body: Range<Int>) throws(ParseError) {
        guard let head = try RoutingHead(parsing: bytes, body: body) else { return nil }
        let (start, family, none) = (body.lowerBound, head.family, head.destination.address)
        destination = head.destination
        source = head.source
        typeOfService = head.typeOfService
        table = head.table
        type = head.kind
        var hop = NextHop()
        var offset = start + 12
        while let attribute = try NetlinkAttribute.next(in: bytes, at: &offset, end: body.upperBound) {
            let value = attribute.value
            switch attribute.type {
            case 1: destination.address = bytes.address(value, family) ?? none  // RTA_DST
            case 2: source.address = bytes.address(value, family) ?? none  // RTA_SRC
            case 4 where value.count >= 4: hop.interface = bytes.native32(value.lowerBound)  // RTA_OIF
            case 5: hop.gateway = bytes.address(value, family)  // RTA_GATEWAY
            case 6 where value.count >= 4: metric = bytes.native32(value.lowerBound)  // RTA_PRIORITY
            case 7: preferredSource = bytes.address(value, family)  // RTA_PREFSRC
            case 9: try readHops(bytes, value, family)  // RTA_MULTIPATH
            case 15 where value.count >= 4: table = bytes.native32(value.lowerBound)  // RTA_TABLE
            case 18: hop.gateway = bytes.via(value)  // RTA_VIA
            default: break
            }
        }
        if nextHops.isEmpty, hop != NextHop() { nextHops = [hop] }
    }

    /// `struct rtnexthop` (8 bytes: length, flags, hops, interface), each with its attributes.
    private mutating func readHops(_ bytes: RawSpan, _ range: Range<Int>, _ family: AddressFamily) throws(ParseError) {
        var start = range.lowerBound
        while range.upperBound - start >= 8 {
            let length = Int(bytes.native16(start))
            guard length >= 8, start + length <= range.upperBound else {
                throw .invalidLength(offset: start, value: length)
            }
            var hop = NextHop(interface: bytes.native32(start + 4))
            var offset = start + 8
            while let attribute = try NetlinkAttribute.next(in: bytes, at: &offset, end: start + length) {
                switch attribute.type {
                case 5: hop.gateway = bytes.address(attribute.value, family)
                case 18: hop.gateway = bytes.via(attribute.value)
                default: break
                }
            }
            nextHops.append(hop)
            start += (length + 3) & ~3
        }
    }
}

/// A rule that chooses a routing table (`RTM_NEWRULE`, linux/fib_rules.h).
public struct PolicyRuleMessage: Equatable, Sendable {
    public static let newRule: UInt16 = 32  // RTM_NEWRULE

    /// What happens to a packet that matches.
    public enum Action: Equatable, Sendable {
        case lookUp(table: UInt32)
        case goTo(priority: UInt32)
        case nothing
        case blackhole
        case unreachable
        case prohibit
        case other(UInt8)
    }

    public var priority: UInt32 = 0
    public var action = Action.nothing
    public var source: AddressPrefix
    public var destination: AddressPrefix
    public var inInterface: String?
    public var outInterface: String?
    public var mark: UInt32 = 0
    public var markMask: UInt32 = .max
    public var hasMark = false
    /// `IPPROTO_*`.
    public var transport: UInt8?
    public var sourcePorts: ClosedRange<UInt16>?
    public var destinationPorts: ClosedRange<UInt16>?
    /// Whether it matches the packets that its conditions do not.
    public var isInverted: Bool
    /// The table's answer does not count where its prefix is not longer.
    public var suppressedLength: Int?
    /// Whether it has conditions that are not here: users, types of service, tunnels, VRFs.
    public var hasOthers: Bool

    /// Parses the body of a message: `struct fib_rule_hdr` (12 bytes) and attributes.
    ///
    /// - Returns: `nil` for a family other than IPv4 and IPv6.
    public init?(parsing bytes: RawSpan, body: Range<Int>) throws(ParseError) {
        guard let head = try RoutingHead(parsing: bytes, body: body) else { return nil }
        let (start, family, none) = (body.lowerBound, head.family, head.destination.address)
        destination = head.destination
        source = head.source
        hasOthers = head.typeOfService != 0
        var table = head.table
        var target: UInt32 = 0
        isInverted = bytes.native32(start + 8) & 2 != 0  // FIB_RULE_INVERT
        var offset = start + 12
        while let attribute = try NetlinkAttribute.next(in: bytes, at: &offset, end: body.upperBound) {
            let value = attribute.value
            let word = value.count >= 4 ? bytes.native32(value.lowerBound) : 0
            switch attribute.type {
            case 1: destination.address = bytes.address(value, family) ?? none  // FRA_DST
            case 2: source.address = bytes.address(value, family) ?? none  // FRA_SRC
            case 3: inInterface = bytes.text(value)  // FRA_IIFNAME
            case 4: target = word  // FRA_GOTO
            case 6: priority = word  // FRA_PRIORITY
            case 10:  // FRA_FWMARK
                mark = word
                hasMark = true
            case 12, 19, 20: hasOthers = true  // FRA_TUN_ID, FRA_L3MDEV, FRA_UID_RANGE
            case 14 where word != .max: suppressedLength = Int(word)  // FRA_SUPPRESS_PREFIXLEN
            case 15: table = word  // FRA_TABLE
            case 16: markMask = word  // FRA_FWMASK
            case 17: outInterface = bytes.text(value)  // FRA_OIFNAME
            case 22 where value.count >= 1: transport = bytes.byte(value.lowerBound)  // FRA_IP_PROTO
            case 23 where value.count >= 4: sourcePorts = bytes.ports(value.lowerBound)  // FRA_SPORT_RANGE
            case 24 where value.count >= 4: destinationPorts = bytes.ports(value.lowerBound)  // FRA_DPORT_RANGE
            default: break
            }
        }
        // FR_ACT_*
        action =
            switch head.kind {
            case 1: .lookUp(table: table)
            case 2: .goTo(priority: target)
            case 3: .nothing
            case 6: .blackhole
            case 7: .unreachable
            case 8: .prohibit
            case let number: .other(number)
            }
    }
}

/// What `struct rtmsg` and `struct fib_rule_hdr` have in the same places (12 bytes).
private struct RoutingHead {
    let family: AddressFamily
    /// The lengths of the prefixes; their addresses follow as attributes.
    let destination: AddressPrefix
    let source: AddressPrefix
    let typeOfService: UInt8
    let table: UInt32
    /// `RTN_*` of a route, `FR_ACT_*` of a rule.
    let kind: UInt8

    /// - Returns: `nil` for a family other than IPv4 and IPv6.
    init?(parsing bytes: RawSpan, body: Range<Int>) throws(ParseError) {
        guard body.count >= 12 else { throw .truncated(offset: body.lowerBound, needed: 12, available: body.count) }
        try bytes.check(12, at: body.lowerBound)
        let start = body.lowerBound
        guard let family = AddressFamily(rawValue: bytes.byte(start)) else { return nil }
        let none = family == .ipv4 ? IPAddress(ipv4: 0) : IPAddress(ipv6High: 0, low: 0)
        self.family = family
        destination = AddressPrefix(address: none, length: Int(bytes.byte(start + 1)))
        source = AddressPrefix(address: none, length: Int(bytes.byte(start + 2)))
        typeOfService = bytes.byte(start + 3)
        table = UInt32(bytes.byte(start + 4))
        kind = bytes.byte(start + 7)
    }
}

extension RawSpan {
    /// The address in `range`; `nil` where it is too short for one of the family.
    fileprivate func address(_ range: Range<Int>, _ family: AddressFamily) -> IPAddress? {
        switch family {
        case .ipv4: range.count >= 4 ? IPAddress(ipv4: big32(range.lowerBound)) : nil
        case .ipv6:
            range.count >= 16 ? IPAddress(ipv6High: big64(range.lowerBound), low: big64(range.lowerBound + 8)) : nil
        }
    }

    /// `struct rtvia`: a family, and an address of it.
    fileprivate func via(_ range: Range<Int>) -> IPAddress? {
        guard range.count >= 2, let family = AddressFamily(rawValue: UInt8(truncatingIfNeeded: native16(range.lowerBound)))
        else { return nil }
        return address(range.lowerBound + 2..<range.upperBound, family)
    }

    /// `struct fib_rule_port_range`.
    fileprivate func ports(_ offset: Int) -> ClosedRange<UInt16> {
        let (first, last) = pair16(offset)
        return first...max(first, last)
    }
}
