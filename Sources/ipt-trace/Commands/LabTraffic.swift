import ArgumentParser
import Foundation
import Glibc

/// A server for the gallery's networks: answers every TCP connection and every UDP datagram with the client's address.
struct LabServe: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "serve", abstract: "Answers TCP connections and UDP datagrams, for traffic in a lab.",
        discussion: "  ipt-trace lab serve 80")

    @Argument var port: UInt16
    @Option(help: "The address to answer from.") var address = "0.0.0.0"

    func run() throws {
        let stream = try LabSocket(SOCK_STREAM)
        let datagrams = try LabSocket(SOCK_DGRAM)
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
}

/// A client for the gallery's networks.
struct LabConnect: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "connect", abstract: "Connects and reads an answer, for traffic in a lab; fails where none comes.",
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
        let socket = try LabSocket(udp ? SOCK_DGRAM : SOCK_STREAM)
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

/// An IPv4 socket.
private struct LabSocket: ~Copyable {
    let descriptor: Int32

    init(_ kind: __socket_type) throws {
        descriptor = socket(AF_INET, Int32(kind.rawValue), 0)
        guard descriptor >= 0 else { throw Self.failure("socket") }
        var on: Int32 = 1
        unsafe setsockopt(descriptor, SOL_SOCKET, SO_REUSEADDR, &on, socklen_t(MemoryLayout<Int32>.size))
    }

    deinit { close(descriptor) }

    static func failure(_ operation: String) -> CommandFailure {
        CommandFailure(message: "\(operation): \(unsafe String(cString: strerror(errno)))")
    }

    private static func withAddress(_ address: String, _ port: UInt16, _ body: (UnsafePointer<sockaddr>, socklen_t) -> Int32)
        throws -> Int32
    {
        var name = sockaddr_in()
        name.sin_family = sa_family_t(AF_INET)
        name.sin_port = port.bigEndian
        guard unsafe inet_pton(AF_INET, address, &name.sin_addr) == 1 else {
            throw CommandFailure(message: "\(address) is no IPv4 address", code: ExitStatus.usage)
        }
        return unsafe withUnsafePointer(to: name) {
            unsafe $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                unsafe body($0, socklen_t(MemoryLayout<sockaddr_in>.size))
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
