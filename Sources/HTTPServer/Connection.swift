internal import Foundation
private import LinuxSupport

/// One client.
final class Connection {
    enum State {
        /// Waits for its client to send a request, or the rest of one.
        case reading
        /// Has bytes that may be a whole request, and waits for its turn.
        case ready
        /// Waits for a worker.
        case answering(Task<Void, Never>, keepsAlive: Bool)
        /// Has an answer that its client has not taken.
        case writing
        /// Sends what its source has, until its client leaves.
        case streaming(any StreamSource)
        case closed
    }

    let descriptor: Int32
    let number: UInt64
    /// Address without port.
    let peer: [UInt8]
    var state = State.reading
    var parser = RequestParser()
    var output: [UInt8] = []
    var written = 0
    var closesAfterOutput = false
    /// Monotonic seconds since which nothing has come from its client, or since a request's head has begun.
    var waitsSince: Double
    /// Monotonic seconds at which it is given up.
    var deadline: Double
    /// Monotonic seconds at which writing the answer began.
    var writesSince = 0.0

    init(_ descriptor: Int32, number: UInt64, peer: [UInt8], now: Double, deadline: Double) {
        self.descriptor = descriptor
        self.number = number
        self.peer = peer
        waitsSince = now
        self.deadline = deadline
    }

    deinit { close() }

    func close() {
        switch state {
        case .closed: return
        case .answering(let task, _): task.cancel()
        case .reading, .ready, .writing, .streaming: break
        }
        state = .closed
        output = []
        Glibc.close(descriptor)
    }

    var isClosed: Bool {
        if case .closed = state { return true }
        return false
    }

    var isStreaming: Bool {
        if case .streaming = state { return true }
        return false
    }

    var isReady: Bool {
        if case .ready = state { return true }
        return false
    }

    /// Why a connection may be closed to make room for another, the best reason first.
    enum Dispensability: Int {
        case idle
        /// Its client has paused within a request's head or an answer.
        case paused
        /// Has sent more requests than the one that is being answered.
        case pipelining
        /// Has sent a part of a request's head, just now.
        case sending
        /// Waits for an answer, but its client sends no more, and has most likely gone.
        case left
    }

    func dispensability(at now: Double, _ limits: Server.Limits) -> Dispensability? {
        let hasPaused = now - waitsSince >= limits.pause
        switch state {
        // A request that has arrived and was not read yet is one, too.
        case .reading where !parser.hasBegun: return hasInput ? nil : .idle
        case .reading: return hasPaused ? .paused : .sending
        case .writing where hasPaused || now - writesSince >= limits.stall: return .paused
        case .answering where !parser.hasBegun: return hasNoMoreInput ? .left : nil
        case .ready, .answering, .writing: return parser.hasBegun ? .pipelining : nil
        case .streaming where hasPaused && !output.isEmpty: return .paused
        case .streaming, .closed: return nil
        }
    }

    /// Events of poll(2) that it waits for. A client that does not take its answer, or waits for one, is not read from.
    var events: Int16 {
        switch state {
        case .reading: Int16(POLLIN)
        case .writing: Int16(POLLOUT)
        // Whatever its client still sends is not looked at; that it leaves is.
        case .streaming: Int16(POLLIN) | (output.isEmpty ? 0 : Int16(POLLOUT))
        case .ready, .answering, .closed: 0
        }
    }

    /// Whether something has arrived that was not read.
    private var hasInput: Bool { peek() > 0 }

    /// Whether the client has closed the connection, or at least its direction.
    private var hasNoMoreInput: Bool { peek() == 0 }

    private func peek() -> Int {
        var byte: [UInt8] = [0]
        return SocketCalls.receive(descriptor, into: &byte, flags: Int32(MSG_PEEK) | Int32(MSG_DONTWAIT))
    }
}
