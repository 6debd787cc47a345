/// Builds netlink messages: one, or a batch of several that are sent together.
public struct NetlinkRequest: Sendable {
    public private(set) var bytes: [UInt8] = []

    public init() {}

    /// `NLM_F_*` of linux/netlink.h.
    public struct Flags: OptionSet, Sendable {
        public let rawValue: UInt16
        public init(rawValue: UInt16) { self.rawValue = rawValue }
        public static let request = Flags(rawValue: 0x1)
        public static let acknowledge = Flags(rawValue: 0x4)
        public static let dump = Flags(rawValue: 0x300)
        public static let create = Flags(rawValue: 0x400)
        public static let append = Flags(rawValue: 0x800)
        /// Deletes only what nothing depends on (`NLM_F_NONREC`).
        public static let nonRecursive = Flags(rawValue: 0x100)
    }

    /// Appends one message: header, the fixed part of its body, and what `attributes` puts behind it.
    public mutating func append(
        type: UInt16, flags: Flags, sequence: UInt32 = 1, body: [UInt8], attributes: (inout NetlinkRequest) -> Void = { _ in }
    ) {
        let start = bytes.count
        native32(0)
        native16(type)
        native16(flags.rawValue)
        native32(sequence)
        native32(0)
        bytes += body
        pad()
        attributes(&self)
        bytes.replaceSubrange(start..<start + 4, with: Self.native(UInt32(bytes.count - start)))
    }

    /// `struct nfgenmsg`: family, version, resource id (big-endian).
    public static func nfgenmsg(family: UInt8, resource: UInt16 = 0) -> [UInt8] {
        [family, 0, UInt8(resource >> 8), UInt8(resource & 255)]
    }

    public mutating func attribute(_ type: UInt16, _ value: [UInt8]) {
        native16(UInt16(4 + value.count))
        native16(type)
        bytes += value
        pad()
    }

    public mutating func attribute(_ type: UInt16, text: String) { attribute(type, Array(text.utf8) + [0]) }

    public mutating func attribute(_ type: UInt16, native value: UInt32) { attribute(type, Self.native(value)) }

    /// A number in network order, as nf_tables has them.
    public mutating func attribute(_ type: UInt16, big value: some FixedWidthInteger & UnsignedInteger) {
        let width = value.bitWidth / 8
        attribute(type, (0..<width).map { UInt8(truncatingIfNeeded: value >> (8 * (width - 1 - $0))) })
    }

    /// An attribute that holds those that `fill` appends.
    public mutating func nest(_ type: UInt16, _ fill: (inout NetlinkRequest) -> Void) {
        var inner = NetlinkRequest()
        fill(&inner)
        attribute(type, inner.bytes)
    }

    /// Attributes that are encoded already.
    public mutating func append(_ encoded: [UInt8]) {
        bytes += encoded
        pad()
    }

    private mutating func native16(_ value: UInt16) { bytes += Self.native(UInt32(value)).prefix(2) }
    private mutating func native32(_ value: UInt32) { bytes += Self.native(value) }
    private mutating func pad() { while bytes.count % 4 != 0 { bytes.append(0) } }

    /// The bytes of `value` in this machine's order. All of Swift's Linux targets are little-endian.
    private static func native(_ value: UInt32) -> [UInt8] {
        (0..<4).map { UInt8(truncatingIfNeeded: value >> (8 * $0)) }
    }
}
