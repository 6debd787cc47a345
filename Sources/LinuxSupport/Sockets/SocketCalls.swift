private import CMnl
public import Glibc
public import TraceModel

/// The kernel's calls for sockets, on Swift's values. Each leaves `errno` as the call does.
public enum SocketCalls {
    /// Two ends of a stream that are connected with each other and closed on exec; `nil` with `errno`.
    public static func pair() -> (Int32, Int32)? {
        var ends: [Int32] = [-1, -1]
        let kind = Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue)
        return unsafe socketpair(AF_UNIX, kind, 0, &ends) == 0 ? (ends[0], ends[1]) : nil
    }

    /// Whether the kernel took a setting of the type `int`, or another plain value such as `struct timeval`.
    @discardableResult
    public static func set<Value: BitwiseCopyable>(_ socket: Int32, _ level: Int32, _ option: Int32, _ value: Value) -> Bool {
        unsafe withUnsafeBytes(of: value) {
            unsafe setsockopt(socket, level, option, $0.baseAddress, socklen_t($0.count)) == 0
        }
    }

    /// A setting of the type `int`; `nil` with `errno`.
    public static func number(_ socket: Int32, _ level: Int32, _ option: Int32) -> Int32? {
        var value: Int32 = 0
        var length = socklen_t(MemoryLayout<Int32>.size)
        return unsafe getsockopt(socket, level, option, &value, &length) == 0 ? value : nil
    }

    /// Whether a socket takes part in a multicast group now, on the interface that a route to the group names.
    public static func join(_ socket: Int32, group: IPAddress) -> Bool {
        switch group.family {
        case .ipv4:
            let request = ip_mreq(
                imr_multiaddr: in_addr(s_addr: UInt32(truncatingIfNeeded: group.low).bigEndian),
                imr_interface: in_addr(s_addr: 0))
            return set(socket, Int32(IPPROTO_IP), IP_ADD_MEMBERSHIP, request)
        case .ipv6:
            // struct ipv6_mreq: the address, and an interface's index; 0 for the route's.
            let request = (group.high.bigEndian, group.low.bigEndian, UInt32(0))
            return unsafe withUnsafeBytes(of: request) {
                unsafe setsockopt(socket, Int32(IPPROTO_IPV6), IPV6_JOIN_GROUP, $0.baseAddress, 20) == 0
            }
        }
    }

    /// How many bytes were received; 0 at the end, or negative.
    public static func receive(_ socket: Int32, into buffer: inout [UInt8], flags: Int32 = 0) -> Int {
        unsafe buffer.withUnsafeMutableBytes { unsafe recv(socket, $0.baseAddress, $0.count, flags) }
    }

    /// How many of the bytes of a range were sent, or negative. A peer that is gone is an error and no signal.
    public static func send(_ socket: Int32, _ bytes: [UInt8], _ range: Range<Int>? = nil, flags: Int32 = 0) -> Int {
        let range = (range ?? bytes.indices).clamped(to: bytes.indices)
        return unsafe bytes.withUnsafeBytes {
            unsafe Glibc.send(
                socket, $0.baseAddress?.advanced(by: range.lowerBound), range.count, flags | Int32(MSG_NOSIGNAL))
        }
    }

    /// How many descriptors have something to tell, or negative; waits at most so long, for ever with -1.
    @discardableResult
    public static func poll(_ descriptors: inout [pollfd], milliseconds: Int32) -> Int32 {
        unsafe Glibc.poll(&descriptors, nfds_t(descriptors.count), milliseconds)
    }
}
