internal import LinuxSupport

/// Why a collection cannot begin.
public enum CollectorFailure: Error, Equatable, Sendable {
    case noNamespaces
    case permission(namespace: String)
    case groupTaken(group: UInt16, namespace: String)
    case cannotBind(group: UInt16, namespace: String, message: String)
    /// `code` is an `errno`.
    case cannotReadKernelLog(path: String, code: Int32)
}

extension CollectorFailure: CustomStringConvertible {
    public var description: String {
        switch self {
        case .noNamespaces: "no network namespace can be traced"
        case .permission(let namespace):
            "cannot receive NFLOG in namespace \(namespace): operation not permitted. It takes root (CAP_NET_ADMIN, and "
                + "CAP_SYS_ADMIN for other namespaces): run it with sudo."
        case .groupTaken(let group, let namespace):
            "cannot bind NFLOG group \(group) in namespace \(namespace): another process has it "
                + "(/proc/net/netfilter/nfnetlink_log lists them). End that one, or choose another group for both: "
                + "install-probes --group \(group + 1) and collect --group \(group + 1)."
        case .cannotBind(let group, let namespace, let message):
            "cannot bind NFLOG group \(group) in namespace \(namespace): \(message)"
        case .cannotReadKernelLog(let path, let code):
            "cannot read the kernel log \(path): \(ErrorNumber.text(code)). It takes root (CAP_SYSLOG) outside of "
                + "containers: run collect --kernel-log with sudo, or read a log that was saved: ipt-trace analyze FILE"
        }
    }
}
