private import CNetfilterLog
private import Glibc
internal import LinuxSupport
internal import WireFormat

/// A socket that receives one NFLOG group of one namespace, through libnetfilter_log's libmnl interface.
struct NFLogSocket: DatagramReceiver, ~Copyable {
    private let socket: NetlinkSocket

    struct Settings: Sendable {
        /// Bytes of each packet that are copied, from the IP header on. More than the parser looks at is for recordings.
        var copyRange = UInt32(PacketParser.reach)
        /// Messages that the kernel gathers before it delivers them: what a delivery costs, it costs both sides once, and
        /// one that fills less than half of its buffer is copied into a smaller one (netlink_trim in af_netlink.c).
        var queueThreshold: UInt32 = 400
        /// Hundredths of a second after which it delivers fewer.
        var flushTimeout: UInt32 = 1
        /// Bytes per delivery, at most 131072 (NFULNL_NLBUFSIZ_MAX in nfnetlink_log.c). The kernel's allocations are powers of
        /// two and hold some 400 bytes of its own as well: more than this would take twice the memory.
        var bufferSize: UInt32 = 130_000
        /// The socket's receive buffer in bytes.
        var receiveBuffer: Int32 = 32 << 20
    }

    /// Binds `group` in the namespace that the thread is in.
    ///
    /// `PF_BIND` is not sent: a rule names its group, and binding the family would change the host's default logger.
    init(group: UInt16, settings: Settings = Settings()) throws {
        let socket = try NetlinkSocket(.netfilter)
        _ = socket.setReceiveBuffer(settings.receiveBuffer)
        socket.keepReceivingAfterOverflow()
        // All in one message, so that no packet is reported under settings that are not ours.
        try unsafe Self.configure(socket, group, "bind NFLOG group \(group)") { header in
            guard unsafe nflog_attr_put_cfg_cmd(header, UInt8(NFULNL_CFG_CMD_BIND.rawValue)) >= 0,
                unsafe nflog_attr_put_cfg_mode(header, UInt8(NFULNL_COPY_PACKET), settings.copyRange) >= 0
            else { return -1 }
            unsafe mnl_attr_put_u32(header, UInt16(NFULA_CFG_NLBUFSIZ.rawValue), settings.bufferSize.bigEndian)
            unsafe mnl_attr_put_u32(header, UInt16(NFULA_CFG_QTHRESH.rawValue), settings.queueThreshold.bigEndian)
            unsafe mnl_attr_put_u32(header, UInt16(NFULA_CFG_TIMEOUT.rawValue), settings.flushTimeout.bigEndian)
            let flags = UInt16(NFULNL_CFG_F_SEQ | NFULNL_CFG_F_SEQ_GLOBAL)
            unsafe mnl_attr_put_u16(header, UInt16(NFULA_CFG_FLAGS.rawValue), flags.bigEndian)
            return 0
        }
        self.socket = socket
    }

    /// Sends one configuration message and waits for the kernel's answer.
    private static func configure(
        _ socket: borrowing NetlinkSocket, _ group: UInt16, _ operation: String,
        _ fill: (UnsafeMutablePointer<nlmsghdr>) -> Int32
    ) throws(NetlinkError) {
        var message = [UInt8](repeating: 0, count: 256)
        let length = unsafe message.withUnsafeMutableBytes { buffer -> Int in
            // The buffer is larger than any of these messages; libmnl writes from its start.
            guard let base = unsafe buffer.baseAddress?.assumingMemoryBound(to: CChar.self),
                let header = unsafe nflog_nlmsg_put_header(base, UInt8(NFULNL_MSG_CONFIG.rawValue), UInt8(AF_UNSPEC), group)
            else { return 0 }
            unsafe header.pointee.nlmsg_flags |= UInt16(NLM_F_ACK)
            guard unsafe fill(header) >= 0 else { return 0 }
            return unsafe Int(header.pointee.nlmsg_len)
        }
        guard length > 0 else { throw NetlinkError(operation: operation, code: EINVAL) }
        try socket.ask(Array(message[..<length]), operation: operation)
    }

    var descriptor: Int32 { socket.descriptor }

    var memory: NetlinkSocket.Memory { socket.memory }

    @inline(__always)
    func receive(into buffer: inout [UInt8]) -> NetlinkDatagram { socket.receive(into: &buffer) }
}
