internal import WireFormat

/// A packet's own label, beyond the bytes that the correlation reads: the sender's number, the direction, and for TCP, which may
/// send the same bytes again by itself, the IP ID.
struct Serial: Hashable {
    private static let magic: UInt64 = 0x7365_7269_616C_2331
    /// From the first byte of what TCP, UDP or ICMP carries; `Benchmarks/TaggedTraffic` writes it there.
    private static let offset = 100

    var number: UInt64
    var isReply: Bool
    var attempt: UInt16

    /// - Returns: `nil` for a packet that carries none.
    init?(_ bytes: RawSpan, packet: Range<Int>) {
        let start = packet.lowerBound
        guard packet.count >= 40, bytes.byte(start) >> 4 == 4 else { return nil }
        let transport = start + Int(bytes.byte(start) & 0xF) * 4
        attempt = 0
        let content: Int
        switch bytes.byte(start + 9) {
        case 1:
            content = transport + 8
            isReply = bytes.byte(transport) == 0
        case 6:
            content = transport + Int(bytes.byte(transport + 12) >> 4) * 4
            isReply = bytes.big16(transport) == 7001
            attempt = bytes.big16(start + 4)
        case 17:
            content = transport + 8
            isReply = false
        default: return nil
        }
        let place = content + Self.offset
        guard place + 16 <= packet.upperBound, bytes.big64(place) == Self.magic else { return nil }
        precondition(place >= start + PacketParser.reach, "the correlation would see the serial number")
        number = bytes.big64(place + 8)
    }
}
