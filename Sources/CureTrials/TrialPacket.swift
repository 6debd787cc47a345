import Diagnosis
import LinuxSupport
import TraceModel

/// A packet made up to be sent through a copy of rules: as long as the one that it stands for, and with a mark in its payload by which
/// it is found again.
struct TrialPacket {
    /// From the IP header on.
    let bytes: [UInt8]
    let passage: TrialPlan.Passage
    private let tag: [UInt8]

    private static let tagLength = 16

    /// - Parameter acknowledged: the TCP sequence number that the packet's sender has seen.
    init(_ passage: TrialPlan.Passage, acknowledged: UInt32 = 0) {
        self.passage = passage
        tag = (0..<Self.tagLength).map { _ in UInt8.random(in: .min ... .max) }
        let isIPv4 = passage.tuple.destination.family == .ipv4
        let header = isIPv4 ? 20 : 40
        var transport = Self.head(passage, acknowledged)
        // Short enough for any link that it may be sent by.
        let length = min(max(passage.length, header + transport.count + tag.count), 1_400)
        transport += tag
        transport += [UInt8](repeating: 0, count: length - header - transport.count)
        Self.fillIn(&transport, passage)
        bytes = (isIPv4 ? Self.ipv4(passage, length) : Self.ipv6(passage, transport.count)) + transport
    }

    /// The sequence number with which a TCP segment begins.
    private static let sequence: UInt32 = 1_000
    /// What the other side has seen of this one.
    var acknowledgement: UInt32 {
        let isSyn = passage.tcpFlags.contains(.syn)
        let payload = bytes.count - (passage.tuple.destination.family == .ipv4 ? 20 : 40) - 20
        return Self.sequence &+ UInt32(max(payload, 0)) &+ (isSyn ? 1 : 0)
    }

    /// Whether received bytes are this packet, wherever its headers were rewritten, and not an ICMP error that quotes it.
    ///
    /// - Parameter hasHeader: whether they begin with the IP header.
    func isIn(_ received: ArraySlice<UInt8>, hasHeader: Bool) -> Bool {
        let tuple = passage.tuple
        var transport = received
        if hasHeader {
            let isIPv4 = tuple.destination.family == .ipv4
            guard let first = received.first, received.count > 40, first >> 4 == (isIPv4 ? 4 : 6),
                received[received.startIndex + (isIPv4 ? 9 : 6)] == tuple.transport
            else { return false }
            transport = received.dropFirst(isIPv4 ? Int(first & 0xF) * 4 : 40)
        }
        guard !tuple.isICMP || transport.first == passage.icmpType, transport.count >= tag.count else { return false }
        return transport.indices.dropLast(tag.count - 1).contains { transport[$0...].starts(with: tag) }
    }

    /// RFC 9293, RFC 768, RFC 792, RFC 4443; the checksum is 0.
    private static func head(_ passage: TrialPlan.Passage, _ acknowledged: UInt32) -> [UInt8] {
        let tuple = passage.tuple
        switch tuple.transport {
        case TransportProtocol.tcp:
            return big(tuple.sourcePort) + big(tuple.destinationPort) + big(sequence)
                + big(passage.tcpFlags.contains(.ack) ? acknowledged : 0) + [0x50, passage.tcpFlags.rawValue] + big(UInt16.max)
                + [0, 0, 0, 0]
        case TransportProtocol.udp:
            return big(tuple.sourcePort) + big(tuple.destinationPort) + [0, 0, 0, 0]
        default:
            // The query id of an echo stands in both ports.
            return [passage.icmpType, passage.icmpCode, 0, 0] + big(tuple.sourcePort) + [0, 1]
        }
    }

    private static func fillIn(_ transport: inout [UInt8], _ passage: TrialPlan.Passage) {
        let tuple = passage.tuple
        let place: Int
        switch tuple.transport {
        case TransportProtocol.tcp: place = 16
        case TransportProtocol.udp:
            place = 6
            transport.replaceSubrange(4..<6, with: big(UInt16(truncatingIfNeeded: transport.count)))
        default: place = 2
        }
        // ICMP of IPv4 has no pseudo-header.
        let pseudo =
            tuple.transport == TransportProtocol.icmp
            ? []
            : bytes(of: tuple.source) + bytes(of: tuple.destination) + big(UInt32(transport.count)) + [
                0, 0, 0, tuple.transport,
            ]
        let sum = InternetChecksum.of(pseudo + transport)
        // RFC 768: 0 stands for none.
        transport.replaceSubrange(
            place..<place + 2, with: big(sum == 0 && tuple.transport == TransportProtocol.udp ? 0xFFFF : sum))
    }

    private static func ipv4(_ passage: TrialPlan.Passage, _ length: Int) -> [UInt8] {
        var header: [UInt8] =
            [0x45, 0] + big(UInt16(truncatingIfNeeded: length)) + [
                0, 1, 0, 0, passage.timeToLive, passage.tuple.transport, 0, 0,
            ]
            + bytes(of: passage.tuple.source) + bytes(of: passage.tuple.destination)
        header.replaceSubrange(10..<12, with: big(InternetChecksum.of(header)))
        return header
    }

    private static func ipv6(_ passage: TrialPlan.Passage, _ payload: Int) -> [UInt8] {
        [0x60, 0, 0, 0] + big(UInt16(truncatingIfNeeded: payload)) + [passage.tuple.transport, passage.timeToLive]
            + bytes(of: passage.tuple.source) + bytes(of: passage.tuple.destination)
    }

    private static func bytes(of address: IPAddress) -> [UInt8] {
        address.family == .ipv4 ? big(UInt32(truncatingIfNeeded: address.low)) : big(address.high) + big(address.low)
    }

    private static func big(_ value: some FixedWidthInteger & UnsignedInteger) -> [UInt8] {
        stride(from: value.bitWidth - 8, through: 0, by: -8).map { UInt8(truncatingIfNeeded: value >> $0) }
    }
}
