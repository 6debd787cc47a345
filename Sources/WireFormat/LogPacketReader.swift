internal import TraceModel

/// Gathers a packet's fields as they come along a line of LOG's.
struct LogPacketReader {
    /// One packet's fields: the logged one's, or those of the packet that an ICMP error quotes.
    private struct Header {
        var source: IPAddress?
        var destination: IPAddress?
        var length: UInt64 = 0
        var identification: UInt64 = 0
        var flowLabel: UInt64 = 0
        var fragmentOffset: UInt64 = 0
        var hasMoreFragments = false
        var timeToLive: UInt64 = 0
        var transport: UInt8 = 0
        var hasTransport = false
        var sourcePort: UInt64 = 0
        var destinationPort: UInt64 = 0
        /// Of UDP.
        var transportLength: UInt64 = 0
        var sequence: UInt64 = 0
        var acknowledgement: UInt64 = 0
        var window: UInt64 = 0
        var type: UInt64 = 0
        var code: UInt64 = 0
        /// The query id of ICMP.
        var query: UInt64 = 0
        /// MTU, pointer and the like.
        var extra: UInt64 = 0
        var tcpFlags: TCPFlags = []

        /// What translation, routing and mangling leave alone.
        func mix(into hash: inout FingerprintHash) {
            hash.mix(UInt64(transport) | length << 8 | identification << 24 | fragmentOffset << 40)
            hash.mix(flowLabel | transportLength << 24 | (hasMoreFragments ? 1 << 60 : 0))
            hash.mix(sequence | acknowledgement << 32)
            hash.mix(window | UInt64(tcpFlags.rawValue & 0x3F) << 16 | type << 24 | code << 32 | extra << 40)
        }
    }

    private var outer = Header()
    private var inner = Header()
    private var hasInner = false

    @inline(__always)
    mutating func take(_ field: LogFields.Field, _ bytes: RawSpan) {
        if field.isInner {
            hasInner = true
            Self.take(field, bytes, into: &inner)
        } else {
            Self.take(field, bytes, into: &outer)
        }
    }

    @inline(__always)
    private static func take(_ field: LogFields.Field, _ bytes: RawSpan, into header: inout Header) {
        guard field.hasValue else { return flag(field.key, into: &header) }
        func number() -> UInt64 { LogFields.decimal(bytes, field.value) }
        switch field.key {
        case LogKey.source: header.source = LogFields.address(bytes, field.value)
        case LogKey.destination: header.destination = LogFields.address(bytes, field.value)
        // UDP has a length of its own behind PROTO=.
        case LogKey.length: header.hasTransport ? (header.transportLength = number()) : (header.length = number())
        case LogKey.timeToLive, LogKey.hopLimit: header.timeToLive = number()
        case LogKey.flowLabel: header.flowLabel = number()
        case LogKey.id:
            if header.hasTransport {
                header.query = number()
            } else if header.source?.family == .ipv6 {
                // The identification of a fragment is hexadecimal (`ID:%08x`).
                header.identification = UInt64(LogFields.hexadecimal(bytes, field.value))
            } else {
                header.identification = number()
            }
        case LogKey.fragment: header.fragmentOffset = number() & 0xFFFF
        case LogKey.transport:
            header.transport = LogFields.transport(bytes, field.value)
            header.hasTransport = true
        case LogKey.sourcePort: header.sourcePort = number()
        case LogKey.destinationPort: header.destinationPort = number()
        case LogKey.sequence: header.sequence = number()
        case LogKey.acknowledgement: header.acknowledgement = number()
        case LogKey.window: header.window = number()
        case LogKey.type: header.type = number()
        case LogKey.code: header.code = number()
        case LogKey.mtu, LogKey.parameter: header.extra = number()
        default: break
        }
    }

    private static func flag(_ key: UInt64, into header: inout Header) {
        switch key {
        case LogKey.moreFragments: header.hasMoreFragments = true
        case LogKey.fin: header.tcpFlags.insert(.fin)
        case LogKey.syn: header.tcpFlags.insert(.syn)
        case LogKey.rst: header.tcpFlags.insert(.rst)
        case LogKey.psh: header.tcpFlags.insert(.psh)
        case LogKey.acknowledgement: header.tcpFlags.insert(.ack)
        case LogKey.urg: header.tcpFlags.insert(.urg)
        case LogKey.ece: header.tcpFlags.insert(.ece)
        case LogKey.cwr: header.tcpFlags.insert(.cwr)
        default: break
        }
    }

    func packet(at offset: Int, seed: UInt64) throws(ParseError) -> Packet {
        guard let source = outer.source, let destination = outer.destination, source.family == destination.family else {
            throw .missingField(offset: offset, name: outer.source == nil ? "SRC" : "DST")
        }
        guard outer.hasTransport else { throw .missingField(offset: offset, name: "PROTO") }
        let isICMP = outer.transport == TransportProtocol.icmp || outer.transport == TransportProtocol.icmpv6
        let sourcePort = UInt16(truncatingIfNeeded: isICMP ? outer.query : outer.sourcePort)
        let destinationPort = UInt16(truncatingIfNeeded: isICMP ? outer.query : outer.destinationPort)
        var hash = FingerprintHash(seed: seed ^ 0x4C4F_475F_4C4F_475F)
        outer.mix(into: &hash)
        var payload = FingerprintHash(seed: seed)
        if hasInner { inner.mix(into: &payload) }
        return Packet(
            tuple: PacketTuple(
                source: source, destination: destination, sourcePort: sourcePort, destinationPort: destinationPort,
                transport: outer.transport),
            fingerprint: Fingerprint(header: hash.state, payload: payload.state),
            length: UInt32(truncatingIfNeeded: outer.length), timeToLive: UInt8(truncatingIfNeeded: outer.timeToLive),
            icmpType: isICMP ? UInt8(truncatingIfNeeded: outer.type) : 0,
            icmpCode: isICMP ? UInt8(truncatingIfNeeded: outer.code) : 0, tcpFlags: outer.tcpFlags,
            icmpSequence: isICMP ? UInt16(truncatingIfNeeded: outer.sequence) : 0,
            isFragment: outer.fragmentOffset != 0 || outer.hasMoreFragments)
    }
}
