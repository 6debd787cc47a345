private import CMnl
private import Glibc
private import Logging
public import WireFormat

/// Result of one attempt to receive.
public enum NetlinkDatagram: Sendable {
    /// A datagram of so many bytes, at the beginning of the buffer.
    case bytes(Int)
    case nothing
    /// `errno`; `ENOBUFS` where datagrams were lost.
    case failed(Int32)
}

/// Where datagrams come from one by one: a socket, or a test's stand-in.
public protocol DatagramReceiver: ~Copyable {
    /// Receives one datagram into `buffer` without waiting.
    func receive(into buffer: inout [UInt8]) -> NetlinkDatagram
}

/// The other end of an exchange with the kernel: a netlink socket, or a test's stand-in.
public protocol NetlinkTransport: DatagramReceiver, ~Copyable {
    func send(_ bytes: [UInt8]) throws(NetlinkError)

    /// Waits for data.
    /// - Returns: false after `milliseconds` without any.
    func waitReadable(milliseconds: Int32) -> Bool

    /// Sees to it that a message of so many bytes can be sent as a whole.
    func makeRoom(forSending bytes: Int)
}

private let logger = Logger(label: "netlink")

extension NetlinkTransport where Self: ~Copyable {
    /// Sends `request`, whose last message asks for an acknowledgement or a dump, and hands every message of the answer
    /// to `handle`.
    ///
    /// - Parameter operation: names the request in an error.
    /// - Throws: the kernel's error, `ETIMEDOUT` after five seconds without an answer, or `EBADMSG` for one that cannot
    ///   be parsed.
    public func ask(
        _ request: [UInt8], operation: String,
        handle: (RawSpan, NetlinkMessage) throws(ParseError) -> Void = { (_: RawSpan, _: NetlinkMessage) in }
    ) throws(NetlinkError) {
        logger.trace("netlink, to \(operation): \(request.count) bytes sent")
        do {
            try send(request)
        } catch {
            throw NetlinkError(operation: operation, code: error.code)
        }
        var buffer = [UInt8](repeating: 0, count: 1 << 16)
        while true {
            guard waitReadable(milliseconds: 5000) else { throw NetlinkError(operation: operation, code: ETIMEDOUT) }
            switch receive(into: &buffer) {
            case .nothing: continue
            case .failed(let code): throw NetlinkError(operation: operation, code: code)
            case .bytes(let count):
                // Bytes have no padding, which is what makes a span's bytes unsafe in general.
                if try isComplete(buffer.octets.extracting(0..<count), operation: operation, handle: handle) {
                    return
                }
            }
        }
    }

    /// As `ask`, for a request that is answered by a single message.
    public func askOnce<Answer>(
        _ request: [UInt8], operation: String, read: (RawSpan, NetlinkMessage) throws(ParseError) -> Answer
    ) throws(NetlinkError) -> Answer {
        do {
            try send(request)
        } catch {
            throw NetlinkError(operation: operation, code: error.code)
        }
        guard waitReadable(milliseconds: 5000) else { throw NetlinkError(operation: operation, code: ETIMEDOUT) }
        var buffer = [UInt8](repeating: 0, count: 1 << 14)
        let count: Int
        switch receive(into: &buffer) {
        case .bytes(let received): count = received
        case .failed(let code): throw NetlinkError(operation: operation, code: code)
        case .nothing: throw NetlinkError(operation: operation, code: EAGAIN)
        }
        let bytes = buffer.octets.extracting(0..<count)
        do {
            var offset = 0
            guard let message = try NetlinkMessage.next(in: bytes, at: &offset) else {
                throw NetlinkError(operation: operation, code: EBADMSG)
            }
            if message.type == UInt16(NLMSG_ERROR) {
                try bytes.check(4, at: message.body.lowerBound)
                let code = -Int32(bitPattern: bytes.native32(message.body.lowerBound))
                throw NetlinkError(operation: operation, code: code)
            }
            return try read(bytes, message)
        } catch let error as NetlinkError {
            throw error
        } catch {
            throw NetlinkError(operation: operation, code: EBADMSG)
        }
    }

    /// Sends `batch`, a transaction of nf_tables whose messages are numbered by their sequence, and waits until the kernel has
    /// committed it. The message before the last one must ask for an acknowledgement.
    ///
    /// - Throws: `NetlinkBatchError` with the sequence of the message that the kernel refused; nothing has been done then.
    public func commit(_ batch: [UInt8], operation: String) throws(NetlinkBatchError) {
        makeRoom(forSending: batch.count)
        do {
            try send(batch)
        } catch {
            throw NetlinkBatchError(error: NetlinkError(operation: operation, code: error.code), sequence: nil)
        }
        guard waitReadable(milliseconds: 30_000) else {
            throw NetlinkBatchError(error: NetlinkError(operation: operation, code: ETIMEDOUT), sequence: nil)
        }
        var buffer = [UInt8](repeating: 0, count: 1 << 16)
        let count: Int
        switch receive(into: &buffer) {
        case .bytes(let received): count = received
        case .failed(let code):
            throw NetlinkBatchError(error: NetlinkError(operation: operation, code: code), sequence: nil)
        case .nothing: throw NetlinkBatchError(error: NetlinkError(operation: operation, code: EAGAIN), sequence: nil)
        }
        let bytes = buffer.octets.extracting(0..<count)
        do {
            var offset = 0
            while let message = try NetlinkMessage.next(in: bytes, at: &offset) {
                guard message.type == UInt16(NLMSG_ERROR) else { continue }
                // struct nlmsgerr: the error, then the header of the message that it is about.
                try bytes.check(20, at: message.body.lowerBound)
                let code = Int32(bitPattern: bytes.native32(message.body.lowerBound))
                guard code != 0 else { return }
                throw NetlinkBatchError(
                    error: NetlinkError(operation: operation, code: -code),
                    sequence: bytes.native32(message.body.lowerBound + 12))
            }
        } catch let error as NetlinkBatchError {
            throw error
        } catch {
            throw NetlinkBatchError(error: NetlinkError(operation: operation, code: EBADMSG), sequence: nil)
        }
        throw NetlinkBatchError(error: NetlinkError(operation: operation, code: EBADMSG), sequence: nil)
    }

    /// Handles one datagram of an answer; true when it ends the answer.
    private func isComplete(
        _ bytes: RawSpan, operation: String, handle: (RawSpan, NetlinkMessage) throws(ParseError) -> Void
    ) throws(NetlinkError) -> Bool {
        var offset = 0
        do {
            while let message = try NetlinkMessage.next(in: bytes, at: &offset) {
                // NLM_F_DUMP_INTR
                if message.flags & 0x10 != 0 { throw NetlinkError(operation: operation, code: EINTR) }
                switch message.type {
                case UInt16(NLMSG_DONE):
                    return true
                case UInt16(NLMSG_ERROR):
                    try bytes.check(4, at: message.body.lowerBound)
                    let code = Int32(bitPattern: bytes.native32(message.body.lowerBound))
                    if code != 0 { throw NetlinkError(operation: operation, code: -code) }
                    return true
                default:
                    try handle(bytes, message)
                }
            }
        } catch let error as NetlinkError {
            throw error
        } catch {
            throw NetlinkError(operation: operation, code: EBADMSG)
        }
        return false
    }
}
