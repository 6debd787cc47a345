import Aggregation
import ArgumentParser
import Foundation
import Glibc
import LinuxSupport
import Reports

/// A server for the gallery's networks: answers every TCP connection and every UDP datagram; what comes to a group it only
/// takes.
struct LabServe: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "serve", abstract: "Answer TCP connections and UDP datagrams, for traffic in a lab.",
        discussion: """
              ipt-trace lab serve 80
              ipt-trace lab serve 80 --address ::
              ipt-trace lab serve 5000 --group 239.1.1.1
            """)

    @Argument var port: UInt16
    @Option(help: "The address to answer from.") var address = "0.0.0.0"
    @Option(help: "Take UDP datagrams that are sent to this multicast group, and answer nothing.") var group: String?

    func run() throws {
        // Who starts it may ignore or block signals, which is inherited.
        for number in [SIGINT, SIGTERM] { signal(number, SIG_DFL) }
        var none = sigset_t()
        unsafe sigemptyset(&none)
        unsafe sigprocmask(SIG_SETMASK, &none, nil)
        if let group { return try receive(group) }
        let stream = try LabSocket(SOCK_STREAM, for: address)
        let datagrams = try LabSocket(SOCK_DGRAM, for: address)
        try stream.bind(address, port)
        try datagrams.bind(address, port)
        guard listen(stream.descriptor, 128) == 0 else { throw LabSocket.failure("listen") }
        Terminal.print("serving port \(port)")
        var ready = [stream.descriptor, datagrams.descriptor].map { pollfd(fd: $0, events: Int16(POLLIN), revents: 0) }
        while true {
            guard unsafe poll(&ready, 2, -1) > 0 else { continue }
            if ready[0].revents != 0 {
                let client = accept(stream.descriptor, nil, nil)
                if client >= 0 {
                    _ = unsafe send(client, "hello\n", 6, Int32(MSG_NOSIGNAL))
                    close(client)
                }
            }
            if ready[1].revents != 0 { datagrams.echo() }
        }
    }

    private func receive(_ group: String) throws {
        let datagrams = try LabSocket(SOCK_DGRAM, for: group)
        try datagrams.bind(group, port)
        try datagrams.join(group)
        Terminal.print("serving \(group) port \(port)")
        var bytes = [UInt8](repeating: 0, count: 2048)
        while true {
            guard unsafe recv(datagrams.descriptor, &bytes, bytes.count, 0) >= 0 || errno == EINTR else {
                throw LabSocket.failure("receive")
            }
        }
    }
}

/// A client for the gallery's networks.
struct LabConnect: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "connect", abstract: "Connect and read an answer, for traffic in a lab; fail where none comes.",
        discussion: "  ipt-trace lab connect 10.0.2.15 8080")

    @Argument var address: String
    @Argument var port: UInt16
    @Flag(help: "Send a UDP datagram.") var udp = false
    @Option(help: "Seconds to wait.") var timeout = 1
    @Option(help: "So many times, one after the other.") var count = 1

    func run() throws {
        for _ in 0..<max(1, count) { try ask() }
        Terminal.print("answered")
    }

    private func ask() throws {
        let socket = try LabSocket(udp ? SOCK_DGRAM : SOCK_STREAM, for: address)
        var limit = timeval(tv_sec: max(1, timeout), tv_usec: 0)
        let size = socklen_t(MemoryLayout<timeval>.size)
        unsafe setsockopt(socket.descriptor, SOL_SOCKET, SO_RCVTIMEO, &limit, size)
        unsafe setsockopt(socket.descriptor, SOL_SOCKET, SO_SNDTIMEO, &limit, size)
        try socket.connect(address, port)
        if udp { _ = unsafe send(socket.descriptor, "hello", 5, 0) }
        var answer = [UInt8](repeating: 0, count: 64)
        let received = unsafe recv(socket.descriptor, &answer, answer.count, 0)
        guard received > 0 else { throw LabSocket.failure("no answer") }
    }
}

/// A sender that wants no answer.
struct LabSend: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "send", abstract: "Send one UDP datagram, to a multicast group too, for traffic in a lab.",
        discussion: "  ipt-trace lab send 239.1.1.1 5000")

    @Argument var address: String
    @Argument var port: UInt16

    func run() throws {
        let socket = try LabSocket(SOCK_DGRAM, for: address)
        try socket.connect(address, port)
        guard unsafe send(socket.descriptor, "hello", 5, 0) == 5 else { throw LabSocket.failure("\(address) port \(port)") }
        Terminal.print("sent")
    }
}

/// An IPv4 or IPv6 socket.
private struct LabSocket: ~Copyable {
    let descriptor: Int32

    /// - Parameter address: of the family that the socket is to have.
    init(_ kind: __socket_type, for address: String) throws {
        descriptor = socket(address.contains(":") ? AF_INET6 : AF_INET, Int32(kind.rawValue), 0)
        guard descriptor >= 0 else { throw Self.failure("socket") }
        var on: Int32 = 1
        unsafe setsockopt(descriptor, SOL_SOCKET, SO_REUSEADDR, &on, socklen_t(MemoryLayout<Int32>.size))
    }

    deinit { close(descriptor) }

    static func failure(_ operation: String) -> CommandFailure {
        CommandFailure(message: "\(operation): \(ErrorNumber.text(errno))")
    }

    private static func withAddress(_ address: String, _ port: UInt16, _ body: (UnsafePointer<sockaddr>, socklen_t) -> Int32)
        throws -> Int32
    {
        if address.contains(":") {
            var name = sockaddr_in6()
            name.sin6_family = sa_family_t(AF_INET6)
            name.sin6_port = port.bigEndian
            name.sin6_addr = try parse6(address)
            return unsafe lend(name, body)
        }
        var name = sockaddr_in()
        name.sin_family = sa_family_t(AF_INET)
        name.sin_port = port.bigEndian
        name.sin_addr = try parse4(address)
        return unsafe lend(name, body)
    }

    private static func parse4(_ text: String) throws -> in_addr {
        var address = in_addr()
        guard unsafe inet_pton(AF_INET, text, &address) == 1 else { throw noAddress(text) }
        return address
    }

    private static func parse6(_ text: String) throws -> in6_addr {
        var address = in6_addr()
        guard unsafe inet_pton(AF_INET6, text, &address) == 1 else { throw noAddress(text) }
        return address
    }

    private static func noAddress(_ text: String) -> CommandFailure {
        CommandFailure(message: "\(text) is no address", code: ExitStatus.usage)
    }

    private static func lend<Name>(_ name: Name, _ body: (UnsafePointer<sockaddr>, socklen_t) -> Int32) -> Int32 {
        unsafe withUnsafePointer(to: name) {
            unsafe $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                unsafe body($0, socklen_t(MemoryLayout<Name>.size))
            }
        }
    }

    func bind(_ address: String, _ port: UInt16) throws {
        guard try unsafe Self.withAddress(address, port, { unsafe Glibc.bind(descriptor, $0, $1) }) == 0 else {
            throw Self.failure("port \(port)")
        }
    }

    func connect(_ address: String, _ port: UInt16) throws {
        guard try unsafe Self.withAddress(address, port, { unsafe Glibc.connect(descriptor, $0, $1) }) == 0 else {
            throw Self.failure("\(address) port \(port)")
        }
    }

    /// Takes part in a multicast group, on the interface that a route to it names.
    func join(_ group: String) throws {
        let status: Int32
        if group.contains(":") {
            var request = ipv6_mreq()
            request.ipv6mr_multiaddr = try Self.parse6(group)
            status = unsafe setsockopt(
                descriptor, Int32(IPPROTO_IPV6), IPV6_JOIN_GROUP, &request, socklen_t(MemoryLayout<ipv6_mreq>.size))
        } else {
            var request = ip_mreq()
            request.imr_multiaddr = try Self.parse4(group)
            status = unsafe setsockopt(
                descriptor, Int32(IPPROTO_IP), IP_ADD_MEMBERSHIP, &request, socklen_t(MemoryLayout<ip_mreq>.size))
        }
        guard status == 0 else { throw Self.failure("join \(group)") }
    }

    /// Sends a datagram back.
    func echo() {
        var bytes = [UInt8](repeating: 0, count: 2048)
        var from = sockaddr_storage()
        var length = socklen_t(MemoryLayout<sockaddr_storage>.size)
        unsafe withUnsafeMutablePointer(to: &from) { pointer in
            unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { name in
                let count = unsafe recvfrom(descriptor, &bytes, bytes.count, 0, name, &length)
                if count > 0 { _ = unsafe sendto(descriptor, bytes, count, 0, name, length) }
            }
        }
    }
}
