internal import Engine
private import Glibc
internal import LinuxSupport
internal import TraceModel
internal import WireFormat

/// One namespace being received: its sockets and what reads them.
final class NamespaceSource {
    let namespace: NetworkNamespace
    let index: Int
    let log: NFLogSocket
    /// `nil` where the kernel has no ctnetlink.
    let conntrack: ConntrackHolder?
    /// The translated connections that there were when it was opened, until the event loop takes them.
    private var connections: [ConntrackMessage]
    var reader: NFLogReader
    /// `log.memory.drops` as it was last seen.
    var drops: UInt32 = 0
    /// Datagrams that connection tracking's socket lost, by its counter.
    var conntrackDrops: UInt32 = 0
    /// Up to this moment everything has been received.
    var drainedAt: Int64 = 0
    /// Whether it had something in the last turn.
    var hasReceived = false
    /// Whether it had more than a turn takes.
    var hasMore = false

    /// A move-only socket within a class that can be absent.
    final class ConntrackHolder {
        let socket: ConntrackSocket
        init(_ socket: consuming ConntrackSocket) { self.socket = socket }
    }

    /// Opens the sockets inside the namespace.
    ///
    /// - Parameter snapLength: bytes of each packet that are copied.
    init(
        _ namespace: NetworkNamespace, index: Int, group: UInt16, snapLength: UInt32, parser: PacketParser,
        registry: LayoutRegistry
    ) throws {
        self.namespace = namespace
        self.index = index
        reader = NFLogReader(namespace: index, parser: parser, registry: registry)
        do {
            log = try namespace.enter { try NFLogSocket(group: group, settings: .init(copyRange: snapLength)) }
        } catch let error as NetlinkError {
            throw Self.failure(error, group, namespace)
        }
        let (socket, connections) = try namespace.enter { () -> (ConntrackHolder?, [ConntrackMessage]) in
            do {
                // In this order, so that no connection falls between the two.
                let socket = ConntrackHolder(try ConntrackSocket())
                return (socket, try ConntrackSocket.existing())
            } catch let error as NetlinkError where error.isUnsupported {
                return (nil, [])
            }
        }
        conntrack = socket
        self.connections = connections
    }

    func takeConnections() -> [ConntrackMessage] {
        defer { connections = [] }
        return connections
    }

    /// The kernel answers `EPERM` both to the unprivileged and for a group that another process has (measured); only in
    /// the latter case is the group listed.
    private static func failure(_ refusal: NetlinkError, _ group: UInt16, _ namespace: NetworkNamespace) -> CollectorFailure {
        if refusal.isBusy { return .groupTaken(group: group, namespace: namespace.name) }
        if refusal.isPermission {
            do {
                // Root that may not look who has it is refused because somebody has it.
                let isTaken = try namespace.enter { try boundGroups() }?.contains(group) ?? (geteuid() == 0)
                return isTaken
                    ? .groupTaken(group: group, namespace: namespace.name) : .permission(namespace: namespace.name)
            } catch {
                return .cannotBind(
                    group: group, namespace: namespace.name,
                    message: "\(ErrorNumber.text(refusal.code)); who has the group is not known: \(error)")
            }
        }
        return .cannotBind(group: group, namespace: namespace.name, message: ErrorNumber.text(refusal.code))
    }

    /// The groups that are bound in the namespace of this thread; `nil` where the list may not be read.
    private static func boundGroups() throws -> [UInt16]? {
        let path = "/proc/thread-self/net/netfilter/nfnetlink_log"
        guard let file = unsafe fopen(path, "re") else {
            if DescriptorLimit.isShortage(errno) { throw NamespaceError.cannotOpen(path: path, code: errno) }
            return nil
        }
        defer { unsafe fclose(file) }
        var groups: [UInt16] = []
        var line = [CChar](repeating: 0, count: 256)
        while unsafe fgets(&line, 256, file) != nil {
            let text = String(decoding: line.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
            if let group = text.split(separator: " ").first.flatMap({ UInt16($0) }) { groups.append(group) }
        }
        return groups
    }
}
