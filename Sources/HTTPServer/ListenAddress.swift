internal import Glibc
internal import LinuxSupport

/// Where the endpoint listens: a numeric address and a port, or a socket in the file system.
public struct ListenAddress: Sendable, Hashable {
    /// A numeric address, or the path of a socket in the file system.
    public let host: String
    /// 0 takes any free port.
    public let port: UInt16
    let isIPv6: Bool
    /// Whether it is a socket in the file system.
    public let isLocalSocket: Bool

    private static let socketMark = "unix:"

    /// Parses `127.0.0.1:9100`, `[::1]:9100`, `localhost:9100`, or `unix:/run/ipt-trace.sock`.
    public init(_ text: String) throws(EndpointError) {
        if text.hasPrefix(Self.socketMark) {
            let path = String(text.dropFirst(Self.socketMark.count))
            guard path.hasPrefix("/"), SocketAddress(path: path) != nil else { throw .invalidAddress(text) }
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
        guard socketAddress != nil else { throw .invalidAddress(text) }
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

    /// `nil` where the host is not an address of its family.
    var socketAddress: SocketAddress? {
        if isLocalSocket { return SocketAddress(path: host) }
        let address = SocketAddress(numeric: host, port: port)
        return address?.family == (isIPv6 ? AF_INET6 : AF_INET) ? address : nil
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
