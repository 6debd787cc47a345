internal import Foundation
internal import HTTPTypes
internal import Logging
internal import Mailbox

/// One client.
private struct Connection {
    let number: UInt64
    let peer: String
    var parser = RequestParser()
    var output: [UInt8] = []
    var written = 0
    /// Waits for an answer that is made elsewhere.
    var isPending: (isHead: Bool, keepsAlive: Bool)?
    var closesAfterOutput = false
    /// Monotonic seconds at which it is given up.
    var deadline: Double
    /// The same for the response being written, however steadily it is taken.
    var responseDeadline = Double.infinity
}

/// The server's thread: accepts, reads, answers and writes, never waiting for any one client.
struct ServerLoop: ~Copyable {
    private let listener: Int32
    private let mailbox: Mailbox<ServerMessage>
    private let limits: HTTPServer.Limits
    private let logger: Logger
    private let handler: HTTPServer.Handler
    private var connections: [Int32: Connection] = [:]
    private var nextNumber: UInt64 = 1
    /// After running out of descriptors no connection is accepted until then.
    private var acceptsAgainAt = 0.0
    private var buffer = [UInt8](repeating: 0, count: 1 << 14)

    init(
        descriptor: Int32, mailbox: Mailbox<ServerMessage>, limits: HTTPServer.Limits, logger: Logger,
        handler: @escaping HTTPServer.Handler
    ) {
        listener = descriptor
        self.mailbox = mailbox
        self.limits = limits
        self.logger = logger
        self.handler = handler
    }

    deinit {
        for descriptor in connections.keys { close(descriptor) }
        close(listener)
    }

    private static func clock() -> Double {
        var time = timespec()
        unsafe clock_gettime(CLOCK_MONOTONIC, &time)
        return Double(time.tv_sec) + Double(time.tv_nsec) / 1e9
    }

    consuming func runUntilStopped() {
        while true {
            let now = Self.clock()
            var descriptors = [
                pollfd(fd: mailbox.descriptor, events: Int16(POLLIN), revents: 0),
                pollfd(fd: now < acceptsAgainAt ? -1 : listener, events: Int16(POLLIN), revents: 0),
            ]
            for (descriptor, connection) in connections {
                // A client that does not take what it asked for, or waits for an answer, is not read from.
                let events =
                    connection.written < connection.output.count
                    ? Int16(POLLOUT) : connection.isPending == nil ? Int16(POLLIN) : 0
                descriptors.append(pollfd(fd: descriptor, events: events, revents: 0))
            }
            _ = unsafe poll(&descriptors, nfds_t(descriptors.count), connections.isEmpty && now >= acceptsAgainAt ? 1000 : 100)
            if descriptors[0].revents != 0 {
                for message in mailbox.receive() {
                    switch message {
                    case .stop: return
                    case .answer(let number, let response): answer(number, response)
                    }
                }
            }
            for entry in descriptors[2...] where entry.revents != 0 { serve(entry.fd, entry.revents) }
            if descriptors[1].revents != 0 { acceptAll() }
            expire(Self.clock())
        }
    }

    private mutating func acceptAll() {
        for _ in 0..<64 {
            var storage = sockaddr_storage()
            var length = socklen_t(MemoryLayout<sockaddr_storage>.size)
            let descriptor = unsafe withUnsafeMutablePointer(to: &storage) { pointer in
                unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                    unsafe accept(listener, $0, &length)
                }
            }
            guard descriptor >= 0 else {
                if errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM {
                    logger.warning("out of file descriptors: no connections are accepted for a moment")
                    acceptsAgainAt = Self.clock() + 0.1
                }
                return
            }
            _ = fcntl(descriptor, F_SETFD, FD_CLOEXEC)
            _ = fcntl(descriptor, F_SETFL, O_NONBLOCK)
            let peer = Self.name(of: storage)
            let isFull = connections.count >= limits.connections
            if isFull || connections.values.count(where: { $0.peer == peer }) >= limits.connectionsPerAddress {
                refuse(descriptor)
                continue
            }
            var on: Int32 = 1
            unsafe setsockopt(descriptor, Int32(IPPROTO_TCP), TCP_NODELAY, &on, 4)
            connections[descriptor] = Connection(number: nextNumber, peer: peer, deadline: Self.clock() + limits.head)
            nextNumber += 1
        }
    }

    /// The address without its port, as a key.
    private static func name(of storage: sockaddr_storage) -> String {
        unsafe withUnsafeBytes(of: storage) { bytes in
            let isIPv6 = storage.ss_family == sa_family_t(AF_INET6)
            return unsafe bytes[isIPv6 ? 8..<24 : 4..<8].map { String($0) }.joined(separator: ".")
        }
    }

    private func refuse(_ descriptor: Int32) {
        let bytes = serialize(Self.problem(.serviceUnavailable, "too many connections"), isHead: false, keepsAlive: false)
        _ = unsafe bytes.withUnsafeBytes { unsafe send(descriptor, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL)) }
        close(descriptor)
    }

    private mutating func serve(_ descriptor: Int32, _ events: Int16) {
        guard connections[descriptor] != nil else { return }
        if events & Int16(POLLOUT) != 0 {
            write(descriptor)
            proceed(descriptor)
        } else if events & Int16(POLLIN) != 0 {
            read(descriptor)
        } else {
            drop(descriptor)
        }
    }

    private mutating func read(_ descriptor: Int32) {
        let count = unsafe buffer.withUnsafeMutableBytes {
            unsafe recv(descriptor, $0.baseAddress, $0.count, Int32(MSG_DONTWAIT))
        }
        if count < 0, errno == EAGAIN || errno == EINTR { return }
        guard count > 0 else { return drop(descriptor) }
        // The deadline of a head is absolute: it runs from its first byte, however slowly the rest comes.
        if connections[descriptor]?.parser.hasBegun == false { connections[descriptor]?.deadline = Self.clock() + limits.head }
        connections[descriptor]?.parser.append(buffer[..<count])
        proceed(descriptor)
    }

    /// Answers the requests that have arrived, one at a time.
    private mutating func proceed(_ descriptor: Int32) {
        while let connection = connections[descriptor], connection.isPending == nil, connection.output.isEmpty {
            guard let result = connections[descriptor]?.parser.next() else { return }
            switch result {
            case .needsMore:
                return
            case .refused(let status, let message):
                respond(descriptor, Self.problem(status, message), isHead: false, keepsAlive: false)
            case .request(let request):
                let isHead = request.request.method == .head
                guard isOwnHost(request.request.authority) else {
                    respond(
                        descriptor,
                        Self.problem(.misdirectedRequest, "the Host field names another machine; use an address or localhost"),
                        isHead: isHead, keepsAlive: false)
                    continue
                }
                guard request.request.method == .get || isHead else {
                    var response = Self.problem(.methodNotAllowed, "only GET and HEAD are served")
                    response.head.headerFields[.allow] = "GET, HEAD"
                    respond(descriptor, response, isHead: false, keepsAlive: request.keepsAlive)
                    continue
                }
                switch handler(request.request) {
                case .now(let response):
                    respond(descriptor, response, isHead: isHead, keepsAlive: request.keepsAlive)
                case .later(let make):
                    connections[descriptor]?.isPending = (isHead, request.keepsAlive)
                    connections[descriptor]?.deadline = .infinity
                    Task { [mailbox, number = connection.number] in mailbox.send(.answer(number, await make())) }
                }
            }
        }
    }

    private mutating func answer(_ number: UInt64, _ response: EndpointResponse) {
        guard let (descriptor, connection) = connections.first(where: { $0.value.number == number }),
            let pending = connection.isPending
        else { return }
        connections[descriptor]?.isPending = nil
        respond(descriptor, response, isHead: pending.isHead, keepsAlive: pending.keepsAlive)
        proceed(descriptor)
    }

    private mutating func respond(_ descriptor: Int32, _ response: EndpointResponse, isHead: Bool, keepsAlive: Bool) {
        connections[descriptor]?.output = serialize(response, isHead: isHead, keepsAlive: keepsAlive)
        connections[descriptor]?.written = 0
        connections[descriptor]?.closesAfterOutput = !keepsAlive
        connections[descriptor]?.responseDeadline = Self.clock() + limits.response
        connections[descriptor]?.deadline = Self.clock() + limits.stall
        write(descriptor)
    }

    /// Writes what the client takes; the whole response in one call where it takes all.
    private mutating func write(_ descriptor: Int32) {
        guard let connection = connections[descriptor] else { return }
        let count = unsafe connection.output.withUnsafeBytes {
            unsafe send(
                descriptor, $0.baseAddress?.advanced(by: connection.written), $0.count - connection.written,
                Int32(MSG_NOSIGNAL) | Int32(MSG_DONTWAIT))
        }
        if count < 0 {
            if errno != EAGAIN, errno != EINTR { drop(descriptor) }
            return
        }
        connections[descriptor]?.written += count
        connections[descriptor]?.deadline = min(Self.clock() + limits.stall, connection.responseDeadline)
        guard connection.written + count == connection.output.count else { return }
        if connection.closesAfterOutput { return drop(descriptor) }
        connections[descriptor]?.output = []
        connections[descriptor]?.written = 0
        let hasMore = connections[descriptor]?.parser.hasBegun == true
        connections[descriptor]?.deadline = Self.clock() + (hasMore ? limits.head : limits.idle)
    }

    private mutating func expire(_ now: Double) {
        for (descriptor, connection) in connections where connection.deadline <= now {
            if connection.output.isEmpty, connection.parser.hasBegun {
                respond(
                    descriptor, Self.problem(.requestTimeout, "the request's head took too long"), isHead: false,
                    keepsAlive: false)
            } else {
                drop(descriptor)
            }
        }
    }

    private mutating func drop(_ descriptor: Int32) {
        connections[descriptor] = nil
        close(descriptor)
    }

    static func problem(_ status: HTTPResponse.Status, _ message: String) -> EndpointResponse {
        .problem(status, message)
    }
}
