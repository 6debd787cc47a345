// SOCK_STREAM and its like: in this module sys/socket.h belongs to it.
private import CMnl
private import Glibc
public import TraceModel

/// Looks names up as the machine itself does.
public enum HostName {
    /// A name that cannot be looked up.
    public struct Failure: Error, CustomStringConvertible {
        public let description: String
    }

    /// The addresses that a name or an address in text stands for, as the machine's resolver orders them; never empty.
    public static func addresses(of name: String) throws(Failure) -> [IPAddress] {
        if let address = IPAddress(name) { return [address] }
        var hints = unsafe addrinfo()
        unsafe hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
        var first: UnsafeMutablePointer<addrinfo>? = nil
        let code = unsafe getaddrinfo(name, nil, &hints, &first)
        guard code == 0 else {
            throw Failure(description: "cannot look up \(name): \(unsafe String(cString: gai_strerror(code)))")
        }
        defer { unsafe freeaddrinfo(first) }
        var addresses: [IPAddress] = []
        var entry = unsafe first
        while let one = unsafe entry {
            if let address = unsafe address(one.pointee), !addresses.contains(address) { addresses.append(address) }
            unsafe entry = unsafe one.pointee.ai_next
        }
        guard !addresses.isEmpty else { throw Failure(description: "\(name) has no address") }
        return addresses
    }

    private static func address(_ info: addrinfo) -> IPAddress? {
        guard let place = unsafe info.ai_addr else { return nil }
        switch unsafe info.ai_family {
        case AF_INET:
            return unsafe place.withMemoryRebound(to: sockaddr_in.self, capacity: 1) {
                unsafe IPAddress(ipv4: UInt32(bigEndian: $0.pointee.sin_addr.s_addr))
            }
        case AF_INET6:
            return unsafe place.withMemoryRebound(to: sockaddr_in6.self, capacity: 1) { pointer in
                unsafe withUnsafeBytes(of: pointer.pointee.sin6_addr) { bytes in
                    unsafe IPAddress(
                        ipv6High: UInt64(bigEndian: bytes.loadUnaligned(as: UInt64.self)),
                        low: UInt64(bigEndian: bytes.loadUnaligned(fromByteOffset: 8, as: UInt64.self)))
                }
            }
        default: return nil
        }
    }
}
