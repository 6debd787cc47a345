private import Foundation
public import TraceModel

/// The layout as a recording keeps it, so that its events mean the same when they are read again. JSON, in a block of
/// ipt-trace's own.
public struct RecordedLayout: Codable, Sendable, Equatable {
    struct Namespace: Codable, Sendable, Equatable {
        var name: String
        var inode: UInt64
        var medium: EventChannel
        var tracksConnections: Bool?
        var interfaces: [Interface]
        var decidingChains: [Chain]
        var facts: NamespaceFacts?
        var unread: String?
    }

    struct Interface: Codable, Sendable, Equatable {
        var index: UInt32
        var name: String
        var linkDomain: UInt32
        var mtu: UInt32
        var isTunnel: Bool?
        var bridge: Bridge?
        var port: BridgePort?
        var peer: UInt32?

        /// Names in the file, which earlier recordings have too.
        enum CodingKeys: String, CodingKey {
            case index, name, mtu, isTunnel, bridge, port, peer
            case linkDomain = "segment"
        }
    }

    struct Chain: Codable, Sendable, Equatable {
        var family: String
        var table: String
        var hook: String
        var backend: Backend
    }

    struct Probe: Codable, Sendable, Equatable {
        var namespace: Int
        var place: Chain
        var chain: String
        var prefix: String
        var backFrom: String?
        /// `every`, `some`, `every_rule`.
        var coverage: String
        var condition: String?
        var dependence: UInt8?
        var until: Int64?
    }

    /// Raised when a reader of the format before could not understand it.
    public static let currentSchema = 1

    public var schema: Int
    /// Names the recording: its files have the same.
    public var run: UInt64
    public var machine: MachineIdentity
    var namespaces: [Namespace]
    /// The probes in force.
    var probes: [Probe]
    var openLinkDomains: [UInt32]
    var unfollowedLinkDomains: [UInt32]?
    var leftOut: [LeftOutNamespace]?
    package var ownPort: OwnPort?

    /// Names in the file, which earlier recordings have too.
    enum CodingKeys: String, CodingKey {
        case schema, run, machine, namespaces, probes, unfollowedLinkDomains, leftOut, ownPort
        case openLinkDomains = "openSegments"
    }

    package init(_ layout: Layout, run: UInt64, machine: MachineIdentity, ownPort: OwnPort?) {
        self.ownPort = ownPort
        schema = Self.currentSchema
        self.run = run
        self.machine = machine
        namespaces = layout.namespaces.map { namespace in
            Namespace(
                name: namespace.name, inode: namespace.inode, medium: namespace.channel,
                tracksConnections: namespace.tracksConnections,
                interfaces: namespace.interfaces.sorted { $0.key < $1.key }.map {
                    Interface(
                        index: $0.key, name: $0.value.name, linkDomain: $0.value.linkDomain, mtu: $0.value.mtu,
                        isTunnel: $0.value.isTunnel ? true : nil, bridge: $0.value.bridge, port: $0.value.port,
                        peer: $0.value.peer)
                },
                decidingChains: namespace.decidingChains.map {
                    Chain(family: $0.family.name, table: $0.table.name, hook: $0.hook.name, backend: $0.backend)
                }.sorted { "\($0)" < "\($1)" }, facts: namespace.facts, unread: namespace.unread)
        }
        probes = layout.probes.indices.filter { layout.isInForce[$0] }.map { Probe(layout.probes[$0]) }
        openLinkDomains = layout.openLinkDomains.sorted()
        unfollowedLinkDomains = layout.unfollowedLinkDomains.isEmpty ? nil : layout.unfollowedLinkDomains.sorted()
        leftOut = layout.leftOut.isEmpty ? nil : layout.leftOut
    }

    public init(json: [UInt8]) throws {
        self = try JSONDecoder().decode(RecordedLayout.self, from: Data(json))
        guard schema <= Self.currentSchema else { throw CaptureError.newerRecording(schema: schema) }
        guard namespaces.count <= 4096 else {
            throw CaptureError.invalidArgument("\(namespaces.count) namespaces are too many")
        }
    }

    public func json() throws -> [UInt8] {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        return Array(try encoder.encode(self))
    }

    /// The namespaces, their names and the probes as they were.
    public var layout: Layout {
        var layout = Layout()
        layout.namespaces = namespaces.map { namespace in
            var interfaces: [UInt32: TraceModel.Interface] = [:]
            for interface in namespace.interfaces {
                interfaces[interface.index] = TraceModel.Interface(
                    name: interface.name, linkDomain: interface.linkDomain, mtu: interface.mtu,
                    isTunnel: interface.isTunnel ?? false, bridge: interface.bridge, port: interface.port,
                    peer: interface.peer)
            }
            var restored = NamespaceLayout(
                name: namespace.name, inode: namespace.inode, interfaces: interfaces,
                tracksConnections: namespace.tracksConnections,
                decidingChains: Set(namespace.decidingChains.compactMap(\.builtIn)), channel: namespace.medium)
            restored.facts = namespace.facts
            restored.unread = namespace.unread?.printable
            return restored
        }
        layout.probes = probes.filter { namespaces.indices.contains($0.namespace) }.compactMap(\.probe)
        layout.isInForce = layout.probes.map { _ in true }
        layout.openLinkDomains = Set(openLinkDomains)
        layout.unfollowedLinkDomains = Set(unfollowedLinkDomains ?? [])
        layout.leftOut = (leftOut ?? []).prefix(4096).map {
            LeftOutNamespace(name: $0.name.printable, inode: $0.inode, reason: $0.reason.printable)
        }
        return layout
    }
}

extension RecordedLayout.Chain {
    var builtIn: BuiltInChain? {
        guard let family = AddressFamily(name: family), let table = Table(probeTable: table), let hook = Hook(name: hook) else {
            return nil
        }
        return BuiltInChain(family: family, table: table, hook: hook, backend: backend)
    }
}

extension RecordedLayout.Probe {
    init(_ probe: Probe) {
        namespace = probe.namespace
        place = RecordedLayout.Chain(
            family: probe.family.name, table: probe.table.name, hook: probe.hook.name, backend: probe.backend)
        chain = probe.chain
        prefix = probe.prefix
        backFrom = probe.backFrom
        switch probe.coverage {
        case .every(let condition, let until):
            coverage = "every"
            self.condition = condition.text
            dependence = condition.dependence.rawValue
            self.until = until
        case .some: coverage = "some"
        case .everyRule: coverage = "every_rule"
        }
    }

    var probe: Probe? {
        guard let place = place.builtIn else { return nil }
        let covered: Probe.Coverage
        switch coverage {
        case "every":
            covered = .every(
                Condition(
                    text: condition ?? "", dependence: MatchDependence(rawValue: dependence ?? 0),
                    sampledOneIn: condition.flatMap(Self.sampledOneIn)),
                until: until.map { min(max($0, 0), TimeBounds.microseconds.upperBound / 1_000_000) })
        case "every_rule": covered = .everyRule
        default: covered = .some
        }
        return Probe(
            namespace: namespace, family: place.family, table: place.table, chain: chain, hook: place.hook,
            backend: place.backend, prefix: prefix, backFrom: backFrom, coverage: covered)
    }

    /// The rate in a condition's text, which is all that a recording has: `sample:16:…` (`FlowSample.condition`).
    private static func sampledOneIn(_ condition: String) -> UInt64? {
        condition.split(separator: " ").lazy.compactMap { word -> UInt64? in
            let parts = word.split(separator: ":")
            return parts.count == 3 && parts[0] == "sample" ? UInt64(parts[1]) : nil
        }.first
    }
}

/// Which machine, and since which start of it: names that mean the same to everybody.
public struct MachineIdentity: Codable, Sendable, Equatable {
    /// `/etc/machine-id`.
    public var host: String?
    /// `/proc/sys/kernel/random/boot_id`.
    public var boot: String?

    public init(host: String? = nil, boot: String? = nil) {
        self.host = host
        self.boot = boot
    }

    /// Of this machine.
    public static var current: MachineIdentity {
        func line(_ path: String) -> String? {
            (try? String(contentsOfFile: path, encoding: .utf8))?.split(separator: "\n").first.map(String.init)
        }
        return MachineIdentity(host: line("/etc/machine-id"), boot: line("/proc/sys/kernel/random/boot_id"))
    }
}
