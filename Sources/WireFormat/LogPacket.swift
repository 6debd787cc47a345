public import TraceModel

/// A packet as LOG and TRACE write it into the kernel log: the prefix, then `IN=… OUT=… SRC=… DST=…`
/// (`nf_log_ip_packet`, `nf_log_ip6_packet` in the kernel's nf_log_syslog.c).
public struct LogPacket: Sendable {
    /// Up to `IN=`. LOG puts nothing between the two.
    public var prefix: Range<Int>
    /// Names of interfaces; empty where the packet has none.
    public var inInterface: Range<Int>
    public var outInterface: Range<Int>
    public var mark: UInt32 = 0
    public var packet: Packet

    /// Where the packet's fields begin in a message, if it is one of LOG's.
    ///
    /// Cheap enough to ask of every line: `" OUT="` behind an `IN=` whose value holds no blank.
    static func start(_ bytes: RawSpan, _ message: Range<Int>) -> (begin: Int, out: Int)? {
        var offset = message.lowerBound
        let end = message.upperBound
        while end - offset >= 5 {
            // " OUT" as a little-endian number
            if bytes.little32(offset) == 0x5455_4F20, bytes.byte(offset + 4) == UInt8(ascii: "=") {
                var begin = offset
                while begin - message.lowerBound > 0, bytes.byte(begin - 1) != UInt8(ascii: " ") {
                    begin -= 1
                    if offset - begin >= 3, bytes.byte(begin) == UInt8(ascii: "I"), bytes.byte(begin + 1) == UInt8(ascii: "N"),
                        bytes.byte(begin + 2) == UInt8(ascii: "=")
                    {
                        return (begin, offset)
                    }
                }
            }
            offset += 1
        }
        return nil
    }

    /// Parses a message of the kernel's.
    ///
    /// - Parameter seed: starts the fingerprint's hash. LOG writes fewer fields than a packet has, so that its fingerprints
    ///   are not those of NFLOG's packets.
    /// - Returns: `nil` for a message that LOG did not write.
    /// - Throws: `ParseError` where it did, but describes the packet incompletely.
    public init?(parsing bytes: RawSpan, message: Range<Int>, seed: UInt64) throws(ParseError) {
        guard let start = Self.start(bytes, message) else { return nil }
        prefix = message.lowerBound..<start.begin
        inInterface = start.begin + 3..<start.out
        var fields = LogFields(from: start.out + 1, to: message.upperBound)
        outInterface = 0..<0
        var reader = LogPacketReader()
        while let field = fields.next(bytes) {
            switch field.key {
            case LogKey.out: outInterface = field.value
            case LogKey.mark: mark = LogFields.hexadecimal(bytes, field.value)
            default: reader.take(field, bytes)
            }
        }
        packet = try reader.packet(at: start.begin, seed: seed)
    }
}

/// Up to eight characters of a field's name as a number.
enum LogKey {
    static func key(_ name: StaticString) -> UInt64 {
        name.withUTF8Buffer { buffer in
            unsafe buffer.reversed().reduce(0) { $0 << 8 | UInt64($1) }
        }
    }

    static let out = key("OUT")
    static let mark = key("MARK")
    static let source = key("SRC")
    static let destination = key("DST")
    static let length = key("LEN")
    static let timeToLive = key("TTL")
    static let hopLimit = key("HOPLIMIT")
    static let flowLabel = key("FLOWLBL")
    static let id = key("ID")
    static let fragment = key("FRAG")
    static let moreFragments = key("MF")
    static let transport = key("PROTO")
    static let sourcePort = key("SPT")
    static let destinationPort = key("DPT")
    static let sequence = key("SEQ")
    static let acknowledgement = key("ACK")
    static let window = key("WINDOW")
    static let type = key("TYPE")
    static let code = key("CODE")
    static let urgent = key("URGP")
    static let mtu = key("MTU")
    static let parameter = key("PARAMETE")
    static let cwr = key("CWR")
    static let ece = key("ECE")
    static let urg = key("URG")
    static let psh = key("PSH")
    static let rst = key("RST")
    static let syn = key("SYN")
    static let fin = key("FIN")
}

/// Splits what follows `IN=` into fields: `NAME=value`, `NAME:value` or `NAME`, with brackets around an inner packet.
struct LogFields {
    struct Field {
        var key: UInt64
        var value: Range<Int>
        /// Written as `NAME=`; `ACK=` is a number, `ACK` a flag.
        var hasValue: Bool
        /// Within the brackets of an ICMP error.
        var isInner: Bool
    }

    private var offset: Int
    private let end: Int
    private var isInner = false

    init(from start: Int, to end: Int) {
        offset = start
        self.end = end
    }

    mutating func next(_ bytes: RawSpan) -> Field? {
        while offset < end {
            switch bytes.byte(offset) {
            case UInt8(ascii: " "): offset += 1
            case UInt8(ascii: "["):
                isInner = true
                offset += 1
            case UInt8(ascii: "]"):
                isInner = false
                offset += 1
            case UInt8(ascii: "("):
                // OPT (020405B4…): header options, in hexadecimal
                while offset < end, bytes.byte(offset) != UInt8(ascii: ")") { offset += 1 }
                if offset < end { offset += 1 }
            default: return field(bytes)
            }
        }
        return nil
    }

    private mutating func field(_ bytes: RawSpan) -> Field {
        var key: UInt64 = 0
        var count: UInt64 = 0
        while offset < end {
            let byte = bytes.byte(offset)
            if byte == UInt8(ascii: "=") || byte == UInt8(ascii: ":") {
                offset += 1
                let start = offset
                while offset < end, bytes.byte(offset) != UInt8(ascii: " "), bytes.byte(offset) != UInt8(ascii: "]") {
                    offset += 1
                }
                return Field(key: key, value: start..<offset, hasValue: true, isInner: isInner)
            }
            if byte == UInt8(ascii: " ") || byte == UInt8(ascii: "]") { break }
            if count < 8 { key |= UInt64(byte) << (8 * count) }
            count += 1
            offset += 1
        }
        return Field(key: key, value: offset..<offset, hasValue: false, isInner: isInner)
    }

    /// The number that a value begins with; 0 for none. Wraps rather than traps.
    @inline(__always)
    static func decimal(_ bytes: RawSpan, _ range: Range<Int>) -> UInt64 {
        var number: UInt64 = 0
        for index in range {
            let digit = bytes.byte(index) &- UInt8(ascii: "0")
            guard digit <= 9 else { break }
            number = number &* 10 &+ UInt64(digit)
        }
        return number
    }

    /// With or without `0x`.
    static func hexadecimal(_ bytes: RawSpan, _ range: Range<Int>) -> UInt32 {
        var number: UInt32 = 0
        for index in range {
            let byte = bytes.byte(index)
            if byte == UInt8(ascii: "x") {
                number = 0
                continue
            }
            guard let digit = IPAddress.hexadecimalDigit(byte) else { break }
            number = number << 4 | UInt32(digit)
        }
        return number
    }

    /// Dotted decimal, or IPv6 with or without `::` (LOG writes all eight groups in full).
    static func address(_ bytes: RawSpan, _ range: Range<Int>) -> IPAddress? {
        IPAddress(textIn: range) { bytes.byte($0) }
    }

    /// `TCP`, `UDP`, …, or a number.
    static func transport(_ bytes: RawSpan, _ range: Range<Int>) -> UInt8 {
        switch (range.count, range.isEmpty ? 0 : bytes.byte(range.lowerBound)) {
        case (3, UInt8(ascii: "T")): TransportProtocol.tcp
        case (3, UInt8(ascii: "U")): TransportProtocol.udp
        case (4, UInt8(ascii: "I")): TransportProtocol.icmp
        case (6, UInt8(ascii: "I")): TransportProtocol.icmpv6
        case (7, UInt8(ascii: "U")): 136
        case (2, UInt8(ascii: "A")): 51
        case (3, UInt8(ascii: "E")): 50
        case (4, UInt8(ascii: "S")): TransportProtocol.sctp
        default: UInt8(truncatingIfNeeded: decimal(bytes, range))
        }
    }
}
