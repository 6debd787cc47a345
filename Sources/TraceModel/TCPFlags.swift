/// Flags of a TCP segment, as byte 13 of its header has them (RFC 9293, section 3.1).
@frozen public struct TCPFlags: OptionSet, Sendable, Hashable, BitwiseCopyable {
    public let rawValue: UInt8

    @inlinable public init(rawValue: UInt8) { self.rawValue = rawValue }

    public static let fin = TCPFlags(rawValue: 0x01)
    public static let syn = TCPFlags(rawValue: 0x02)
    public static let rst = TCPFlags(rawValue: 0x04)
    public static let psh = TCPFlags(rawValue: 0x08)
    public static let ack = TCPFlags(rawValue: 0x10)
    public static let urg = TCPFlags(rawValue: 0x20)
    public static let ece = TCPFlags(rawValue: 0x40)
    public static let cwr = TCPFlags(rawValue: 0x80)

    /// Whether it asks for a connection: SYN without ACK.
    @inlinable public var opensConnection: Bool { intersection([.syn, .ack]) == .syn }

    /// Whether it grants a connection: SYN with ACK.
    @inlinable public var acceptsConnection: Bool { isSuperset(of: [.syn, .ack]) }

    /// Whether it says that there is no such connection: RST with ACK, as a segment that opens one is refused.
    @inlinable public var refusesConnection: Bool { isSuperset(of: [.rst, .ack]) }
}

extension TCPFlags: CustomStringConvertible {
    private static let names: [(TCPFlags, String)] = [
        (.syn, "SYN"), (.fin, "FIN"), (.rst, "RST"), (.psh, "PSH"), (.ack, "ACK"), (.urg, "URG"), (.ece, "ECE"), (.cwr, "CWR"),
    ]

    /// `SYN ACK`; empty without any.
    public var description: String { Self.names.filter { contains($0.0) }.map(\.1).joined(separator: " ") }
}
