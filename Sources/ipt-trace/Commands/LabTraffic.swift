import Aggregation
import ArgumentParser
import Foundation
import Glibc
import LinuxSupport
import Reports
import TraceModel

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
            guard SocketCalls.poll(&ready, milliseconds: -1) > 0 else { continue }
            if ready[0].revents != 0 {
                if let (client, _) = SocketAddress.accept(stream.descriptor) {
                    _ = SocketCalls.send(client, Array("hello\n".utf8))
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
            guard SocketCalls.receive(datagrams.descriptor, into: &bytes) >= 0 || errno == EINTR else {
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
        let limit = timeval(tv_sec: max(1, timeout), tv_usec: 0)
        SocketCalls.set(socket.descriptor, SOL_SOCKET, SO_RCVTIMEO, limit)
        SocketCalls.set(socket.descriptor, SOL_SOCKET, SO_SNDTIMEO, limit)
        try socket.connect(address, port)
        if udp { _ = SocketCalls.send(socket.descriptor, LabSocket.greeting) }
        var answer = [UInt8](repeating: 0, count: 64)
        guard SocketCalls.receive(socket.descriptor, into: &answer) > 0 else { throw LabSocket.failure("no answer") }
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
        guard SocketCalls.send(socket.descriptor, LabSocket.greeting) == LabSocket.greeting.count else {
            throw LabSocket.failure("\(address) port \(port)")
        }
        Terminal.print("sent")
    }
}

/// An IPv4 or IPv6 socket.
private struct LabSocket: ~Copyable {
    static let greeting = Array("hello".utf8)

    let descriptor: Int32

    /// - Parameter address: of the family that the socket is to have.
    init(_ kind: __socket_type, for address: String) throws {
        descriptor = socket(address.contains(":") ? AF_INET6 : AF_INET, Int32(kind.rawValue), 0)
        guard descriptor >= 0 else { throw Self.failure("socket") }
        SocketCalls.set(descriptor, SOL_SOCKET, SO_REUSEADDR, Int32(1))
    }

    deinit { close(descriptor) }

    static func failure(_ operation: String, _ code: Int32 = errno) -> CommandFailure {
        CommandFailure(message: "\(operation): \(ErrorNumber.text(code))")
    }

    private static func parsed(_ text: String) throws -> IPAddress {
        guard let address = IPAddress(text) else {
            throw CommandFailure(message: "\(text) is no address", code: ExitStatus.usage)
        }
        return address
    }

    func bind(_ address: String, _ port: UInt16) throws {
        let code = SocketAddress(try Self.parsed(address), port: port).bind(descriptor)
        guard code == 0 else { throw Self.failure("port \(port)", code) }
    }

    func connect(_ address: String, _ port: UInt16) throws {
        let code = SocketAddress(try Self.parsed(address), port: port).connect(descriptor)
        guard code == 0 else { throw Self.failure("\(address) port \(port)", code) }
    }

    /// Takes part in a multicast group, on the interface that a route to it names.
    func join(_ group: String) throws {
        guard SocketCalls.join(descriptor, group: try Self.parsed(group)) else { throw Self.failure("join \(group)") }
    }

    /// Sends a datagram back.
    func echo() {
        var bytes = [UInt8](repeating: 0, count: 2048)
        guard let (count, sender) = SocketAddress.receive(descriptor, into: &bytes) else { return }
        sender.send(descriptor, Array(bytes.prefix(count)))
    }
}
