private import CLinux
private import CMnl
private import Glibc
private import Logging

/// A netlink socket of the namespace in which it was opened, over libmnl. It stays in that namespace wherever the thread
/// goes afterwards; closing is left to the end of its life.
@safe public struct NetlinkSocket: NetlinkTransport, ~Copyable {
    /// `NETLINK_*` of linux/netlink.h.
    public enum Family: Int32, Sendable {
        case route = 0
        case netfilter = 12
    }

    // Owned by this value alone: opened in `init`, closed in `deinit`.
    private let socket: OpaquePointer
    /// For `poll(2)`; valid as long as the socket.
    public let descriptor: Int32

    /// - Parameter groups: multicast groups by bit (group N is bit N - 1), at most 32.
    public init(_ family: Family, groups: UInt32 = 0) throws(NetlinkError) {
        guard let socket = unsafe mnl_socket_open2(family.rawValue, Int32(SOCK_CLOEXEC.rawValue)) else {
            throw .last("open a netlink socket")
        }
        guard unsafe mnl_socket_bind(socket, groups, 0) == 0 else {
            let error = NetlinkError.last("bind a netlink socket")
            unsafe mnl_socket_close(socket)
            throw error
        }
        unsafe self.socket = unsafe socket
        descriptor = unsafe mnl_socket_get_fd(socket)
    }

    deinit { unsafe mnl_socket_close(socket) }

    /// The port id, which the columns of `/proc/net/netlink` name a socket by.
    public var portID: UInt32 { unsafe mnl_socket_get_portid(socket) }

    /// Joins a multicast group by number (`NETLINK_ADD_MEMBERSHIP`).
    public func join(group: Int32) throws(NetlinkError) {
        var group = group
        guard unsafe mnl_socket_setsockopt(socket, NETLINK_ADD_MEMBERSHIP, &group, 4) == 0 else {
            throw .last("join netlink group \(group)")
        }
    }

    /// Sets the receive buffer, past the system's limit where privileged (`SO_RCVBUFFORCE`), and gives the size in force
    /// in bytes. In a user namespace the limit is `net.core.rmem_max`.
    public func setReceiveBuffer(_ size: Int32) -> Int32 {
        var size = size
        let length = socklen_t(MemoryLayout<Int32>.size)
        if unsafe setsockopt(descriptor, SOL_SOCKET, SO_RCVBUFFORCE, &size, length) != 0 {
            unsafe setsockopt(descriptor, SOL_SOCKET, SO_RCVBUF, &size, length)
        }
        var granted: Int32 = 0
        var grantedLength = length
        unsafe getsockopt(descriptor, SOL_SOCKET, SO_RCVBUF, &granted, &grantedLength)
        return granted
    }

    /// With this an overflow loses just what did not fit; without it the socket stays shut until drained
    /// (`NETLINK_NO_ENOBUFS`, netlink(7)).
    public func keepReceivingAfterOverflow() {
        var on: Int32 = 1
        _ = unsafe mnl_socket_setsockopt(socket, NETLINK_NO_ENOBUFS, &on, 4)
    }

    /// How things stand with the receive buffer (`SO_MEMINFO`, `SK_MEMINFO_*` of linux/sock_diag.h).
    public struct Memory: Sendable {
        /// Bytes that are in it, and that fit into it.
        public var used: UInt32 = 0
        public var limit: UInt32 = 0
        /// Deliveries that were dropped because it was full; the same number as in /proc/net/netlink.
        public var drops: UInt32 = 0
    }

    public var memory: Memory {
        // Fixed: this is asked for in every turn of the event loop.
        var info: InlineArray<16, UInt32> = InlineArray(repeating: 0)
        var length = socklen_t(MemoryLayout<UInt32>.size * 16)
        // SO_MEMINFO is 55 (asm-generic/socket.h); Glibc's module does not have it.
        guard unsafe getsockopt(descriptor, SOL_SOCKET, 55, &info, &length) == 0, length >= 36 else { return Memory() }
        return Memory(used: info[0], limit: info[1], drops: info[8])
    }

    private static let logger = Logger(label: "netlink")

    public func send(_ bytes: [UInt8]) throws(NetlinkError) {
        let sent = unsafe bytes.withUnsafeBytes { unsafe mnl_socket_sendto(socket, $0.baseAddress, $0.count) }
        guard sent == bytes.count else { throw .last("send a netlink message") }
    }

    public func receive(into buffer: inout [UInt8]) -> NetlinkDatagram {
        let count = unsafe buffer.withUnsafeMutableBytes {
            unsafe recv(descriptor, $0.baseAddress, $0.count, Int32(MSG_DONTWAIT))
        }
        if count >= 0 {
            Self.logger.trace("netlink: \(count) bytes received")
            return .bytes(count)
        }
        return errno == EAGAIN || errno == EINTR ? .nothing : .failed(errno)
    }

    public func waitReadable(milliseconds: Int32) -> Bool {
        var descriptor = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
        return unsafe poll(&descriptor, 1, milliseconds) > 0
    }

    public func makeRoom(forSending bytes: Int) {
        var size = Int32(clamping: bytes + 4096)
        let length = socklen_t(MemoryLayout<Int32>.size)
        if unsafe setsockopt(descriptor, SOL_SOCKET, SO_SNDBUFFORCE, &size, length) != 0 {
            unsafe setsockopt(descriptor, SOL_SOCKET, SO_SNDBUF, &size, length)
        }
    }
}

// libmnl's structure is written once, by `init`; everything behind is system calls on its descriptor.
extension NetlinkSocket: @unchecked Sendable {}
