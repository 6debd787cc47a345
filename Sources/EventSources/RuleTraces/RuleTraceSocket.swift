internal import LinuxSupport

/// Receives the kernel's messages about traced packets in one namespace.
final class RuleTraceSocket: Sendable {
    private let socket: NetlinkSocket

    /// `NFNLGRP_NFTRACE` of linux/netfilter/nfnetlink.h.
    private static let group: Int32 = 9

    /// Subscribes in the namespace that the thread is in.
    init() throws {
        socket = try NetlinkSocket(.netfilter)
        try socket.join(group: Self.group)
        _ = socket.setReceiveBuffer(4 << 20)
        socket.keepReceivingAfterOverflow()
    }

    var descriptor: Int32 { socket.descriptor }

    /// Datagrams that did not fit into the receive buffer.
    var drops: UInt32 { socket.memory.drops }

    func receive(into buffer: inout [UInt8]) -> NetlinkDatagram { socket.receive(into: &buffer) }
}

/// Where traces of one namespace are heard.
struct RuleTraceSockets: Sendable {
    var nftables: RuleTraceSocket
    /// `nil` where the logger is left alone.
    var logger: LoggerSocket?
}

/// NFLOG group 0 of one namespace, the kernel's own.
final class LoggerSocket: Sendable {
    private let socket: NFLogSocket

    /// Binds it in the namespace that the thread is in.
    init() throws {
        // One packet a delivery: traces are few, and are waited for.
        var settings = NFLogSocket.Settings()
        settings.queueThreshold = 1
        settings.receiveBuffer = 4 << 20
        socket = try NFLogSocket(group: 0, settings: settings)
    }

    var descriptor: Int32 { socket.descriptor }

    /// Datagrams that did not fit into the receive buffer.
    var drops: UInt32 { socket.memory.drops }

    func receive(into buffer: inout [UInt8]) -> NetlinkDatagram { socket.receive(into: &buffer) }
}
