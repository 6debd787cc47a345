public import TraceModel

/// A connection tracking entry as ctnetlink reports it (linux/netfilter/nfnetlink_conntrack.h): the tuple of the first
/// packet, and the tuple that replies have. They mirror each other unless addresses are translated.
public struct ConntrackMessage: Equatable, Sendable {
    /// `nlmsg_type` of `IPCTNL_MSG_CT_NEW` and `IPCTNL_MSG_CT_DELETE` in `NFNL_SUBSYS_CTNETLINK` (1).
    public static let new: UInt16 = 0x0100
    public static let delete: UInt16 = 0x0102

    public var original: PacketTuple
    public var reply: PacketTuple

    public var isTranslated: Bool { original.reversed != reply }

    /// Parses the body of a message: `struct nfgenmsg` and attributes. `nil` where a tuple is absent or of a family
    /// other than IPv4 and IPv6.
    public init?(parsing bytes: RawSpan, body: Range<Int>) throws(ParseError) {
        guard body.count >= 4 else { throw .truncated(offset: body.lowerBound, needed: 4, available: body.count) }
        var original: PacketTuple?
        var reply: PacketTuple?
        var offset = body.lowerBound + 4
        while let attribute = try NetlinkAttribute.next(in: bytes, at: &offset, end: body.upperBound) {
            switch attribute.type {
            case 1: original = try Self.tuple(bytes, attribute.value)  // CTA_TUPLE_ORIG
            case 2: reply = try Self.tuple(bytes, attribute.value)  // CTA_TUPLE_REPLY
            default: break
            }
        }
        guard let original, let reply else { return nil }
        self.original = original
        self.reply = reply
    }

    private static func tuple(_ bytes: RawSpan, _ range: Range<Int>) throws(ParseError) -> PacketTuple? {
        var source: IPAddress?
        var destination: IPAddress?
        var sourcePort: UInt16 = 0
        var destinationPort: UInt16 = 0
        var transport: UInt8 = 0
        var offset = range.lowerBound
        while let group = try NetlinkAttribute.next(in: bytes, at: &offset, end: range.upperBound) {
            var inner = group.value.lowerBound
            while let item = try NetlinkAttribute.next(in: bytes, at: &inner, end: group.value.upperBound) {
                let start = item.value.lowerBound
                let count = item.value.count
                switch (group.type, item.type) {
                case (1, 1) where count >= 4: source = IPAddress(ipv4: bytes.big32(start))  // CTA_IP_V4_SRC
                case (1, 2) where count >= 4: destination = IPAddress(ipv4: bytes.big32(start))
                case (1, 3) where count >= 16:  // CTA_IP_V6_SRC
                    source = IPAddress(ipv6High: bytes.big64(start), low: bytes.big64(start + 8))
                case (1, 4) where count >= 16:
                    destination = IPAddress(ipv6High: bytes.big64(start), low: bytes.big64(start + 8))
                case (2, 1) where count >= 1: transport = bytes.byte(start)  // CTA_PROTO_NUM
                case (2, 2) where count >= 2: sourcePort = bytes.big16(start)
                case (2, 3) where count >= 2: destinationPort = bytes.big16(start)
                case (2, 4) where count >= 2, (2, 7) where count >= 2:  // CTA_PROTO_ICMP_ID, CTA_PROTO_ICMPV6_ID
                    sourcePort = bytes.big16(start)
                    destinationPort = sourcePort
                default: break
                }
            }
        }
        guard let source, let destination else { return nil }
        return PacketTuple(
            source: source, destination: destination, sourcePort: sourcePort, destinationPort: destinationPort,
            transport: transport)
    }
}
