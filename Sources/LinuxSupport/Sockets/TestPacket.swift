// SOCK_STREAM and its like: in this module sys/socket.h belongs to it.
private import CMnl
private import Glibc
public import TraceModel

/// Sends a packet to find out what becomes of it: a TCP connection's first, a datagram, or an ICMP echo request.
public final class TestPacket: Sendable {
    private let socket: Int32
    private let destination: IPAddress
    private let transport: UInt8
    private let port: UInt16
    /// The port that it is sent from, or the query id of an echo request.
    public let sourcePort: UInt16

    /// Opens a socket in `namespace`; sends nothing.
    ///
    /// - Parameters:
    ///   - port: 0 for ICMP.
    ///   - source: an address of the namespace; `nil`: the one that the route chooses.
    public init(
        to destination: IPAddress, port: UInt16, transport: UInt8, source: IPAddress?, in namespace: NetworkNamespace
    ) throws {
        let domain = destination.family == .ipv4 ? AF_INET : AF_INET6
        let isEcho = transport == TransportProtocol.icmp || transport == TransportProtocol.icmpv6
        let kind: __socket_type = isEcho ? SOCK_RAW : transport == TransportProtocol.udp ? SOCK_DGRAM : SOCK_STREAM
        let socket = try namespace.enter {
            Glibc.socket(
                domain, Int32(kind.rawValue) | Int32(SOCK_CLOEXEC.rawValue) | Int32(SOCK_NONBLOCK.rawValue), Int32(transport))
        }
        guard socket >= 0 else { throw SocketFailure(operation: "open a socket", code: errno) }
        self.socket = socket
        self.destination = destination
        self.transport = transport
        self.port = port
        let start = source ?? (destination.family == .ipv4 ? IPAddress(ipv4: 0) : IPAddress(ipv6High: 0, low: 0))
        let code = SocketAddress(start, port: 0).bind(socket)
        guard code == 0 else {
            close(socket)
            throw SocketFailure(operation: "send from \(start)", code: code)
        }
        sourcePort = isEcho ? UInt16.random(in: 1...0xFFFF) : SocketAddress(of: socket)?.port ?? 0
    }

    deinit { close(socket) }

    /// Sends one. TCP sends its first packet again by itself, after a second; further calls send nothing then.
    public func send(sequence: UInt16) throws(SocketFailure) {
        let code: Int32
        switch transport {
        case TransportProtocol.tcp:
            guard sequence == 1 else { return }
            code = connected()
        case TransportProtocol.udp:
            if sequence == 1 {
                let refused = connected()
                guard refused == 0 else { throw SocketFailure(operation: "send", code: refused) }
            }
            code = sent(Array("ipt-trace \(sequence)\n".utf8))
        default:
            if sequence == 1 {
                let refused = connected()
                guard refused == 0 else { throw SocketFailure(operation: "send", code: refused) }
            }
            code = sent(echo(sequence))
        }
        // EPERM: a rule of OUTPUT or POSTROUTING dropped it, which its journey tells better.
        guard code == 0 || code == EINPROGRESS || code == EPERM else { throw SocketFailure(operation: "send", code: code) }
    }

    /// The error that has come back so far, such as that nobody listens.
    public func takeError() -> SocketFailure? {
        guard let code = SocketCalls.number(socket, SOL_SOCKET, SO_ERROR), code != 0 else { return nil }
        return SocketFailure(operation: "the sender was told", code: code)
    }

    private func connected() -> Int32 { SocketAddress(destination, port: port).connect(socket) }

    private func sent(_ bytes: [UInt8]) -> Int32 {
        SocketCalls.send(socket, bytes) == bytes.count ? 0 : errno
    }

    /// RFC 792, RFC 4443. The kernel fills in the checksum of ICMPv6.
    private func echo(_ sequence: UInt16) -> [UInt8] {
        let type: UInt8 = destination.family == .ipv4 ? 8 : 128
        var bytes: [UInt8] = [
            type, 0, 0, 0, UInt8(sourcePort >> 8), UInt8(sourcePort & 0xFF), UInt8(sequence >> 8), UInt8(sequence & 0xFF),
        ]
        bytes += Array("ipt-trace why   ".utf8)
        guard destination.family == .ipv4 else { return bytes }
        let sum = InternetChecksum.of(bytes)
        bytes[2] = UInt8(sum >> 8)
        bytes[3] = UInt8(sum & 0xFF)
        return bytes
    }
}
