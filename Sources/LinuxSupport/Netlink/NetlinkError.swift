private import Glibc

/// A netlink operation that failed, with the kernel's error number.
public struct NetlinkError: Error, Equatable, Sendable {
    /// The attempted operation, as a phrase behind "cannot": `list interfaces`.
    public var operation: String
    /// `errno`.
    public var code: Int32

    public init(operation: String, code: Int32) {
        self.operation = operation
        self.code = code
    }

    /// The error that the last failed call of this thread left in `errno`.
    static func last(_ operation: String) -> NetlinkError { NetlinkError(operation: operation, code: errno) }

    public var isPermission: Bool { code == EPERM || code == EACCES }
    public var isBusy: Bool { code == EBUSY }
    /// The kernel has no such part.
    public var isUnsupported: Bool { [EPROTONOSUPPORT, EOPNOTSUPP, EINVAL, ENOENT].contains(code) }
    public var isAbsent: Bool { code == ENOENT }
    /// The rules changed since the generation that a transaction was made for (`NFNL_BATCH_GENID`).
    public var isOutdated: Bool { code == ERESTART }
    /// The listed objects changed meanwhile (`NLM_F_DUMP_INTR`): ask again.
    public var isInterrupted: Bool { code == EINTR }
}

extension NetlinkError: CustomStringConvertible {
    public var description: String { "cannot \(operation): \(ErrorNumber.text(code))" }
}

/// A transaction that the kernel refused.
public struct NetlinkBatchError: Error, Equatable, Sendable {
    public var error: NetlinkError
    /// The sequence of the message that was refused; `nil` where the transaction was not received or not answered.
    public var sequence: UInt32?

    public init(error: NetlinkError, sequence: UInt32?) {
        self.error = error
        self.sequence = sequence
    }
}
