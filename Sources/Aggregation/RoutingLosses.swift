public import TraceModel

extension TraceContext {
    /// A namespace's packets of one family.
    public struct RoutingKey: Hashable, Sendable {
        public var namespace: Int
        public var family: AddressFamily

        public init(namespace: Int, family: AddressFamily) {
            self.namespace = namespace
            self.family = family
        }
    }
}

extension Layout {
    /// Namespaces with probes in PREROUTING that report some packets only.
    package var filteredNamespaces: Set<Int> {
        var found: Set<Int> = []
        for index in probes.indices where isInForce[index] && probes[index].hook == .prerouting {
            if case .every(.none, _) = probes[index].coverage { continue }
            // Nat's chains see the first packet of a connection, whatever the probe.
            if probes[index].table != .nat { found.insert(probes[index].namespace) }
        }
        return found
    }
}

extension TraceSnapshot {
    /// How many packets vanished where each namespace routes them, behind the last probe of PREROUTING, and no rule trace names what
    /// dropped them. Those of multicast are left out: the kernel counts them in no way.
    public var routingLosses: [TraceContext.RoutingKey: UInt64] {
        losses { last, next, destination in
            last.hook == .prerouting && (next.hook == .input || next.hook == .forward) && !destination.isMulticast
                ? TraceContext.RoutingKey(namespace: last.namespace, family: last.family) : nil
        }
    }

    /// How many packets vanished between two probes around connection tracking in each namespace, and no rule trace names what dropped them.
    public var trackingLosses: [Int: UInt64] {
        losses { last, next, _ in
            last.hook == next.hook && (last.hook == .prerouting || last.hook == .output)
                && last.priority < HookPriority.connectionTracking && next.priority > HookPriority.connectionTracking
                ? last.namespace : nil
        }
    }

    /// How many packets that open connections vanished behind the last probe of POSTROUTING in each namespace.
    private var insertionLosses: [Int: UInt64] {
        var losses: [Int: UInt64] = [:]
        for index in paths.indices {
            let path = paths[index]
            guard path.outcome == .dropped, decision(ofPath: index) == nil,
                let steps = path.stepPaths.last.map({ stepTrie.steps(of: $0).map { layout.probes[Int($0.probe)] } }),
                let last = steps.last, last.hook == .postrouting, steps.contains(where: { $0.table == .nat })
            else { continue }
            losses[last.namespace, default: 0] += paths.counts(index).packets
        }
        return losses
    }

    /// Namespaces in which packets vanished for reasons that the kernel may have counted.
    public var losingNamespaces: Set<Int> {
        Set(routingLosses.keys.map(\.namespace)).union(trackingLosses.keys).union(insertionLosses.keys)
    }

    /// Takes what the kernel's counters say of packets that vanished, where one counter tells.
    ///
    /// - Parameter risen: by how much each namespace's have risen since it began to be followed, by its index; they have counted all of the
    ///   snapshot's packets, and perhaps others.
    public mutating func explain(by risen: [Int: DropCounters]) {
        context.dropCounters = risen
        // A counter has counted packets that no probe reported, too: where there may be some, it explains none of those that were.
        guard completeness.lost == 0, completeness.thinned == nil, completeness.sampledOneIn == nil, completeness.gaps ?? 0 == 0
        else { return }
        let filtered = layout.filteredNamespaces
        for (key, packets) in routingLosses where !filtered.contains(key.namespace) {
            context.routingDrops[key] = risen[key.namespace]?.only(key.family, of: packets)
        }
        for (namespace, packets) in trackingLosses where !filtered.contains(namespace) {
            guard let counters = risen[namespace] else { continue }
            // Those whose entry could not be put in were lost elsewhere, at the end of their way through the namespace.
            let (all, late) = (counters[.ipv4, .untracked], counters[.ipv4, .insertionFailed])
            if all >= late, all - late >= packets { context.trackingDrops.insert(namespace) }
        }
        // Packets are lost behind the last chain for other reasons, too: those that were not counted would be more.
        for (namespace, packets) in insertionLosses
        where !filtered.contains(namespace) && risen[namespace]?[.ipv4, .insertionFailed] == packets {
            context.insertionDrops.insert(namespace)
        }
    }

    /// Adds up the packets that vanished, and no rule trace names what dropped them.
    ///
    /// - Parameter key: of the last probe that saw them, one that had to see them next in the same namespace, and their destination; `nil`
    ///   for those that are not wanted.
    private func losses<Key: Hashable>(_ key: (_ last: Probe, _ next: Probe, IPAddress) -> Key?) -> [Key: UInt64] {
        var losses: [Key: UInt64] = [:]
        for index in paths.indices {
            let path = paths[index]
            guard path.outcome == .dropped, decision(ofPath: index) == nil,
                let step = path.stepPaths.last.map({ stepTrie.lastProbe(of: $0) }), layout.probes.indices.contains(Int(step)),
                !path.expected.isEmpty
            else { continue }
            let last = layout.probes[Int(step)]
            let keys = path.expected.map { expected -> Key? in
                let next = layout.probes[Int(expected)]
                return next.namespace == last.namespace ? key(last, next, path.example.journey.packet.tuple.destination) : nil
            }
            guard let first = keys.first, let wanted = first, keys.allSatisfy({ $0 == wanted }) else { continue }
            losses[wanted, default: 0] += paths.counts(index).packets
        }
        return losses
    }
}
