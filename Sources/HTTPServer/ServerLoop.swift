internal import Foundation
internal import HTTPTypes
internal import LinuxSupport
internal import Logging

/// The server's thread. In each round every connection gets one turn: one read, one request and one write at most, none of
/// which waits.
struct ServerLoop: ~Copyable {
    private let listeners: [Int32]
    private let mailbox: Mailbox<ServerMessage>
    let limits: Server.Limits
    let logger: Logger
    let handler: Server.Handler
    private let allowedHosts: Set<String>
    private let smallWorkers = AnswerWorkers(threads: 2, name: "answers")
    /// One thread, since each large answer takes its multiple in memory.
    private let largeWorkers = AnswerWorkers(threads: 1, name: "large answers")
    private var smallAnswers = 0
    private var largeAnswers = 0
    var connections: [Connection] = []
    private var nextNumber: UInt64 = 1
    /// After running out of descriptors no connection is accepted until then.
    private var acceptsAgainAt = 0.0
    private var isOutOfDescriptors = false
    var buffer = [UInt8](repeating: 0, count: 1 << 14)

    /// Bytes of an answer that are written in one turn at most.
    private static let bytesPerTurn = 1 << 20

    init(
        listeners: [Int32], mailbox: Mailbox<ServerMessage>, limits: Server.Limits, allowedHosts: Set<String>, logger: Logger,
        handler: @escaping Server.Handler
    ) {
        self.listeners = listeners
        self.allowedHosts = allowedHosts
        self.mailbox = mailbox
        self.limits = limits
        self.logger = logger
        self.handler = handler
    }

    deinit {
        for connection in connections { connection.close() }
        for listener in listeners { close(listener) }
        smallWorkers.stop()
        largeWorkers.stop()
    }

    /// Seconds of the monotonic clock.
    static func clock() -> Double { Double(Clock.monotonic) / 1e6 }

    consuming func runUntilStopped() {
        var descriptors: [pollfd] = []
        while true {
            let isAccepting = Self.clock() >= acceptsAgainAt
            descriptors.removeAll(keepingCapacity: true)
            descriptors.append(pollfd(fd: mailbox.descriptor, events: Int16(POLLIN), revents: 0))
            for listener in listeners {
                descriptors.append(pollfd(fd: isAccepting ? listener : -1, events: Int16(POLLIN), revents: 0))
            }
            for connection in connections {
                descriptors.append(pollfd(fd: connection.descriptor, events: connection.events, revents: 0))
            }
            let timeout: Int32 =
                connections.contains(where: \.isReady) ? 0 : connections.isEmpty && isAccepting ? 1000 : 100
            SocketCalls.poll(&descriptors, milliseconds: timeout)
            if descriptors[0].revents != 0 {
                for message in mailbox.receive() {
                    switch message {
                    case .stop: return
                    case .answer(let number, let size, let bytes): take(bytes, size, for: number)
                    }
                }
            }
            for (position, connection) in connections.enumerated() {
                takeTurn(connection, descriptors[position + 1 + listeners.count].revents)
            }
            expire(Self.clock())
            connections.removeAll(where: \.isClosed)
            for (position, listener) in listeners.enumerated() where descriptors[position + 1].revents != 0 {
                acceptAll(listener)
            }
        }
    }

    // MARK: Accepting

    private mutating func acceptAll(_ listener: Int32) {
        for _ in 0..<64 {
            let accepted = SocketAddress.accept(listener)
            let code = errno
            let now = Self.clock()
            guard let (descriptor, address) = accepted else {
                if code == EMFILE, closeLongestWaiting(now, where: { _ in true }) { continue }
                if code == EMFILE || code == ENFILE || code == ENOBUFS || code == ENOMEM {
                    if !isOutOfDescriptors {
                        logger.warning("out of file descriptors: HTTP connections wait until some are free")
                    }
                    isOutOfDescriptors = true
                    acceptsAgainAt = now + 0.1
                }
                return
            }
            isOutOfDescriptors = false
            _ = fcntl(descriptor, F_SETFD, FD_CLOEXEC)
            _ = fcntl(descriptor, F_SETFL, O_NONBLOCK)
            // All clients of sockets in the file system count as one.
            let peer = address.host
            guard makeRoom(for: peer, now) else {
                refuse(descriptor)
                continue
            }
            SocketCalls.set(descriptor, Int32(IPPROTO_TCP), TCP_NODELAY, Int32(1))
            connections.append(
                Connection(descriptor, number: nextNumber, peer: peer, now: now, deadline: now + limits.head))
            nextNumber += 1
        }
    }

    /// Whether one more connection from `peer` may be kept, after closing another where that is needed.
    private mutating func makeRoom(for peer: [UInt8], _ now: Double) -> Bool {
        if connections.count(where: { $0.peer == peer }) >= limits.connectionsPerAddress {
            return closeLongestWaiting(now) { $0.peer == peer }
        }
        return connections.count < limits.connections || closeLongestWaiting(now) { _ in true }
    }

    /// Closes the connection that has been idle for longest, or else the one that can best be done without.
    private mutating func closeLongestWaiting(_ now: Double, where isMeant: (Connection) -> Bool) -> Bool {
        var best: (connection: Connection, rank: (Int, Double))?
        for connection in connections where isMeant(connection) {
            guard let reason = connection.dispensability(at: now, limits) else { continue }
            let rank = (reason.rawValue, connection.waitsSince)
            if let found = best, found.rank <= rank { continue }
            best = (connection, rank)
        }
        guard let best else { return false }
        best.connection.close()
        connections.removeAll(where: \.isClosed)
        return true
    }

    private mutating func refuse(_ descriptor: Int32) {
        let bytes = serialize(.unavailable("too many connections"), isHead: false, keepsAlive: false)
        _ = SocketCalls.send(descriptor, bytes)
        discardInput(descriptor)
        close(descriptor)
    }

    /// Reads the waiting bytes: closing a socket with unread bytes resets the connection, which may cost the client the answer.
    private mutating func discardInput(_ descriptor: Int32) {
        shutdown(descriptor, Int32(SHUT_WR))
        for _ in 0..<16 {
            guard SocketCalls.receive(descriptor, into: &buffer, flags: Int32(MSG_DONTWAIT)) > 0 else { return }
        }
    }

    // MARK: Turns

    private mutating func takeTurn(_ connection: Connection, _ events: Int16) {
        switch connection.state {
        case .reading:
            guard events != 0 else { return }
            read(connection)
        case .writing:
            // An error shows when writing.
            if events != 0 { write(connection) }
            return
        case .answering:
            // A client that only sends no more may still read.
            if events & Int16(POLLHUP | POLLERR) != 0 { connection.close() }
        case .streaming(let source):
            return goOn(connection, source, events)
        case .ready, .closed: break
        }
        if connection.isReady { serveNext(connection) }
    }

    private mutating func read(_ connection: Connection) {
        let count = SocketCalls.receive(connection.descriptor, into: &buffer, flags: Int32(MSG_DONTWAIT))
        if count < 0, errno == EAGAIN || errno == EINTR { return }
        guard count > 0 else { return connection.close() }
        // The deadline of a head is absolute: it runs from its first byte, however slowly the rest comes.
        if !connection.parser.hasBegun {
            connection.waitsSince = Self.clock()
            connection.deadline = connection.waitsSince + limits.head
        }
        connection.parser.append(buffer[..<count])
        connection.state = .ready
    }

    /// Answers the next request, if it has arrived whole.
    private mutating func serveNext(_ connection: Connection) {
        switch connection.parser.next() {
        case .needsMore:
            connection.state = .reading
        case .refused(let status, let message):
            respond(connection, .problem(status, message), isHead: false, keepsAlive: false)
        case .request(let request):
            let isHead = request.request.method == .head
            switch request.request.authority.map({ Authority($0, allowedHosts: allowedHosts) }) {
            case .own, nil: break
            case .other:
                return respond(
                    connection,
                    .problem(
                        .misdirectedRequest,
                        "the Host field names another machine; use an address or localhost, or have --allow-host name it"),
                    isHead: isHead, keepsAlive: false)
            case .malformed:
                return respond(
                    connection, .problem(.badRequest, "the Host field is no host with an optional port"), isHead: isHead,
                    keepsAlive: false)
            }
            guard request.request.method == .get || isHead else {
                var response = EndpointResponse.problem(.methodNotAllowed, "only GET and HEAD are served")
                response.head.headerFields[.allow] = "GET, HEAD"
                return respond(connection, response, isHead: false, keepsAlive: request.keepsAlive)
            }
            switch handler(request.request) {
            case .now(let response):
                respond(connection, response, isHead: isHead, keepsAlive: request.keepsAlive)
            case .stream(let contentType, let source):
                stream(connection, contentType, source, isHead: isHead)
            case .later(let size, let make):
                let coding = ContentCoding(accepted: request.request.headerFields[.acceptEncoding])
                begin(connection, size, isHead: isHead, keepsAlive: request.keepsAlive) { await make().coded(coding) }
            }
        }
    }

    // MARK: Workers

    /// Has an answer made by a worker.
    private mutating func begin(
        _ connection: Connection, _ size: AnswerSize, isHead: Bool, keepsAlive: Bool,
        _ make: @escaping @Sendable () async -> EndpointResponse
    ) {
        let isBusy =
            switch size {
            case .small: smallAnswers >= limits.smallAnswers
            case .large:
                largeAnswers >= limits.largeAnswers
                    || connections.reduce(0) { $0 + $1.output.count } >= limits.untakenBytes
            }
        guard !isBusy else {
            return respond(
                connection, .unavailable("too many answers are under way; ask again in a second"), isHead: isHead,
                keepsAlive: keepsAlive)
        }
        count(size, 1)
        let workers = size == .small ? smallWorkers : largeWorkers
        let task = workers.run { [mailbox, number = connection.number] in
            // No answer is made for a connection that closed while it waited for a worker.
            let bytes = Task.isCancelled ? [] : serialize(await make(), isHead: isHead, keepsAlive: keepsAlive)
            mailbox.send(.answer(connection: number, size, bytes: bytes))
        }
        connection.state = .answering(task, keepsAlive: keepsAlive)
        connection.deadline = Self.clock() + limits.answer
    }

    private mutating func count(_ size: AnswerSize, _ change: Int) {
        switch size {
        case .small: smallAnswers += change
        case .large: largeAnswers += change
        }
    }

    /// Takes a worker's answer; drops it if its connection has closed.
    private mutating func take(_ bytes: [UInt8], _ size: AnswerSize, for number: UInt64) {
        count(size, -1)
        guard let connection = connections.first(where: { $0.number == number }),
            case .answering(_, let keepsAlive) = connection.state
        else { return }
        write(connection, bytes, keepsAlive: keepsAlive)
    }

    // MARK: Writing

    mutating func respond(_ connection: Connection, _ response: EndpointResponse, isHead: Bool, keepsAlive: Bool) {
        write(connection, serialize(response, isHead: isHead, keepsAlive: keepsAlive), keepsAlive: keepsAlive)
    }

    mutating func write(_ connection: Connection, _ bytes: [UInt8], keepsAlive: Bool) {
        let now = Self.clock()
        connection.state = .writing
        connection.output = bytes
        connection.written = 0
        connection.closesAfterOutput = !keepsAlive
        connection.waitsSince = now
        connection.writesSince = now
        connection.deadline = now + limits.stall
        write(connection)
    }

    /// Writes as much as the client takes; a response of one turn's size in one call where it takes all.
    private mutating func write(_ connection: Connection) {
        let end = min(connection.output.count, connection.written + Self.bytesPerTurn)
        let count = SocketCalls.send(
            connection.descriptor, connection.output, connection.written..<end, flags: Int32(MSG_DONTWAIT))
        if count < 0 {
            if errno != EAGAIN, errno != EINTR { connection.close() }
            return
        }
        let now = Self.clock()
        connection.written += count
        connection.waitsSince = now
        connection.deadline = min(now + limits.stall, connection.writesSince + limits.response)
        guard connection.written == connection.output.count else { return }
        if connection.closesAfterOutput {
            discardInput(connection.descriptor)
            return connection.close()
        }
        connection.output = []
        connection.written = 0
        let hasMore = connection.parser.hasBegun
        connection.state = hasMore ? .ready : .reading
        connection.deadline = now + (hasMore ? limits.head : limits.idle)
    }

    private mutating func expire(_ now: Double) {
        for connection in connections where connection.deadline <= now {
            switch connection.state {
            case .reading where connection.parser.hasBegun:
                respond(
                    connection, .problem(.requestTimeout, "the request's head took too long"), isHead: false,
                    keepsAlive: false)
            case .answering(let task, _):
                task.cancel()
                respond(connection, .unavailable("the answer took too long"), isHead: false, keepsAlive: false)
            case .ready, .closed: break
            case .reading, .writing, .streaming: connection.close()
            }
        }
    }
}
