internal import HostLayout
internal import LinuxSupport
internal import TraceModel

/// What cannot be followed or read, and how that is told.
extension Collector {
    /// Descriptors that are kept free while namespaces are followed: for a program that reads rules (`DescriptorLimit.perProgram`)
    /// and the sockets beside it, a recording, and some clients.
    public static let reserve = DescriptorLimit.perProgram + 14

    /// Sees to it that there are descriptors for the sockets of one more namespace.
    static func checkRoom(for name: String) throws(NamespaceError) {
        try DescriptorLimit.require(NamespaceDirectory.perNamespace + reserve, to: "follow namespace \(name)")
    }

    /// Whether the others are followed although one cannot be.
    static func mayBeLeftOut(_ error: any Error) -> Bool {
        switch error {
        // In a namespace that was not asked for by name a group may well be somebody else's.
        case CollectorFailure.groupTaken: true
        case let error as NamespaceError: !error.isPermission
        case let error as NetlinkError: !error.isPermission
        case CollectorFailure.cannotBind: true
        default: false
        }
    }

    static func reason(_ error: any Error, namespaces: Int) -> String {
        guard case NamespaceError.descriptors = error else { return "\(error)" }
        return LeftOut.descriptorReason(namespaces: namespaces, reserve: reserve)
    }

    /// What keeps the trace from being complete, one sentence each; none where nothing does.
    public var troubles: [String] {
        var troubles: [String] = []
        let layout = currentLayout
        if !layout.leftOut.isEmpty { troubles.append(LeftOut.text(layout.leftOut)) }
        let unread = layout.namespaces.filter { $0.channel == .nflog && $0.unread != nil }
        if let first = unread.first {
            let others = unread.count > 1 ? " and \(unread.count - 1) more" : ""
            troubles.append("cannot read the rules or interfaces of \(first.name.printable)\(others): \(first.unread ?? "")")
        }
        if let listFailure { troubles.append("cannot list the namespaces: \(listFailure)") }
        return troubles
    }
}
