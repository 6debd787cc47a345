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
        /// Seconds that a client may go without reading while something is being written to it.
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

    /// Listens at several addresses, at least one.
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
                        host: address.host,
                        port: address.isLocalSocket ? 0 : SocketAddress(of: descriptor)?.port ?? address.port,
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
        for address in addresses where address.isLocalSocket { FileCalls.remove(address.host) }
    }

    private static func listen(_ address: ListenAddress) throws(EndpointError) -> Int32 {
        guard let socketAddress = address.socketAddress else { throw .cannotListen(address, code: EINVAL) }
        let kind = Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue) | Int32(SOCK_NONBLOCK.rawValue)
        let descriptor = socket(socketAddress.family, kind, 0)
        guard descriptor >= 0 else { throw .cannotListen(address, code: errno) }
        SocketCalls.set(descriptor, SOL_SOCKET, SO_REUSEADDR, Int32(1))
        // For its owner and group, from the moment that it is there.
        if address.isLocalSocket { _ = fchmod(descriptor, 0o660) }
        var code = socketAddress.bind(descriptor)
        if code == EADDRINUSE, address.isLocalSocket, isStale(socketAddress) {
            FileCalls.remove(address.host)
            code = socketAddress.bind(descriptor)
        }
        // The umask may have taken a part of these rights.
        if code == 0, address.isLocalSocket { FileCalls.setMode(address.host, 0o660) }
        // A burst past the queue waits for a second, until SYNs are sent again; the kernel bounds it by net.core.somaxconn.
        if code == 0, Glibc.listen(descriptor, SOMAXCONN) != 0 { code = errno }
        guard code == 0 else {
            close(descriptor)
            throw code == EADDRINUSE ? .inUse(address) : .cannotListen(address, code: code)
        }
        return descriptor
    }

    /// Whether nobody listens at a socket that is there: its owner was killed.
    private static func isStale(_ address: SocketAddress) -> Bool {
        let probe = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
        guard probe >= 0 else { return false }
        defer { close(probe) }
        return address.connect(probe) == ECONNREFUSED
    }
}

/// Messages to the server's thread.
enum ServerMessage: Sendable {
    /// An answer that a worker has made, for a connection by its number.
    case answer(connection: UInt64, AnswerSize, bytes: [UInt8])
    case stop
}
