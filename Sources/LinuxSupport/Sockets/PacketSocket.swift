private import CLinux
// SOCK_RAW and its like: in this module sys/socket.h belongs to it.
private import CMnl
private import Glibc
public import TraceModel

/// Takes and sends whole IP packets, without waiting.
public final class PacketSocket: Sendable {
    private let socket: Int32
    /// 0 where it is bound to none.
    private let interface: UInt32
    /// Whether what it takes begins with the IP header.
    private let hasHeader: Bool

    /// Takes what comes in by an interface, whomever it is for (packet(7)).
    public init(on interface: String, of namespace: NetworkNamespace) throws {
        (socket, self.interface) = try namespace.enter {
            let index = unsafe if_nametoindex(interface)
            guard index != 0 else { throw SocketFailure(operation: "find the interface \(interface)", code: errno) }
            let socket = ipt_packet_socket(index)
            guard socket >= 0 else { throw SocketFailure(operation: "open a packet socket", code: errno) }
            return (socket, index)
        }
        hasHeader = true
    }

    /// Takes the packets of a protocol that a namespace delivers to its own processes (raw(7)): IPv6's without their IP header.
    public init(deliveredIn namespace: NetworkNamespace, _ family: AddressFamily, transport: UInt8) throws {
        socket = try namespace.enter { try Self.raw(family, Int32(transport)) }
        interface = 0
        hasHeader = family == .ipv4
    }

    deinit { close(socket) }

    private static func raw(_ family: AddressFamily, _ number: Int32) throws -> Int32 {
        let kind = Int32(SOCK_RAW.rawValue) | Int32(SOCK_CLOEXEC.rawValue) | Int32(SOCK_NONBLOCK.rawValue)
        let socket = Glibc.socket(family == .ipv4 ? AF_INET : AF_INET6, kind, number)
        guard socket >= 0 else { throw SocketFailure(operation: "open a raw socket", code: errno) }
        return socket
    }

    /// Sends a packet out by the interface, to the 6 bytes of a link-layer address.
    public func send(_ packet: [UInt8], to linkLayer: [UInt8]) throws {
        precondition(linkLayer.count == 6 && interface != 0)
        let isIPv4 = packet.first.map { $0 >> 4 == 4 } ?? false
        let sent = unsafe ipt_packet_send(socket, interface, isIPv4 ? 1 : 0, linkLayer, packet, UInt(packet.count))
        guard sent == packet.count else { throw SocketFailure(operation: "send a packet", code: errno) }
    }

    /// Sends a packet as a process of a namespace, with the IP header that it has.
    public static func send(_ packet: [UInt8], to destination: IPAddress, from namespace: NetworkNamespace) throws {
        let socket = try namespace.enter { try raw(destination.family, Int32(IPPROTO_RAW)) }
        defer { close(socket) }
        let sent = SocketAddress(destination, port: 0).send(socket, packet)
        // EPERM: a rule of OUTPUT or POSTROUTING dropped it.
        guard sent == packet.count || errno == EPERM else { throw SocketFailure(operation: "send a packet", code: errno) }
    }

    /// Whether a packet for which `isWanted` holds comes to one of `sockets` within so many milliseconds.
    ///
    /// - Parameter isWanted: gets the bytes, and whether they begin with the IP header.
    public static func receives(
        on sockets: [PacketSocket], within milliseconds: Int32,
        where isWanted: (_ received: ArraySlice<UInt8>, _ hasHeader: Bool) -> Bool
    ) -> Bool {
        var buffer = [UInt8](repeating: 0, count: 1 << 16)
        let end = ContinuousClock.now + .milliseconds(milliseconds)
        while true {
            for one in sockets {
                while case let count = SocketCalls.receive(one.socket, into: &buffer), count >= 0 {
                    if isWanted(buffer[..<count], one.hasHeader) { return true }
                }
            }
            let left = ContinuousClock.now.duration(to: end)
            guard left > .zero else { return false }
            var waiting = sockets.map { pollfd(fd: $0.socket, events: Int16(POLLIN), revents: 0) }
            SocketCalls.poll(&waiting, milliseconds: Int32(left.components.attoseconds / 1_000_000_000_000_000) + 1)
        }
    }
}
