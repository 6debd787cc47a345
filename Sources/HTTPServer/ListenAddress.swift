internal import Glibc
private import LinuxSupport

/// Where the endpoint listens: a numeric address and a port, or a socket in the file system.
public struct ListenAddress: Sendable, Hashable {
    /// Of a socket in the file system: its path.
    public let host: String
    /// 0 takes any free port.
    public let port: UInt16
    let isIPv6: Bool
    /// Whether it is a socket in the file system.
    public let isLocalSocket: Bool

    /// `sun_path` of `struct sockaddr_un` (unix(7)), with its end.
    private static let longestPath = 107
    private static let socketMark = "unix:"

    /// Parses `127.0.0.1:9100`, `[::1]:9100`, `localhost:9100`, or `unix:/run/ipt-trace.sock`.
    public init(_ text: String) throws(EndpointError) {
        if text.hasPrefix(Self.socketMark) {
            let path = String(text.dropFirst(Self.socketMark.count))
            guard path.hasPrefix("/"), path.utf8.count <= Self.longestPath, !path.utf8.contains(0) else {
                throw .invalidAddress(text)
            }
            self.init(host: path, port: 0, isIPv6: false, isLocalSocket: true)
            return
        }
        guard let colon = text.lastIndex(of: ":"), let port = UInt16(text[text.index(after: colon)...]) else {
            throw .invalidAddress(text)
        }
        var host = String(text[..<colon])
        if host == "localhost" { host = "127.0.0.1" }
        let isBracketed = host.hasPrefix("[") && host.hasSuffix("]")
        if isBracketed { host = String(host.dropFirst().dropLast()) }
        self.init(host: host, port: port, isIPv6: isBracketed)
        guard unsafe withSocketAddress({ _, _ in true }) ?? false else { throw .invalidAddress(text) }
    }

    public init(host: String, port: UInt16, isIPv6: Bool, isLocalSocket: Bool = false) {
        self.host = host
        self.port = port
        self.isIPv6 = isIPv6
        self.isLocalSocket = isLocalSocket
    }

    /// `127.0.0.1:9100`, `[::1]:9100` or `unix:/run/ipt-trace.sock`.
    public var text: String {
        isLocalSocket ? Self.socketMark + host : isIPv6 ? "[\(host)]:\(port)" : "\(host):\(port)"
    }

    /// As a URL of it begins; curl takes the path of a socket apart (`--unix-socket`).
    public var url: String { isLocalSocket ? text : "http://\(text)" }

    /// Whether nobody on another machine reaches it.
    public var isOfThisMachine: Bool { isLocalSocket || host == "::1" || !isIPv6 && host.hasPrefix("127.") }

    /// Lends the address as bind(2) takes it; `nil` where the host is not an address.
    func withSocketAddress<Result>(_ body: (UnsafePointer<sockaddr>, socklen_t) -> Result) -> Result? {
        if isLocalSocket {
            var address = sockaddr_un()
            address.sun_family = sa_family_t(AF_UNIX)
            unsafe withUnsafeMutableBytes(of: &address.sun_path) { path in
                for (index, byte) in host.utf8.prefix(Self.longestPath).enumerated() { unsafe path[index] = byte }
            }
            return unsafe withUnsafePointer(to: &address) { pointer in
                unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                    unsafe body($0, socklen_t(MemoryLayout<sockaddr_un>.size))
                }
            }
        }
        if isIPv6 {
            var address = sockaddr_in6()
            address.sin6_family = sa_family_t(AF_INET6)
            address.sin6_port = port.bigEndian
            guard unsafe inet_pton(AF_INET6, host, &address.sin6_addr) == 1 else { return nil }
            return unsafe withUnsafePointer(to: &address) { pointer in
                unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                    unsafe body($0, socklen_t(MemoryLayout<sockaddr_in6>.size))
                }
            }
        }
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = port.bigEndian
        guard unsafe inet_pton(AF_INET, host, &address.sin_addr) == 1 else { return nil }
        return unsafe withUnsafePointer(to: &address) { pointer in
            unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                unsafe body($0, socklen_t(MemoryLayout<sockaddr_in>.size))
            }
        }
    }
}

/// Why the endpoint cannot listen.
public enum EndpointError: Error, Equatable, Sendable {
    case invalidAddress(String)
    case inUse(ListenAddress)
    case cannotListen(ListenAddress, code: Int32)
}

extension EndpointError: CustomStringConvertible {
    public var description: String {
        switch self {
        case .invalidAddress(let text):
            "\(text) is not an address to listen on. Give one such as 127.0.0.1:9100, [::1]:9100 or "
                + "unix:/run/ipt-trace.sock."
        case .inUse(let address) where address.isLocalSocket:
            "cannot listen on \(address.text): another program listens there. Choose another path with --listen."
        case .inUse(let address):
            "cannot listen on \(address.text): another program has that port"
                + (address.port == 9100 ? " (9100 is also node_exporter's)" : "")
                + ". Choose another with --listen \(ListenAddress(host: address.host, port: address.port + 1, isIPv6: address.isIPv6).text)."
        case .cannotListen(let address, let code):
            "cannot listen on \(address.text): \(ErrorNumber.text(code)). Choose another address with --listen."
        }
    }
}
