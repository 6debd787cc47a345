internal import Foundation
private import LinuxSupport

/// Answers that go on for as long as their clients stay.
extension ServerLoop {
    mutating func stream(_ connection: Connection, _ contentType: String, _ source: any StreamSource, isHead: Bool) {
        guard connections.count(where: \.isStreaming) < limits.streams else {
            return respond(connection, .unavailable("too many streams"), isHead: isHead, keepsAlive: false)
        }
        let head = serialize(streamOf: contentType)
        guard !isHead else { return write(connection, head, keepsAlive: false) }
        connection.state = .streaming(source)
        connection.output = head
        connection.written = 0
        connection.waitsSince = Self.clock()
        connection.deadline = .infinity
        goOn(connection, source, 0)
    }

    /// Sends what there is; one piece after the other, so that a client that does not read holds no more than one.
    mutating func goOn(_ connection: Connection, _ source: any StreamSource, _ events: Int16) {
        if events & Int16(POLLIN) != 0 {
            let count = SocketCalls.receive(connection.descriptor, into: &buffer, flags: Int32(MSG_DONTWAIT))
            if count == 0 || count < 0 && errno != EAGAIN && errno != EINTR { return connection.close() }
        }
        if connection.output.isEmpty {
            connection.output = source.next()
            connection.written = 0
            guard !connection.output.isEmpty else { return }
            connection.waitsSince = Self.clock()
        }
        let count = SocketCalls.send(
            connection.descriptor, connection.output, connection.written..<connection.output.count, flags: Int32(MSG_DONTWAIT))
        if count < 0 {
            if errno != EAGAIN, errno != EINTR { return connection.close() }
        } else {
            connection.written += count
            if count > 0 { connection.waitsSince = Self.clock() }
        }
        if connection.written == connection.output.count {
            connection.output = []
            connection.written = 0
        }
        connection.deadline = connection.output.isEmpty ? .infinity : connection.waitsSince + limits.stall
    }
}
