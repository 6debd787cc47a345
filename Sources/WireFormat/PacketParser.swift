public import TraceModel

/// Reads IP, TCP, UDP, ICMP and SCTP headers, as far as they were copied, into a `Packet`.
public struct PacketParser: Sendable {
    /// Bytes from the IP header on that are parsed. Bytes copied beyond them are not: one packet has one fingerprint,
    /// however much of it a collector or tcpdump copied.
    public static let reach = 128

    private let seed: UInt64

    /// - Parameter seed: starts the fingerprint's hash; equal seeds give equal fingerprints. A collector takes a random
    ///   one, so that nobody can send packets that collide.
    public init(seed: UInt64 = 0) { self.seed = seed }

    /// Parses the packet in `range` of `bytes`, which starts at the IP header and may be cut short behind it.
    ///
    /// - Throws: `ParseError` where the IP header itself is incomplete or inconsistent. A transport header that is cut
    ///   short or absent (a later fragment) is no error: ports are 0 then.
    public func parse(_ bytes: RawSpan, _ range: Range<Int>) throws(ParseError) -> Packet {
        guard let first = range.first else { throw .truncated(offset: range.lowerBound, needed: 1, available: 0) }
        try bytes.check(range.count, at: range.lowerBound)
        let range = range.prefix(Self.reach)
        switch bytes.byte(first) >> 4 {
        case 4: return try parseIPv4(bytes, range, depth: 0)
        case 6: return try parseIPv6(bytes, range, depth: 0)
        case let version: throw .unknownVersion(version)
        }
    }

    /// RFC 791, section 3.1.
    private func parseIPv4(_ bytes: RawSpan, _ range: Range<Int>, depth: Int) throws(ParseError) -> Packet {
        let start = range.lowerBound
        guard range.count >= 20 else { throw .truncated(offset: start, needed: 20, available: range.count) }
        let headerLength = Int(bytes.byte(start) & 0xF) * 4
        guard headerLength >= 20 else { throw .invalidLength(offset: start, value: headerLength) }
        guard range.count >= headerLength else {
            throw .truncated(offset: start, needed: headerLength, available: range.count)
        }
        let totalLength = Int(bytes.big16(start + 2))
        // Large packets of segmentation offload may say 0 (RFC 791 has no room for more than 65535).
        guard totalLength == 0 || totalLength >= headerLength else {
            throw .invalidLength(offset: start + 2, value: totalLength)
        }
        let fragment = bytes.big16(start + 6)
        let fragmentOffset = fragment & 0x1FFF
        let moreFragments = fragment & 0x2000
        let transport = bytes.byte(start + 9)

        var hash = FingerprintHash(seed: seed)
        hash.mix(
            UInt64(transport) | UInt64(totalLength) << 8 | UInt64(bytes.big16(start + 4)) << 24
                | UInt64(fragmentOffset | moreFragments) << 40 | 4 << 60)
        var packet = Packet(
            tuple: PacketTuple(
                source: IPAddress(ipv4: bytes.big32(start + 12)), destination: IPAddress(ipv4: bytes.big32(start + 16)),
                sourcePort: 0, destinationPort: 0, transport: transport),
            fingerprint: Fingerprint(header: 0, payload: 0), length: UInt32(totalLength),
            timeToLive: bytes.byte(start + 8), isFragment: fragmentOffset != 0 || moreFragments != 0)
        let end = totalLength == 0 ? range.upperBound : min(range.upperBound, start + totalLength)
        let body = start + headerLength..<max(start + headerLength, end)
        parseTransport(bytes, body, isLaterFragment: fragmentOffset != 0, depth: depth, into: &packet, hash: &hash)
        return packet
    }

    /// RFC 8200, section 3 and 4.
    private func parseIPv6(_ bytes: RawSpan, _ range: Range<Int>, depth: Int) throws(ParseError) -> Packet {
        let start = range.lowerBound
        guard range.count >= 40 else { throw .truncated(offset: start, needed: 40, available: range.count) }
        let payloadLength = Int(bytes.big16(start + 4))
        var next = bytes.byte(start + 6)
        var offset = start + 40
        let end = payloadLength == 0 ? range.upperBound : min(range.upperBound, start + 40 + payloadLength)
        var fragment: UInt64 = 0
        var isLaterFragment = false

        walk: while true {
            switch next {
            case 0, 43, 60:  // hop-by-hop options, routing, destination options: length in units of 8, less one
                guard end - offset >= 8 else { break walk }
                let length = (Int(bytes.byte(offset + 1)) + 1) * 8
                next = bytes.byte(offset)
                offset += length
            case 51:  // authentication header (RFC 4302): length in units of 4, less two
                guard end - offset >= 8 else { break walk }
                let length = (Int(bytes.byte(offset + 1)) + 2) * 4
                next = bytes.byte(offset)
                offset += length
            case 44:  // fragment header
                guard end - offset >= 8 else { break walk }
                let position = bytes.big16(offset + 2)
                isLaterFragment = position & 0xFFF8 != 0
                fragment = UInt64(bytes.big32(offset + 4)) ^ UInt64(position & 0xFFF9) << 32
                next = bytes.byte(offset)
                offset += 8
            default:
                break walk
            }
            if offset >= end || isLaterFragment { break }
        }

        var hash = FingerprintHash(seed: seed)
        hash.mix(UInt64(next) | UInt64(payloadLength) << 8 | UInt64(bytes.big32(start) & 0xFFFFF) << 24 | 6 << 60)
        if fragment != 0 { hash.mix(fragment) }
        var packet = Packet(
            tuple: PacketTuple(
                source: IPAddress(ipv6High: bytes.big64(start + 8), low: bytes.big64(start + 16)),
                destination: IPAddress(ipv6High: bytes.big64(start + 24), low: bytes.big64(start + 32)), sourcePort: 0,
                destinationPort: 0, transport: next),
            fingerprint: Fingerprint(header: 0, payload: 0), length: UInt32(40 + payloadLength),
            timeToLive: bytes.byte(start + 7), isFragment: fragment != 0)
        offset = min(offset, end)
        parseTransport(
            bytes, offset..<max(offset, end), isLaterFragment: isLaterFragment, depth: depth, into: &packet, hash: &hash)
        return packet
    }

    private func parseTransport(
        _ bytes: RawSpan, _ body: Range<Int>, isLaterFragment: Bool, depth: Int, into packet: inout Packet,
        hash: inout FingerprintHash
    ) {
        let start = body.lowerBound
        let count = body.count
        var payload = body
        defer {
            if depth == 0, mayCarry(packet.tuple), !isLaterFragment { packet.carries = carried(bytes, body, packet.tuple) }
        }
        if isLaterFragment {
            finish(bytes, payload, into: &packet, hash: &hash)
            return
        }
        switch packet.tuple.transport {
        case TransportProtocol.tcp where count >= 20:  // RFC 9293, section 3.1
            packet.tuple.sourcePort = bytes.big16(start)
            packet.tuple.destinationPort = bytes.big16(start + 2)
            packet.tcpFlags = TCPFlags(rawValue: bytes.byte(start + 13))
            hash.mix(UInt64(bytes.big32(start + 4)) << 32 | UInt64(bytes.big32(start + 8)))
            // ECN's two bits may be stripped on the way (the ECN target).
            hash.mix(UInt64(packet.tcpFlags.rawValue & 0x3F) | UInt64(bytes.big16(start + 14)) << 8)
            let headerLength = min(count, max(20, Int(bytes.byte(start + 12) >> 4) * 4))
            var traits: TCPSegment.Traits = count > headerLength ? [.isRead, .hasData] : .isRead
            if bytes.big16(start + 14) == 0, !packet.tcpFlags.contains(.rst) { traits.insert(.closesWindow) }
            packet.segment = TCPSegment(sequence: bytes.big16(start + 6), traits: traits)
            mixTCPOptions(bytes, start + 20..<start + headerLength, hash: &hash)
            payload = start + headerLength..<body.upperBound
        case TransportProtocol.tcp where count >= 8, 33 where count >= 8:  // the quoted head within an ICMP error; DCCP
            packet.tuple.sourcePort = bytes.big16(start)
            packet.tuple.destinationPort = bytes.big16(start + 2)
            hash.mix(UInt64(bytes.big32(start + 4)))
            payload = start + min(count, 20)..<body.upperBound
        case TransportProtocol.udp where count >= 8, 136 where count >= 8:  // RFC 768, RFC 3828
            packet.tuple.sourcePort = bytes.big16(start)
            packet.tuple.destinationPort = bytes.big16(start + 2)
            hash.mix(UInt64(bytes.big16(start + 4)))
            payload = start + 8..<body.upperBound
        case TransportProtocol.sctp where count >= 12:  // RFC 9260, section 3.1
            packet.tuple.sourcePort = bytes.big16(start)
            packet.tuple.destinationPort = bytes.big16(start + 2)
            hash.mix(UInt64(bytes.big32(start + 4)))
            payload = start + 12..<body.upperBound
        case TransportProtocol.icmp where count >= 8, TransportProtocol.icmpv6 where count >= 8:
            parseICMP(bytes, body, depth: depth, into: &packet, hash: &hash)
            return
        default:
            break
        }
        finish(bytes, payload, into: &packet, hash: &hash)
    }

    /// RFC 792 and RFC 4443.
    private func parseICMP(
        _ bytes: RawSpan, _ body: Range<Int>, depth: Int, into packet: inout Packet, hash: inout FingerprintHash
    ) {
        let start = body.lowerBound
        packet.icmpType = bytes.byte(start)
        packet.icmpCode = bytes.byte(start + 1)
        hash.mix(UInt64(packet.icmpType) << 8 | UInt64(packet.icmpCode))
        let isVersion6 = packet.tuple.transport == TransportProtocol.icmpv6
        let payload = start + 8..<body.upperBound
        switch (isVersion6, packet.icmpType) {
        case (false, 0), (false, 8), (true, 128), (true, 129), (false, 13), (false, 14), (false, 15), (false, 16),
            (false, 17), (false, 18):
            // A query: translation rewrites the id, not the sequence number.
            let identifier = bytes.big16(start + 4)
            packet.tuple.sourcePort = identifier
            packet.tuple.destinationPort = identifier
            packet.icmpSequence = bytes.big16(start + 6)
            hash.mix(UInt64(packet.icmpSequence))
            finish(bytes, payload, into: &packet, hash: &hash)
        case (false, 3), (false, 4), (false, 5), (false, 11), (false, 12), (true, 1), (true, 2), (true, 3), (true, 4):
            // An error quotes the packet that caused it, and translation rewrites that one too.
            hash.mix(UInt64(bytes.big32(start + 4)))
            guard depth == 0, let inner = quotedPacket(bytes, payload) else {
                finish(bytes, payload, into: &packet, hash: &hash)
                return
            }
            hash.mix(inner.fingerprint.header)
            packet.quotedFlow = inner.tuple.flow
            packet.quotedHeader = inner.fingerprint.header
            packet.fingerprint = Fingerprint(header: hash.state, payload: inner.fingerprint.payload)
        default:
            hash.mix(UInt64(bytes.big32(start + 4)))
            finish(bytes, payload, into: &packet, hash: &hash)
        }
    }

    @inline(__always)
    private func mayCarry(_ tuple: PacketTuple) -> Bool {
        switch tuple.transport {
        case TransportProtocol.tcp, TransportProtocol.icmp, TransportProtocol.icmpv6: false
        case TransportProtocol.udp:
            tuple.destinationPort == 4789 || tuple.destinationPort == 8472 || tuple.destinationPort == 6081
        default: true
        }
    }

    private func carried(_ bytes: RawSpan, _ body: Range<Int>, _ tuple: PacketTuple) -> UInt64 {
        let inner = Encapsulation.inner(
            bytes, transport: tuple.transport, destinationPort: tuple.destinationPort, body)
        return inner.flatMap { quotedPacket(bytes, $0) }?.identity ?? 0
    }

    private func quotedPacket(_ bytes: RawSpan, _ range: Range<Int>) -> Packet? {
        guard let first = range.first else { return nil }
        do {
            return bytes.byte(first) >> 4 == 6
                ? try parseIPv6(bytes, range, depth: 1) : try parseIPv4(bytes, range, depth: 1)
        } catch {
            return nil
        }
    }

    /// All options but the value of the maximum segment size (RFC 9293, section 3.2), which TCPMSS rewrites.
    private func mixTCPOptions(_ bytes: RawSpan, _ range: Range<Int>, hash: inout FingerprintHash) {
        var offset = range.lowerBound
        while offset < range.upperBound {
            let kind = bytes.byte(offset)
            if kind == 0 { return }
            if kind == 1 {
                offset += 1
                continue
            }
            guard offset + 1 < range.upperBound else { return }
            let length = Int(bytes.byte(offset + 1))
            guard length >= 2, offset + length <= range.upperBound else { return }
            if kind != 2 { hash.mix(bytes, offset..<offset + length) }
            offset += length
        }
    }

    private func finish(
        _ bytes: RawSpan, _ payload: Range<Int>, into packet: inout Packet, hash: inout FingerprintHash
    ) {
        var payloadHash = FingerprintHash(seed: seed ^ 0x6C62_272E_07BB_0142)
        payloadHash.mix(bytes, payload)
        packet.fingerprint = Fingerprint(header: hash.state, payload: payloadHash.state)
    }
}
