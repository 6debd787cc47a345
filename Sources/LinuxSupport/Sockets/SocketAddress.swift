private import CMnl
private import Glibc
public import TraceModel
private import WireFormat

/// Where a socket is bound or connected to: an IP address with a port, or a path of the file system.
public struct SocketAddress: Sendable, Equatable {
    /// `struct sockaddr_in`, `sockaddr_in6` or `sockaddr_un`, as the kernel takes them (ip(7), ipv6(7), unix(7)).
    private let bytes: [UInt8]

    /// `sun_path` without its closing zero (unix(7)), in bytes.
    public static let longestPath = 107

    public init(_ address: IPAddress, port: UInt16) {
        var bytes = Self.head(address.family == .ipv4 ? AF_INET : AF_INET6)
        Self.append(port, to: &bytes)
        switch address.family {
        case .ipv4:
            Self.append(UInt32(truncatingIfNeeded: address.low), to: &bytes)
            Self.append(UInt64(0), to: &bytes)
        case .ipv6:
            // Flow label, address, scope.
            Self.append(UInt32(0), to: &bytes)
            Self.append(address.high, to: &bytes)
            Self.append(address.low, to: &bytes)
            Self.append(UInt32(0), to: &bytes)
        }
        self.bytes = bytes
    }

    /// `nil` where the path is longer than `longestPath` or has a zero byte.
    public init?(path: String) {
        guard path.utf8.count <= Self.longestPath, !path.utf8.contains(0) else { return nil }
        bytes = Self.head(AF_UNIX) + path.utf8 + [0]
    }

    /// The address that a socket is bound to; `nil` where the kernel does not say.
    public init?(of socket: Int32) {
        guard let (_, bytes) = unsafe Self.filled({ name, length in unsafe getsockname(socket, name, length) }) else {
            return nil
        }
        self.bytes = bytes
    }

    /// Parses a numeric IPv4 or IPv6 address, the latter without brackets.
    public init?(numeric text: String, port: UInt16) {
        guard let address = IPAddress(text) else { return nil }
        self.init(address, port: port)
    }

    private init(bytes: [UInt8]) { self.bytes = bytes }

    /// Takes a connection from a listening socket; `nil` with `errno` where there is none.
    public static func accept(_ listener: Int32) -> (socket: Int32, peer: SocketAddress)? {
        unsafe filled { name, length in unsafe Glibc.accept(listener, name, length) }.map { ($0, SocketAddress(bytes: $1)) }
    }

    /// Receives a datagram: how many bytes it filled, and who sent it; `nil` with `errno` where there is none.
    public static func receive(_ socket: Int32, into buffer: inout [UInt8]) -> (count: Int, sender: SocketAddress)? {
        let found = unsafe buffer.withUnsafeMutableBytes { buffer in
            unsafe filled { name, length in unsafe recvfrom(socket, buffer.baseAddress, buffer.count, 0, name, length) }
        }
        return found.map { ($0, SocketAddress(bytes: $1)) }
    }

    /// Sends a datagram to it from a socket that is not connected: how many bytes, or negative with `errno`.
    @discardableResult
    public func send(_ socket: Int32, _ bytes: [UInt8]) -> Int {
        unsafe lend { name, length in unsafe sendto(socket, bytes, bytes.count, Int32(MSG_NOSIGNAL), name, length) }
    }

    /// Binds a socket to it: 0, or the error number.
    public func bind(_ socket: Int32) -> Int32 {
        unsafe lend { name, length in unsafe Glibc.bind(socket, name, length) == 0 ? 0 : errno }
    }

    /// Connects a socket to it: 0, or the error number.
    public func connect(_ socket: Int32) -> Int32 {
        unsafe lend { name, length in unsafe Glibc.connect(socket, name, length) == 0 ? 0 : errno }
    }

    /// `nil` for a socket of the file system.
    public var address: IPAddress? {
        let span = bytes.octets
        switch family {
        case AF_INET where span.has(4, at: 4): return IPAddress(ipv4: span.big32(4))
        case AF_INET6 where span.has(16, at: 8): return IPAddress(ipv6High: span.big64(8), low: span.big64(16))
        default: return nil
        }
    }

    /// The bytes of the IP address; none for a socket of the file system.
    public var host: [UInt8] {
        switch family {
        case AF_INET: Array(bytes.dropFirst(4).prefix(4))
        case AF_INET6: Array(bytes.dropFirst(8).prefix(16))
        default: []
        }
    }

    /// 0 for a socket of the file system.
    public var port: UInt16 { address == nil ? 0 : bytes.octets.big16(2) }

    /// `AF_INET`, `AF_INET6` or `AF_UNIX`.
    public var family: Int32 { bytes.octets.has(2, at: 0) ? Int32(bytes.octets.native16(0)) : 0 }

    private static func head(_ family: Int32) -> [UInt8] {
        // The one field in the machine's own order.
        var bytes: [UInt8] = []
        append(UInt16(truncatingIfNeeded: family).bigEndian, to: &bytes)
        return bytes
    }

    private static func append<Number: FixedWidthInteger>(_ number: Number, to bytes: inout [UInt8]) {
        for shift in stride(from: Number.bitWidth - 8, through: 0, by: -8) {
            bytes.append(UInt8(truncatingIfNeeded: number >> shift))
        }
    }

    private func lend<Result: BinaryInteger>(_ body: (UnsafePointer<sockaddr>, socklen_t) -> Result) -> Result {
        unsafe bytes.withUnsafeBytes { buffer in
            guard let base = buffer.baseAddress else { return 0 }
            return unsafe body(base.assumingMemoryBound(to: sockaddr.self), socklen_t(buffer.count))
        }
    }

    /// The result of `body` and the address that it filled in; `nil` where the result is negative.
    private static func filled<Result: SignedInteger>(
        _ body: (UnsafeMutablePointer<sockaddr>, UnsafeMutablePointer<socklen_t>) -> Result
    ) -> (result: Result, bytes: [UInt8])? {
        var bytes = [UInt8](repeating: 0, count: MemoryLayout<sockaddr_storage>.size)
        var length = socklen_t(bytes.count)
        let result = unsafe bytes.withUnsafeMutableBytes { buffer -> Result in
            guard let base = buffer.baseAddress else { return -1 }
            return unsafe body(base.assumingMemoryBound(to: sockaddr.self), &length)
        }
        return result < 0 ? nil : (result, Array(bytes.prefix(Int(length))))
    }
}
