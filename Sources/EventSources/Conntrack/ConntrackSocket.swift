private import Glibc
internal import LinuxSupport
internal import TraceModel
internal import WireFormat

/// Follows the connections of one namespace over ctnetlink, for those whose addresses are translated.
struct ConntrackSocket: ~Copyable {
    private let socket: NetlinkSocket

    /// Subscribes in the namespace that the thread is in.
    init() throws {
        // NFNLGRP_CONNTRACK_NEW (1) and NFNLGRP_CONNTRACK_DESTROY (3), by bit.
        socket = try NetlinkSocket(.netfilter, groups: 0b101)
        _ = socket.setReceiveBuffer(4 << 20)
        socket.keepReceivingAfterOverflow()
    }

    var descriptor: Int32 { socket.descriptor }

    /// Deliveries that did not fit into the receive buffer.
    var drops: UInt32 { socket.memory.drops }

    /// The translated connections that there are already. The socket is one of its own, in the namespace of the thread.
    static func existing() throws -> [ConntrackMessage] {
        for _ in 0..<5 {
            do {
                return try existingOnce()
            } catch let error as NetlinkError where error.isInterrupted {
                // The table was resized while it was listed.
                continue
            }
        }
        return try existingOnce()
    }

    private static func existingOnce() throws -> [ConntrackMessage] {
        let socket = try NetlinkSocket(.netfilter)
        var request = NetlinkRequest()
        // IPCTNL_MSG_CT_GET (1) in NFNL_SUBSYS_CTNETLINK (1)
        request.append(type: 0x0101, flags: [.request, .dump], body: NetlinkRequest.nfgenmsg(family: 0))
        var connections: [ConntrackMessage] = []
        try socket.ask(request.bytes, operation: "list connections") { (bytes, message) throws(ParseError) in
            guard message.type == ConntrackMessage.new else { return }
            // As in `drain`.
            if let connection = try? ConntrackMessage(parsing: bytes, body: message.body), connection.isTranslated {
                connections.append(connection)
            }
        }
        return connections
    }

    /// Hands over the reports since the last call, without waiting.
    func drain(into buffer: inout [UInt8], _ body: (ConntrackMessage, _ isNew: Bool) -> Void) {
        // Bounded, so that a storm of connections cannot hold up the events.
        for _ in 0..<64 {
            guard case .bytes(let count) = socket.receive(into: &buffer) else { return }
            let bytes = buffer.octets.extracting(0..<count)
            var offset = 0
            // A report that cannot be parsed costs a translation's confirmation, nothing else.
            while let message = try? NetlinkMessage.next(in: bytes, at: &offset) {
                guard message.type == ConntrackMessage.new || message.type == ConntrackMessage.delete,
                    let connection = try? ConntrackMessage(parsing: bytes, body: message.body), connection.isTranslated
                else { continue }
                body(connection, message.type == ConntrackMessage.new)
            }
        }
    }
}
