public import Aggregation
public import TraceModel

/// `/namespaces`: the namespaces being traced.
public struct NamespacesReport: Codable, Sendable, Equatable {
    public struct Entry: Codable, Sendable, Equatable {
        public struct Interface: Codable, Sendable, Equatable {
            public var index: Int
            public var name: String
            /// Interfaces with the same number reach one another without routing.
            public var linkDomain: Int
            /// Whether the link domain reaches beyond the namespaces being traced.
            public var reachesOutside: Bool
            /// `bridge`, or `tunnel` for one that puts packets into others; absent for all else.
            public var kind: String?
            /// The bridge of which it is a port; absent where it is none.
            public var bridge: String?
        }

        public var name: String
        /// The namespace's inode, as `ls -l /proc/PID/ns/net` shows it.
        public var inode: UInt64
        /// How its packets are reported: `nflog`, or `log` for the kernel log.
        public var medium: String
        public var probes: Int
        @ExplicitNull public var tracksConnections: Bool?
        public var interfaces: [Interface]
        /// Why its rules or interfaces may be out of date; absent where they were read.
        public var unread: String?
    }

    public var schema = 1
    public var namespaces: [Entry]
    /// Namespaces that should be followed and are not; absent where there are none.
    public var leftOut: [LeftOutNamespace]?
}

extension NamespacesReport: Report {
    public static let name = "namespaces"
    public static let summary = "Print the namespaces being traced, with their interfaces and probes."
    public static let filters: [TraceFilter.Field] = [.netns]
    public static let isInOverview = false

    public init(_ snapshot: TraceSnapshot, _ filter: TraceFilter) {
        self = snapshot.namespacesReport()
        namespaces.removeAll { !filter.admits(netns: $0.name) }
    }

    public func text(_ style: Style) -> TerminalText {
        let rows = namespaces.map { entry in
            let tracking = entry.tracksConnections.map { $0 ? "tracks connections" : "does not track connections" }
            return [
                entry.name, entry.medium, "\(entry.inode)", Phrase.count(UInt64(entry.probes), "probe"), tracking ?? "",
                entry.interfaces.map(\.name).joined(separator: " "), entry.unread.map { "not read: \($0)" } ?? "",
            ]
        }
        let missing = (leftOut ?? []).map { [$0.name, "", "\($0.inode)", "not followed: \($0.reason)"] }
        return Phrase.columns(rows + missing).joined(separator: "\n")
    }
}

extension TraceSnapshot {
    public func namespacesReport() -> NamespacesReport {
        NamespacesReport(
            namespaces: layout.namespaces.enumerated().filter { !$0.element.isGone }.map { index, namespace in
                NamespacesReport.Entry(
                    name: namespace.name, inode: namespace.inode, medium: namespace.channel.rawValue,
                    probes: layout.probes.indices.count { layout.probes[$0].namespace == index && layout.isInForce[$0] },
                    tracksConnections: namespace.tracksConnections,
                    interfaces: namespace.interfaces.sorted { $0.key < $1.key }.map { number, interface in
                        NamespacesReport.Entry.Interface(
                            index: Int(number), name: interface.name, linkDomain: Int(interface.linkDomain),
                            reachesOutside: layout.openLinkDomains.contains(interface.linkDomain),
                            kind: interface.bridge != nil ? "bridge" : interface.isTunnel ? "tunnel" : nil,
                            bridge: interface.port.flatMap { namespace.interfaces[$0.bridge]?.name })
                    }, unread: namespace.unread)
            }, leftOut: layout.leftOut.isEmpty ? nil : layout.leftOut)
    }
}
