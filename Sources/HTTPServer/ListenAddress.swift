internal import Glibc
private import LinuxSupport

/// Where the endpoint listens: a numeric address and a port.
public struct ListenAddress: Sendable, Hashable {
    public let host: String
    /// 0 takes any free port.
    public let port: UInt16
    let isIPv6: Bool

    /// Parses `127.0.0.1:9100`, `[::1]:9100`, or `localhost:9100`.
    public init(_ text: String) throws(EndpointError) {
        guard let colon = text.lastIndex(of: ":"), let port = UInt16(text[text.index(after: colon)...]) else {
            throw .invalidAddress(text)
        }
        var host = String(text[..<colon])
        if host == "localhost" { host = "127.0.0.1" }
        let isBracketed = host.hasPrefix("[") && host.hasSuffix("]")
        if isBracketed { host = String(host.dropFirst().dropLast()) }
        self.host = host
        self.port = port
        isIPv6 = isBracketed
        guard unsafe withSocketAddress({ _, _ in true }) ?? false else { throw .invalidAddress(text) }
    }

    public init(host: String, port: UInt16, isIPv6: Bool) {
        self.host = host
        self.port = port
        self.isIPv6 = isIPv6
    }

    /// `127.0.0.1:9100` or `[::1]:9100`.
    public var text: String { isIPv6 ? "[\(host)]:\(port)" : "\(host):\(port)" }

    /// Lends the address as bind(2) takes it; `nil` where the host is not an address.
    func withSocketAddress<Result>(_ body: (UnsafePointer<sockaddr>, socklen_t) -> Result) -> Result? {
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
        case .invalidAddress(let text): "\(text) is not an address to listen on. Give one such as 127.0.0.1:9100 or [::1]:9100."
        case .inUse(let address):
            "cannot listen on \(address.text): another program has that port"
                + (address.port == 9100 ? " (9100 is also node_exporter's)" : "")
                + ". Choose another with --listen \(ListenAddress(host: address.host, port: address.port + 1, isIPv6: address.isIPv6).text)."
        case .cannotListen(let address, let code):
            "cannot listen on \(address.text): \(ErrorNumber.text(code)). Choose another address with --listen."
        }
    }
}
