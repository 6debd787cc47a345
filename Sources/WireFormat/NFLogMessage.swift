internal import TraceModel

/// One logged packet as nfnetlink_log reports it (`NFULNL_MSG_PACKET`, linux/netfilter/nfnetlink_log.h). Prefix and
/// payload are ranges of the buffer that was parsed, so that nothing is copied.
@frozen public struct NFLogMessage: Sendable {
    /// `nlmsg_type`: subsystem `NFNL_SUBSYS_ULOG` (4), message `NFULNL_MSG_PACKET` (0).
    public static let packetType: UInt16 = 0x0400

    /// `nfgen_family`: `NFPROTO_*`.
    public var family: UInt8 = 0
    /// `NF_INET_*`.
    public var hook: UInt8 = 0
    public var mark: UInt32 = 0
    public var inInterface: UInt32 = 0
    public var outInterface: UInt32 = 0
    /// Microseconds since 1970; 0 where the kernel gave none.
    public var timestamp: Int64 = 0
    /// `NFULA_SEQ`, the instance's own count: a gap is a loss.
    public var sequence: UInt32 = 0
    /// `NFULA_SEQ_GLOBAL`, the namespace's count across instances.
    public var globalSequence: UInt32 = 0
    public var hasSequence = false
    /// Without the terminating NUL.
    public var prefix: Range<Int> = 0..<0
    /// From the network header on.
    public var payload: Range<Int> = 0..<0

    // NFULA_* of enum nfulnl_attr_type.
    package enum Attribute {
        package static let packetHeader: UInt16 = 1
        package static let mark: UInt16 = 2
        package static let timestamp: UInt16 = 3
        package static let inDevice: UInt16 = 4
        package static let outDevice: UInt16 = 5
        package static let payload: UInt16 = 9
        package static let prefix: UInt16 = 10
        package static let sequence: UInt16 = 12
        package static let globalSequence: UInt16 = 13
    }

    @inlinable package init() {}

    /// Parses the body of a message of `packetType`: `struct nfgenmsg` and attributes. Unknown attributes are skipped.
    public init(parsing bytes: RawSpan, body: Range<Int>) throws(ParseError) {
        try bytes.check(4, at: body.lowerBound)
        guard body.count >= 4 else { throw .truncated(offset: body.lowerBound, needed: 4, available: body.count) }
        family = bytes.byte(body.lowerBound)
        var offset = body.lowerBound + 4
        while let attribute = try NetlinkAttribute.next(in: bytes, at: &offset, end: body.upperBound) {
            let start = attribute.value.lowerBound
            let count = attribute.value.count
            func require(_ length: Int) throws(ParseError) {
                guard count >= length else { throw .truncated(offset: start, needed: length, available: count) }
            }
            switch attribute.type {
            case Attribute.packetHeader:
                // struct nfulnl_msg_packet_hdr: hw_protocol (be16), hook (u8), padding.
                try require(3)
                hook = bytes.byte(start + 2)
            case Attribute.mark:
                try require(4)
                mark = bytes.big32(start)
            case Attribute.timestamp:
                try require(16)
                timestamp = Self.timestamp(bytes, start)
            case Attribute.inDevice:
                try require(4)
                inInterface = bytes.big32(start)
            case Attribute.outDevice:
                try require(4)
                outInterface = bytes.big32(start)
            case Attribute.payload:
                payload = attribute.value
            case Attribute.prefix:
                prefix = Self.prefix(bytes, attribute.value)
            case Attribute.sequence:
                try require(4)
                sequence = bytes.big32(start)
                hasSequence = true
            case Attribute.globalSequence:
                try require(4)
                globalSequence = bytes.big32(start)
            default:
                break
            }
        }
    }

    /// Seconds and microseconds, be64 each (`NFULA_TIMESTAMP`, `struct nfulnl_msg_packet_timestamp`).
    package static func timestamp(_ bytes: RawSpan, _ offset: Int) -> Int64 {
        TimeBounds.clamp(Int64(truncatingIfNeeded: bytes.big64(offset) &* 1_000_000 &+ bytes.big64(offset &+ 8)))
    }

    /// Without the NUL that ends it (`NFULA_PREFIX`).
    static func prefix(_ bytes: RawSpan, _ value: Range<Int>) -> Range<Int> {
        let isTerminated = !value.isEmpty && bytes.byte(value.upperBound - 1) == 0
        return value.lowerBound..<value.upperBound - (isTerminated ? 1 : 0)
    }
}
