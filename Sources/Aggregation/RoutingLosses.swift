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
        var losses: [TraceContext.RoutingKey: UInt64] = [:]
        for index in paths.indices {
            let path = paths[index]
            guard path.outcome == .dropped, decision(ofPath: index) == nil,
                let last = path.stepPaths.last.map({ stepTrie.lastProbe(of: $0) }), layout.probes.indices.contains(Int(last)),
                !path.expected.isEmpty, !path.example.journey.packet.tuple.destination.isMulticast
            else { continue }
            let probe = layout.probes[Int(last)]
            let isRouted =
                probe.hook == .prerouting
                && path.expected.allSatisfy { expected in
                    let next = layout.probes[Int(expected)]
                    return next.namespace == probe.namespace && (next.hook == .input || next.hook == .forward)
                }
            guard isRouted else { continue }
            losses[TraceContext.RoutingKey(namespace: probe.namespace, family: probe.family), default: 0] +=
                paths.counts(index).packets
        }
        return losses
    }
}
