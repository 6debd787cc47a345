private import Glibc

/// A namespace or a tool within one that cannot be had.
public enum NamespaceError: Error, Equatable, Sendable {
    case unknown(name: String, known: [String])
    case invalidSelector(String)
    case noSuchProcess(Int32)
    case cannotOpen(path: String, code: Int32)
    case notANetworkNamespace(path: String)
    case cannotEnter(name: String, code: Int32)
    case lockHeld(path: String, seconds: Int)
    /// What the path led to when it was looked at first is no longer there.
    case replaced(name: String, path: String)
    case cannotList(path: String, code: Int32)
    /// Too few file descriptors are left for `operation`.
    case descriptors(operation: String, needed: Int, left: Int, limit: DescriptorLimit.Values)
    /// The system has run out of something that `operation` needs; `code` is an `errno`.
    case exhausted(operation: String, code: Int32)
    case toolMissing(String)
    case toolFailed(command: String, status: String, message: String)

    public var isPermission: Bool {
        switch self {
        case .cannotOpen(_, let code), .cannotEnter(_, let code): code == EPERM || code == EACCES
        default: false
        }
    }

    /// Whether a resource has run out; then the error says nothing of the namespace.
    public var isShortage: Bool {
        switch self {
        case .cannotOpen(_, let code), .cannotEnter(_, let code), .cannotList(_, let code): DescriptorLimit.isShortage(code)
        case .descriptors, .exhausted: true
        default: false
        }
    }

    /// Whether a path leads nowhere, or to something that is no network namespace: nothing is there to be opened.
    public var isAbsence: Bool {
        switch self {
        case .cannotOpen(_, let code), .cannotList(_, let code): code == ENOENT || code == ESRCH || code == ENOTDIR
        case .unknown, .noSuchProcess, .notANetworkNamespace, .replaced: true
        default: false
        }
    }
}

extension NamespaceError: CustomStringConvertible {
    public var description: String {
        switch self {
        case .unknown(let name, let known):
            "no network namespace named \(name) under /run/netns"
                + (known.isEmpty ? " (there are none)" : "; there are: \(known.joined(separator: ", "))")
                + ". Give host, all, a name, pid:N or a path."
        case .invalidSelector(let text):
            "\(text) is not a namespace. Give host, all, a name under /run/netns, pid:N or a path."
        case .noSuchProcess(let pid): "no process \(pid), so no namespace pid:\(pid)"
        case .cannotOpen(let path, let code):
            "cannot open \(path): \(ErrorNumber.text(code))"
                + (code == EMFILE ? ". \(DescriptorLimit.advice(Int(clamping: DescriptorLimit.current.soft) * 2))." : "")
        case .replaced(let name, let path): "namespace \(name) is gone: \(path) is another one now"
        case .cannotList(let path, let code): "cannot list \(path): \(ErrorNumber.text(code))"
        case .descriptors(let operation, let needed, let left, let limit):
            "cannot \(operation): that takes \(needed) file descriptors, and \(left) are left of \(limit.soft) (RLIMIT_NOFILE, "
                + "hard limit \(limit.hard)). \(DescriptorLimit.advice(DescriptorLimit.recommended(needed - left)))."
        case .exhausted(let operation, let code): "cannot \(operation): \(ErrorNumber.text(code))"
        case .notANetworkNamespace(let path): "\(path) is not a network namespace"
        case .cannotEnter(let name, let code):
            "cannot enter namespace \(name): \(ErrorNumber.text(code))"
                + (code == EPERM ? ". It takes root: run it with sudo." : "")
        case .lockHeld(let path, let seconds):
            "\(path) has been locked by another process for \(seconds) s. Wait for that process to end (fuser \(path) names it) "
                + "and run this again."
        case .toolMissing(let tool): "\(tool) is not installed. \(Self.installation(of: tool))"
        case .toolFailed(let command, let status, let message):
            "\(command) failed (\(status))" + (message.isEmpty ? "" : ": \(message)")
        }
    }

    /// The line that mends a missing tool on Debian.
    private static func installation(of tool: String) -> String {
        let package: String
        switch tool {
        case "nft": package = "nftables"
        case _ where tool.contains("tables"): package = "iptables"
        case "ip", "bridge": package = "iproute2"
        case "ping": package = "iputils-ping"
        case "nsenter", "unshare": package = "util-linux"
        case "sysctl": package = "procps"
        default: package = tool
        }
        return "On Debian: sudo apt-get install \(package)"
    }
}
