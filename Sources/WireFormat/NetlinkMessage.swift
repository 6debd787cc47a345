/// The frame of one netlink message (`struct nlmsghdr`, linux/netlink.h).
public struct NetlinkMessage: Equatable, Sendable {
    public static let headerLength = 16

    /// `nlmsg_type`: for nfnetlink the subsystem in the high byte, the message in the low one.
    public var type: UInt16
    public var flags: UInt16
    /// The bytes behind the header.
    public var body: Range<Int>

    /// Reads the message at `offset` and moves `offset` behind it; `nil` at the end of `bytes`.
    ///
    /// Lengths need not be multiples of four: only the distance to the next message is rounded up, and the padding of
    /// the last message may be absent.
    @inlinable
    public static func next(in bytes: RawSpan, at offset: inout Int) throws(ParseError) -> NetlinkMessage? {
        guard offset < bytes.byteCount else { return nil }
        try bytes.check(headerLength, at: offset)
        let length = Int(bytes.native32(offset))
        guard length >= headerLength else { throw .invalidLength(offset: offset, value: length) }
        try bytes.check(length, at: offset)
        let message = NetlinkMessage(
            type: bytes.native16(offset + 4), flags: bytes.native16(offset + 6),
            body: offset + headerLength..<offset + length)
        offset = min(bytes.byteCount, offset + (length + 3) & ~3)
        return message
    }

    @inlinable
    public init(type: UInt16, flags: UInt16, body: Range<Int>) {
        self.type = type
        self.flags = flags
        self.body = body
    }
}

/// The frame of one attribute (`struct nlattr`, linux/netlink.h).
@frozen public struct NetlinkAttribute: Equatable, Sendable {
    /// Without the flags for nesting and byte order.
    public var type: UInt16
    public var value: Range<Int>

    /// Reads the attribute at `offset`, which ends at `end` at the latest, and moves `offset` behind it; `nil` at `end`.
    @inlinable @inline(__always)
    public static func next(in bytes: RawSpan, at offset: inout Int, end: Int) throws(ParseError) -> NetlinkAttribute? {
        // Fewer than four bytes are padding behind the last attribute.
        let available = end &- offset
        guard available >= 4 else { return nil }
        try bytes.check(available, at: offset)
        let header = bytes.pair16(offset)
        let length = Int(header.first)
        guard length >= 4 else { throw .invalidLength(offset: offset, value: length) }
        guard length <= available else { throw .truncated(offset: offset, needed: length, available: available) }
        // Nothing can overflow: everything lies within `bytes`.
        let attribute = NetlinkAttribute(
            type: header.second & 0x3FFF, value: offset &+ 4..<offset &+ length)
        offset = min(end, offset &+ (length &+ 3) & ~3)
        return attribute
    }

    @inlinable
    init(type: UInt16, value: Range<Int>) {
        self.type = type
        self.value = value
    }
}
