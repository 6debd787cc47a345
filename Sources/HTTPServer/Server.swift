private import Foundation
public import HTTPTypes
private import LinuxSupport
public import Logging

/// A small HTTP/1.1 server: GET and HEAD, bounded in everything that a client can make it hold. One thread serves all
/// connections in turns and waits for none; answers that take longer are made by a few workers.
public final class Server: Sendable {
    public struct Limits: Sendable {
        /// Connections in all, and of one address. For one more the connection is closed that has been idle for longest, or
        /// else one whose client has paused, pipelines, or has not sent a whole request; only where all are being answered,
        /// the new one is refused.
        public var connections = 256
        public var connectionsPerAddress = 64
        /// Seconds without progress after which a client counts as having paused within a request's head or an answer.
        public var pause = 1.0
        /// Answers under way at workers, with those whose connections have closed meanwhile.
        public var smallAnswers = 512
        public var largeAnswers = 8
        /// Bytes of answers that clients have not taken; past them no large answer is begun.
        public var untakenBytes = 128 << 20
        /// Seconds that making an answer may take.
        public var answer = 30.0
        /// Seconds from a request's first byte, or the connection's beginning, to the end of its head.
        public var head = 5.0
        /// Seconds that a connection may wait for its next request.
        public var idle = 30.0
        /// Seconds that a client may take nothing of what is written to it.
        public var stall = 10.0
        /// Seconds that writing one response may take in all.
        public var response = 60.0

        public init() {}
    }

    public typealias Handler = @Sendable (HTTPRequest) -> EndpointAnswer

    /// Where it listens, with the port that was taken where 0 was asked for.
    public let address: ListenAddress

    private let mailbox = Mailbox<ServerMessage>()
    private let finished = DispatchSemaphore(value: 0)

    /// Listens and begins to serve.
    public init(_ address: ListenAddress, limits: Limits = Limits(), logger: Logger, handler: @escaping Handler)
        throws(EndpointError)
    {
        let descriptor = try Self.listen(address)
        self.address = ListenAddress(
            host: address.host, port: Self.port(of: descriptor) ?? address.port, isIPv6: address.isIPv6)
        let thread = Thread { [mailbox, finished] in
            let loop = ServerLoop(
                descriptor: descriptor, mailbox: mailbox, limits: limits, logger: logger, handler: handler)
            loop.runUntilStopped()
            finished.signal()
        }
        thread.name = "http"
        thread.start()
    }

    /// Stops serving and closes all connections.
    public func stop() {
        mailbox.send(.stop)
        finished.wait()
    }

    private static func listen(_ address: ListenAddress) throws(EndpointError) -> Int32 {
        let family = address.isIPv6 ? AF_INET6 : AF_INET
        let kind = Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue) | Int32(SOCK_NONBLOCK.rawValue)
        let descriptor = socket(family, kind, 0)
        guard descriptor >= 0 else { throw .cannotListen(address, code: errno) }
        var on: Int32 = 1
        unsafe setsockopt(descriptor, SOL_SOCKET, SO_REUSEADDR, &on, 4)
        let isBound = unsafe address.withSocketAddress { unsafe bind(descriptor, $0, $1) == 0 } ?? false
        guard isBound, Glibc.listen(descriptor, 128) == 0 else {
            let code = errno
            close(descriptor)
            throw code == EADDRINUSE ? .inUse(address) : .cannotListen(address, code: code)
        }
        return descriptor
    }

    private static func port(of descriptor: Int32) -> UInt16? {
        var storage = sockaddr_storage()
        var length = socklen_t(MemoryLayout<sockaddr_storage>.size)
        return unsafe withUnsafeMutablePointer(to: &storage) { pointer -> UInt16? in
            let status = unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                unsafe getsockname(descriptor, $0, &length)
            }
            guard status == 0 else { return nil }
            // The port is at the same place in both families' addresses.
            return unsafe pointer.withMemoryRebound(to: sockaddr_in.self, capacity: 1) {
                unsafe UInt16(bigEndian: $0.pointee.sin_port)
            }
        }
    }
}

/// Messages to the server's thread.
enum ServerMessage: Sendable {
    /// An answer that a worker has made, for a connection by its number.
    case answer(connection: UInt64, AnswerSize, bytes: [UInt8])
    case stop
}
