/// What of one packet's headers is kept: enough to recognise it elsewhere and to show it to a person.
/// A fixed-size value.
@frozen public struct Packet: Sendable {
    public var tuple: PacketTuple
    public var fingerprint: Fingerprint
    /// Total length in bytes from the IP header on (IPv4 total length; IPv6 40 + payload length).
    public var length: UInt32
    /// IPv4 TTL or IPv6 hop limit.
    public var timeToLive: UInt8
    /// ICMP type, else 0.
    public var icmpType: UInt8
    /// ICMP code, else 0.
    public var icmpCode: UInt8
    /// TCP flags (RFC 9293, the low 8 bits), else 0.
    public var tcpFlags: TCPFlags
    /// ICMP echo sequence number, else 0.
    public var icmpSequence: UInt16
    /// A piece of a larger packet.
    public var isFragment: Bool
    /// The sequence number and traits of a TCP segment; empty for other protocols.
    public var segment = TCPSegment()
    /// The `identity` of the packet that this one carries through a tunnel; 0 for none.
    public var carries: UInt64
    /// For an ICMP error, the flow of the packet that it is about; 0 for others.
    public var quotedFlow: UInt64 = 0
    /// For an ICMP error that quotes the transport header whole, `fingerprint.header` of the packet that it is about.
    public var quotedHeader: UInt64 = 0

    @inlinable public init(
        tuple: PacketTuple, fingerprint: Fingerprint, length: UInt32, timeToLive: UInt8, icmpType: UInt8 = 0,
        icmpCode: UInt8 = 0, tcpFlags: TCPFlags = [], icmpSequence: UInt16 = 0, isFragment: Bool = false, carries: UInt64 = 0
    ) {
        self.carries = carries
        self.tuple = tuple
        self.fingerprint = fingerprint
        self.length = length
        self.timeToLive = timeToLive
        self.icmpType = icmpType
        self.icmpCode = icmpCode
        self.tcpFlags = tcpFlags
        self.icmpSequence = icmpSequence
        self.isFragment = isFragment
    }
}

extension Packet {
    /// Holds a place.
    public static let none = Packet(
        tuple: PacketTuple(
            source: IPAddress(ipv4: 0), destination: IPAddress(ipv4: 0), sourcePort: 0, destinationPort: 0, transport: 0),
        fingerprint: Fingerprint(header: 0, payload: 0), length: 0, timeToLive: 0)

    /// An ICMP message about another packet, which it quotes (RFC 792, RFC 4443).
    public var isICMPError: Bool {
        switch tuple.transport {
        case TransportProtocol.icmp: [3, 4, 5, 11, 12].contains(icmpType)
        case TransportProtocol.icmpv6: (1...4).contains(icmpType)
        default: false
        }
    }

    /// An ICMP error that tells a sender how large its packets may be: fragmentation needed, packet too big (RFC 1191, RFC 8201).
    public var tellsPathMTU: Bool {
        switch tuple.transport {
        case TransportProtocol.icmp: icmpType == 3 && icmpCode == 4
        case TransportProtocol.icmpv6: icmpType == 2
        default: false
        }
    }

    /// The flow that it belongs to, as far as its own headers tell: those of the packet that it is about, for an ICMP error.
    public var flow: UInt64 { quotedFlow != 0 ? quotedFlow : tuple.flow }

    /// From its headers alone, as far as a packet that carries it shows them; never 0.
    public var identity: UInt64 { Self.identity(fingerprint, tuple) }

    public static func identity(_ fingerprint: Fingerprint, _ tuple: PacketTuple) -> UInt64 {
        let ports = UInt64(tuple.sourcePort) << 16 | UInt64(tuple.destinationPort)
        var hash = fingerprint.header ^ tuple.source.low &* 0x9E37_79B9_7F4A_7C15
        hash = (hash ^ hash >> 29) &* 0xBF58_476D_1CE4_E5B9 ^ tuple.destination.low
        hash = (hash ^ hash >> 31) &* 0x94D0_49BB_1331_11EB ^ tuple.source.high ^ tuple.destination.high &* 3
        hash = (hash ^ hash >> 29) &* 0xD6E8_FEB8_6659_FD93 ^ ports
        return hash | 1
    }
}

/// Addresses, transport protocol and ports: what address translation rewrites.
///
/// Flat, five words, so that two are compared and one is copied in a few instructions: every live journey has one.
@frozen public struct PacketTuple: Sendable, BitwiseCopyable {
    @usableFromInline var sourceHigh: UInt64
    @usableFromInline var sourceLow: UInt64
    @usableFromInline var destinationHigh: UInt64
    @usableFromInline var destinationLow: UInt64
    /// All but the addresses' numbers, from the lowest bits on: the ports, the transport, the families of source and destination.
    @usableFromInline var rest: UInt64

    /// The port (TCP, UDP, UDP-Lite, DCCP, SCTP), the query id (ICMP echo and its like, in both fields), else 0.
    @inlinable public var sourcePort: UInt16 {
        get { UInt16(truncatingIfNeeded: rest) }
        set { rest = rest & ~0xFFFF | UInt64(newValue) }
    }
    @inlinable public var destinationPort: UInt16 {
        get { UInt16(truncatingIfNeeded: rest >> 16) }
        set { rest = rest & ~0xFFFF_0000 | UInt64(newValue) << 16 }
    }
    /// `IPPROTO_*`.
    @inlinable public var transport: UInt8 {
        get { UInt8(truncatingIfNeeded: rest >> 32) }
        set { rest = rest & ~(0xFF << 32) | UInt64(newValue) << 32 }
    }
    @usableFromInline var sourceFamily: AddressFamily {
        @inlinable get { rest >> 40 & 1 == 0 ? .ipv4 : .ipv6 }
        @inlinable set { rest = rest & ~(1 << 40) | Self.bit(newValue) << 40 }
    }
    @usableFromInline var destinationFamily: AddressFamily {
        @inlinable get { rest >> 41 & 1 == 0 ? .ipv4 : .ipv6 }
        @inlinable set { rest = rest & ~(1 << 41) | Self.bit(newValue) << 41 }
    }

    @inlinable @inline(__always)
    static func bit(_ family: AddressFamily) -> UInt64 { family == .ipv6 ? 1 : 0 }

    @inlinable public var source: IPAddress {
        get { IPAddress(high: sourceHigh, low: sourceLow, family: sourceFamily) }
        set {
            sourceHigh = newValue.high
            sourceLow = newValue.low
            sourceFamily = newValue.family
        }
    }

    @inlinable public var destination: IPAddress {
        get { IPAddress(high: destinationHigh, low: destinationLow, family: destinationFamily) }
        set {
            destinationHigh = newValue.high
            destinationLow = newValue.low
            destinationFamily = newValue.family
        }
    }

    @inlinable public init(
        source: IPAddress, destination: IPAddress, sourcePort: UInt16, destinationPort: UInt16, transport: UInt8
    ) {
        sourceHigh = source.high
        sourceLow = source.low
        destinationHigh = destination.high
        destinationLow = destination.low
        rest =
            UInt64(sourcePort) | UInt64(destinationPort) << 16 | UInt64(transport) << 32
            | Self.bit(source.family) << 40 | Self.bit(destination.family) << 41
    }

    /// Whether both come from the same address.
    @inlinable @inline(__always)
    public func hasSource(of other: PacketTuple) -> Bool {
        (sourceLow ^ other.sourceLow) | (sourceHigh ^ other.sourceHigh) | ((rest ^ other.rest) & 1 << 40) == 0
    }

    /// The tuple of a packet going the other way.
    @inlinable public var reversed: PacketTuple {
        PacketTuple(
            source: destination, destination: source, sourcePort: destinationPort, destinationPort: sourcePort,
            transport: transport)
    }

    /// Whether the packet has ports; ICMP has none, and packets without them have 0 in their place.
    public var hasPorts: Bool { !isICMP && (sourcePort != 0 || destinationPort != 0) }

    @inlinable public var isICMP: Bool { transport == TransportProtocol.icmp || transport == TransportProtocol.icmpv6 }
}

extension PacketTuple: Hashable {
    @inlinable @inline(__always)
    public static func == (one: PacketTuple, other: PacketTuple) -> Bool {
        let addresses =
            (one.sourceLow ^ other.sourceLow) | (one.destinationLow ^ other.destinationLow)
            | (one.sourceHigh ^ other.sourceHigh) | (one.destinationHigh ^ other.destinationHigh)
        return addresses | (one.rest ^ other.rest) == 0
    }

    /// One word for the hasher instead of nine.
    public func hash(into hasher: inout Hasher) { hasher.combine(mixed) }

    /// A hash of its own. Begins with random numbers, so that nobody can send packets that collide.
    public var mixed: UInt64 {
        func fold(_ one: UInt64, _ other: UInt64) -> UInt64 {
            let product = one.multipliedFullWidth(by: other)
            return product.high ^ product.low
        }
        let keys = Self.keys
        let low = fold(sourceLow ^ keys.0, destinationLow ^ keys.1)
        let high = fold(sourceHigh ^ keys.1, destinationHigh ^ keys.2)
        return fold(low ^ rest ^ keys.2, high ^ keys.0)
    }

    /// Hash of the connection: the same for both directions, another behind a translation, never 0.
    public var flow: UInt64 {
        let source = (sourceHigh, sourceLow, UInt64(sourcePort))
        let destination = (destinationHigh, destinationLow, UInt64(destinationPort))
        return (source < destination ? self : reversed).mixed | 1
    }

    private static let keys = (UInt64.random(in: 1...(.max)), UInt64.random(in: 1...(.max)), UInt64.random(in: 1...(.max)))
}

extension PacketTuple: CustomStringConvertible {
    public var description: String {
        let name = TransportProtocol.name(transport)
        guard hasPorts else { return "\(name) \(source) → \(destination)" }
        return "\(name) \(endpoint(source, sourcePort)) → \(endpoint(destination, destinationPort))"
    }

    private func endpoint(_ address: IPAddress, _ port: UInt16) -> String {
        address.family == .ipv6 ? "[\(address)]:\(port)" : "\(address):\(port)"
    }
}

/// Messages of ICMP and ICMPv6 by type (IANA's registries of ICMP parameters).
public enum ICMPMessage {
    private static let names4: [UInt8: String] = [
        0: "echo reply", 3: "destination unreachable", 4: "source quench", 5: "redirect", 8: "echo request",
        9: "router advertisement", 10: "router solicitation", 11: "time exceeded", 12: "parameter problem",
        13: "timestamp request", 14: "timestamp reply",
    ]
    private static let names6: [UInt8: String] = [
        1: "destination unreachable", 2: "packet too big", 3: "time exceeded", 4: "parameter problem", 128: "echo request",
        129: "echo reply", 130: "multicast listener query", 131: "multicast listener report", 132: "multicast listener done",
        133: "router solicitation", 134: "router advertisement", 135: "neighbour solicitation", 136: "neighbour advertisement",
        137: "redirect", 143: "multicast listener report",
    ]

    // By the codes of a type, as far as they have common names.
    private static let codes4: [UInt8: [String]] = [
        3: [
            "network unreachable", "host unreachable", "protocol unreachable", "port unreachable", "fragmentation needed",
            "source route failed", "network unknown", "host unknown", "source host isolated", "network prohibited",
            "host prohibited", "network unreachable for this service", "host unreachable for this service",
            "administratively prohibited", "host precedence violation", "precedence cutoff",
        ],
        5: ["for the network", "for the host", "for service and network", "for service and host"],
        11: ["TTL exceeded", "fragment reassembly time exceeded"],
    ]
    private static let codes6: [UInt8: [String]] = [
        1: [
            "no route", "administratively prohibited", "beyond scope of source", "address unreachable", "port unreachable",
            "source refused", "route rejected",
        ],
        3: ["hop limit exceeded", "fragment reassembly time exceeded"],
        4: ["erroneous header", "unknown next header", "unknown option"],
    ]

    /// `echo request`; with the code where the type's codes have names: `destination unreachable (port unreachable)`.
    ///
    /// - Returns: `nil` for a type without a common name, and for a packet that is not of ICMP.
    public static func name(of packet: Packet) -> String? {
        let (names, codes): ([UInt8: String], [UInt8: [String]])
        switch packet.tuple.transport {
        case TransportProtocol.icmp: (names, codes) = (names4, codes4)
        case TransportProtocol.icmpv6: (names, codes) = (names6, codes6)
        default: return nil
        }
        guard let name = names[packet.icmpType] else { return nil }
        guard let own = codes[packet.icmpType], Int(packet.icmpCode) < own.count else { return name }
        return "\(name) (\(own[Int(packet.icmpCode)]))"
    }
}

/// IANA protocol numbers by the names of `/etc/protocols`.
public enum TransportProtocol {
    public static let icmp: UInt8 = 1
    public static let tcp: UInt8 = 6
    public static let udp: UInt8 = 17
    public static let icmpv6: UInt8 = 58
    public static let sctp: UInt8 = 132
    public static let dccp: UInt8 = 33
    /// The protocol where a text does not say it. IANA reserves this number, so packets hardly ever carry it.
    public static let unknown: UInt8 = 255

    /// Protocols of which iptables takes `--dport`.
    public static let withPortOptions: Set<UInt8> = [tcp, udp, sctp, dccp]

    private static let names: [UInt8: String] = [
        1: "icmp", 2: "igmp", 4: "ipip", 6: "tcp", 17: "udp", 33: "dccp", 41: "ipv6", 47: "gre", 50: "esp", 51: "ah",
        58: "icmpv6", 89: "ospf", 103: "pim", 132: "sctp", 136: "udplite",
        unknown: "unknown",
    ]

    /// `tcp`, `udp`, …; the number in decimal where it has no common name.
    public static func name(_ number: UInt8) -> String { names[number] ?? String(number) }

    public static func number(_ name: String) -> UInt8? {
        names.first { $0.value == name.lowercased() }?.key ?? UInt8(name)
    }
}

/// What of a packet address translation, routing and mangling leave alone, as 128 bits.
///
/// Equal packets have equal fingerprints; two different packets share one with negligible probability, unless
/// they are copies of one another within the copied range (identical datagrams with IP ID 0).
@frozen public struct Fingerprint: Sendable, Hashable, BitwiseCopyable {
    /// From the headers.
    public var header: UInt64
    /// From the payload within the copied range.
    public var payload: UInt64

    @inlinable public init(header: UInt64, payload: UInt64) {
        self.header = header
        self.payload = payload
    }
}
