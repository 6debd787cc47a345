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
        /// Streams at once.
        public var streams = 32
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

    /// Where it listens, with the ports that were taken where 0 was asked for; at least one.
    public let addresses: [ListenAddress]

    /// The first of them.
    public var address: ListenAddress { addresses[0] }

    private let mailbox = Mailbox<ServerMessage>()
    private let finished = DispatchSemaphore(value: 0)

    /// Listens and begins to serve.
    ///
    /// - Parameter allowedHosts: names that requests may be addressed to, in lower case, beside addresses and `localhost`.
    public convenience init(
        _ address: ListenAddress, limits: Limits = Limits(), allowedHosts: Set<String> = [], logger: Logger,
        handler: @escaping Handler
    ) throws(EndpointError) {
        try self.init([address], limits: limits, allowedHosts: allowedHosts, logger: logger, handler: handler)
    }

    /// The same at several addresses; at one at least.
    public init(
        _ addresses: [ListenAddress], limits: Limits = Limits(), allowedHosts: Set<String> = [], logger: Logger,
        handler: @escaping Handler
    ) throws(EndpointError) {
        var descriptors: [Int32] = []
        var taken: [ListenAddress] = []
        do {
            for address in addresses {
                let descriptor = try Self.listen(address)
                descriptors.append(descriptor)
                taken.append(
                    ListenAddress(
                        host: address.host, port: address.isLocalSocket ? 0 : Self.port(of: descriptor) ?? address.port,
                        isIPv6: address.isIPv6, isLocalSocket: address.isLocalSocket))
            }
        } catch {
            for descriptor in descriptors { close(descriptor) }
            Self.removeSockets(taken)
            throw error
        }
        self.addresses = taken
        let listeners = descriptors
        let thread = Thread { [mailbox, finished] in
            let loop = ServerLoop(
                listeners: listeners, mailbox: mailbox, limits: limits, allowedHosts: allowedHosts, logger: logger,
                handler: handler)
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
        Self.removeSockets(addresses)
    }

    private static func removeSockets(_ addresses: [ListenAddress]) {
        for address in addresses where address.isLocalSocket { unsafe unlink(address.host) }
    }

    private static func listen(_ address: ListenAddress) throws(EndpointError) -> Int32 {
        let family = address.isLocalSocket ? AF_UNIX : address.isIPv6 ? AF_INET6 : AF_INET
        let kind = Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue) | Int32(SOCK_NONBLOCK.rawValue)
        let descriptor = socket(family, kind, 0)
        guard descriptor >= 0 else { throw .cannotListen(address, code: errno) }
        var on: Int32 = 1
        unsafe setsockopt(descriptor, SOL_SOCKET, SO_REUSEADDR, &on, 4)
        // For its owner and group, from the moment that it is there.
        if address.isLocalSocket { _ = fchmod(descriptor, 0o660) }
        var isBound = unsafe address.withSocketAddress { unsafe bind(descriptor, $0, $1) == 0 } ?? false
        if !isBound, errno == EADDRINUSE, address.isLocalSocket, isStale(address) {
            unsafe unlink(address.host)
            isBound = unsafe address.withSocketAddress { unsafe bind(descriptor, $0, $1) == 0 } ?? false
        }
        // What the umask took of it.
        if isBound, address.isLocalSocket { _ = unsafe chmod(address.host, 0o660) }
        guard isBound, Glibc.listen(descriptor, 128) == 0 else {
            let code = errno
            close(descriptor)
            throw code == EADDRINUSE ? .inUse(address) : .cannotListen(address, code: code)
        }
        return descriptor
    }

    /// Whether nobody listens at a socket that is there: its owner was killed.
    private static func isStale(_ address: ListenAddress) -> Bool {
        let probe = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
        guard probe >= 0 else { return false }
        defer { close(probe) }
        let isRefused = unsafe address.withSocketAddress { unsafe connect(probe, $0, $1) != 0 && errno == ECONNREFUSED }
        errno = EADDRINUSE
        return isRefused ?? false
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
