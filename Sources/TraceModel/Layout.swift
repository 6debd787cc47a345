/// The machine while events arrive: namespaces, their interfaces, and the probes in force.
public struct Layout: Sendable {
    public var namespaces: [NamespaceLayout]
    /// Probes keep their index for the life of a trace; one that was taken out is no longer `isInForce`.
    public var probes: [Probe]
    /// Parallel to `probes`.
    public var isInForce: [Bool]
    /// Link domains that reach beyond the namespaces being traced: a network card, a peer in a namespace that is not known.
    public var openLinkDomains: Set<UInt32>
    /// Open link domains that reach a namespace which is not followed although it should be, or may reach one.
    public var unfollowedLinkDomains: Set<UInt32> = []
    /// Namespaces that should be followed and are not.
    public var leftOut: [LeftOutNamespace] = []
    /// Told apart by it are the layouts of one trace: a later one has a higher number.
    public var generation = 0
    /// How many of the generations before changed the machine's rules or links in force; the others only added to the knowledge of them.
    public var changes = 0

    public init(
        namespaces: [NamespaceLayout] = [], probes: [Probe] = [], isInForce: [Bool] = [], openLinkDomains: Set<UInt32> = []
    ) {
        self.namespaces = namespaces
        self.probes = probes
        self.isInForce = isInForce
        self.openLinkDomains = openLinkDomains
    }

    /// Whether `other` says the same of namespaces, interfaces and probes.
    public func isSame(as other: Layout) -> Bool {
        namespaces == other.namespaces && probes == other.probes && isInForce == other.isInForce
            && openLinkDomains == other.openLinkDomains && unfollowedLinkDomains == other.unfollowedLinkDomains
            && leftOut == other.leftOut
    }

    /// The namespaces of which `newer` says something else that decides how a packet's way ends: probes that report every packet,
    /// links, chains of INPUT that may end it.
    public func changedNamespaces(in newer: Layout) -> Set<Int> {
        var changed: Set<Int> = []
        for index in 0..<max(probes.count, newer.probes.count) {
            let before = proof(index)
            let after = newer.proof(index)
            if before != after { changed.formUnion([before, after].compactMap { $0?.namespace }) }
        }
        let open = openLinkDomains.symmetricDifference(newer.openLinkDomains)
        for (index, namespace) in newer.namespaces.enumerated() where !changed.contains(index) {
            guard index < namespaces.count else {
                changed.insert(index)
                continue
            }
            let before = namespaces[index]
            func deciding(_ chains: Set<BuiltInChain>) -> Set<BuiltInChain> { chains.filter { $0.hook == .input } }
            if !before.hasSameLinks(as: namespace) || before.tracksConnections != namespace.tracksConnections
                || deciding(before.decidingChains) != deciding(namespace.decidingChains)
                || namespace.interfaces.values.contains(where: { open.contains($0.linkDomain) })
            {
                changed.insert(index)
            }
        }
        return changed
    }

    /// A probe whose silence proves something; `nil` where there is none at this index.
    private func proof(_ index: Int) -> Probe? {
        guard index < probes.count, isInForce[index], case .every = probes[index].coverage else { return nil }
        return probes[index]
    }

    /// `nil` where there is none at this index.
    public func namespace(_ index: Int) -> NamespaceLayout? { namespaces.indices.contains(index) ? namespaces[index] : nil }

    /// Indices of the namespaces that share the name of one: NFLOG and the kernel log report a namespace as one each.
    public func namespaces(named index: Int) -> Set<Int> {
        Set(namespaces.indices.filter { namespaces[$0].name == namespace(index)?.name })
    }

    /// Indices of namespaces by name, in the order of the names.
    public var namespacesByName: [(name: String, indices: Set<Int>)] {
        Dictionary(grouping: namespaces.indices) { namespaces[$0].name }.sorted { $0.key < $1.key }.map { ($0, Set($1)) }
    }

    /// For each probe behind a jump (`Probe.backFrom`), the probe at the head of the chain that the jump leads to.
    public var jumpTargets: [UInt32: UInt32] {
        struct Place: Hashable {
            var namespace: Int
            var family: AddressFamily
            var table: Table
            var backend: Backend
            var hook: Hook
            var chain: String

            init(_ probe: Probe, _ chain: String) {
                (namespace, family, table, backend) = (probe.namespace, probe.family, probe.table, probe.backend)
                (hook, self.chain) = (probe.hook, chain)
            }
        }
        let returns = probes.indices.filter { probes[$0].backFrom != nil && isInForce[$0] }
        guard !returns.isEmpty else { return [:] }
        var heads: [Place: UInt32] = [:]
        for index in probes.indices where probes[index].backFrom == nil && isInForce[index] {
            heads[Place(probes[index], probes[index].chain)] = UInt32(index)
        }
        var targets: [UInt32: UInt32] = [:]
        for index in returns {
            guard let name = probes[index].backFrom else { continue }
            let place = Place(probes[index], name)
            // A prefix has no room for a long name's end.
            let cut = heads.filter { other, _ in
                var beginning = other
                beginning.chain = name
                return beginning == place && other.chain.hasPrefix(name)
            }
            targets[UInt32(index)] = heads[place] ?? (cut.count == 1 ? cut.first?.value : nil)
        }
        return targets
    }

    public func interfaceName(_ index: UInt32, namespace: Int) -> String? {
        guard index != 0 else { return nil }
        return namespaces[namespace].interfaces[index]?.name ?? "if\(index)"
    }
}

/// A namespace that should be followed and is not.
public struct LeftOutNamespace: Codable, Sendable, Hashable {
    public var name: String
    public var inode: UInt64
    /// Why, for a person.
    public var reason: String

    public init(name: String, inode: UInt64, reason: String) {
        self.name = name
        self.inode = inode
        self.reason = reason
    }
}

/// How a namespace's packets are reported. Each way is a namespace of its own to the correlator, since the kernel log says
/// less of a packet than NFLOG does, and each has its own rules.
public enum EventChannel: String, Sendable, Hashable, Codable {
    case nflog
    case kernelLog = "log"
}

/// One network namespace as far as packets are concerned.
public struct NamespaceLayout: Sendable, Equatable {
    /// `host`, its name under `/run/netns`, `pid:N`, or a path.
    public var name: String
    /// The inode of the namespace (`stat` of `/proc/PID/ns/net`): tells it from all others that there are at the moment.
    public var inode: UInt64
    public var interfaces: [UInt32: Interface]
    /// Whether connection tracking is known to be on. `nil`: not known.
    public var tracksConnections: Bool?
    /// Built-in chains that may decide a packet's fate.
    public var decidingChains: Set<BuiltInChain>
    public var channel: EventChannel
    /// `nil`: not known.
    public var facts: NamespaceFacts?
    /// Whether the machine has no such namespace any more; its paths stay.
    public var isGone = false
    /// Why its rules or interfaces could not be read for a while, so that the ones known may be out of date, or nothing
    /// is; `nil` where they were.
    public var unread: String?

    public init(
        name: String, inode: UInt64, interfaces: [UInt32: Interface] = [:], tracksConnections: Bool? = nil,
        decidingChains: Set<BuiltInChain> = [], channel: EventChannel = .nflog
    ) {
        self.channel = channel
        self.decidingChains = decidingChains
        self.name = name
        self.inode = inode
        self.interfaces = interfaces
        self.tracksConnections = tracksConnections
    }
}

/// A table's chain at a hook, in one family and backend.
public struct BuiltInChain: Sendable, Hashable {
    public var family: AddressFamily
    public var table: Table
    public var hook: Hook
    public var backend: Backend

    public init(family: AddressFamily, table: Table, hook: Hook, backend: Backend) {
        self.family = family
        self.table = table
        self.hook = hook
        self.backend = backend
    }

    /// Where the chain stands in its hook's order.
    public var priority: Int32 { HookPriority.of(table, at: hook, backend: backend) }
}

extension NamespaceLayout {
    /// Whether the interfaces reach the same others in the same way. What bridges do with frames decides no packet's outcome.
    fileprivate func hasSameLinks(as other: NamespaceLayout) -> Bool {
        func links(_ interfaces: [UInt32: Interface]) -> [UInt32: Interface] {
            interfaces.mapValues { Interface(name: $0.name, linkDomain: $0.linkDomain, mtu: $0.mtu, isTunnel: $0.isTunnel) }
        }
        return interfaces == other.interfaces || links(interfaces) == links(other.interfaces)
    }
}

/// A network interface, and which others a frame sent through it can reach.
public struct Interface: Sendable, Hashable {
    public var name: String
    /// Interfaces with the same link domain, in any namespace, can reach one another without routing: the two ends of a
    /// veth pair, the ports of a bridge, tunnels of one kind, `lo` with itself. 0: not known.
    public var linkDomain: UInt32
    /// In bytes; 0: not known.
    public var mtu: UInt32
    /// Puts packets into others: a tunnel, or a bridge with one as a port.
    public var isTunnel: Bool
    /// Forwards frames between the interfaces that are its ports.
    public var bridge: Bridge?
    /// A port of a bridge.
    public var port: BridgePort?
    /// A veth's other end, by its index in the namespace that has it.
    public var peer: UInt32?

    public init(
        name: String, linkDomain: UInt32 = 0, mtu: UInt32 = 0, isTunnel: Bool = false, bridge: Bridge? = nil,
        port: BridgePort? = nil, peer: UInt32? = nil
    ) {
        self.isTunnel = isTunnel
        self.bridge = bridge
        self.port = port
        self.peer = peer
        self.name = name
        self.linkDomain = linkDomain
        self.mtu = mtu
    }
}

/// How a bridge treats the packets in its frames.
public struct Bridge: Sendable, Hashable, Codable {
    /// Whether it hands them to the IP chains of its namespace (`nf_call_iptables`, `nf_call_ip6tables`); the namespace has
    /// settings of the same meaning for all of its bridges.
    public var filtersIPv4: Bool
    public var filtersIPv6: Bool

    public init(filtersIPv4: Bool = false, filtersIPv6: Bool = false) {
        self.filtersIPv4 = filtersIPv4
        self.filtersIPv6 = filtersIPv6
    }
}

/// How an interface is a port of a bridge (`IFLA_BRPORT_*` in linux/if_link.h).
public struct BridgePort: Sendable, Hashable, Codable {
    /// Index of the bridge, in the port's namespace.
    public var bridge: UInt32
    /// Whether frames may leave by the port that they came in by.
    public var isHairpin: Bool
    /// Whether it exchanges no frames with other such ports.
    public var isIsolated: Bool
    /// `false` where it is disabled, blocked, listening or learning.
    public var isForwarding: Bool

    public init(bridge: UInt32, isHairpin: Bool = false, isIsolated: Bool = false, isForwarding: Bool = true) {
        self.bridge = bridge
        self.isHairpin = isHairpin
        self.isIsolated = isIsolated
        self.isForwarding = isForwarding
    }
}
