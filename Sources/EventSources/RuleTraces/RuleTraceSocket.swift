internal import LinuxSupport

/// Receives what the kernel says of traced packets in one namespace.
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

    /// Messages that did not fit into the receive buffer.
    var drops: UInt32 { socket.memory.drops }

    func receive(into buffer: inout [UInt8]) -> NetlinkDatagram { socket.receive(into: &buffer) }
}
