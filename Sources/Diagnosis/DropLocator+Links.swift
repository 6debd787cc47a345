internal import TraceModel

/// What may take packets on links and bridges, where no IP chain sees them.
extension DropLocator {
    /// Chains of nf_tables at an interface: `INGRESS` before PREROUTING, `EGRESS` behind POSTROUTING.
    func devices(_ hook: NativeHook, _ interface: UInt32, of namespace: Int) -> [Suspect] {
        let name = layout.interfaceName(interface, namespace: namespace)
        return chains(hook, in: namespace) { devices in name.map { devices.contains($0) } ?? true }
    }

    /// Chains and flowtables at the interfaces by which a packet may come into the next namespaces.
    var arrivals: [Suspect] {
        let link = interface(step.outInterface, of: last.namespace)?.linkDomain ?? 0
        return Set(next.map(\.namespace)).sorted().flatMap { namespace -> [Suspect] in
            let place = layout.namespaces[namespace]
            let names = Set(place.interfaces.values.filter { link == 0 || $0.linkDomain == link }.map(\.name))
            let chains = chains(.ingress, in: namespace) { !names.isDisjoint(with: $0) }
            // A connection is handed over once packets of both directions have passed the chains.
            let flowtables = opensByItself ? [] : place.facts?.flowtables ?? []
            return chains
                + flowtables.filter {
                    !names.isDisjoint(with: $0.devices) && ($0.family ?? last.family) == last.family
                }.map { .flowtable(table: $0.table, name: $0.name) }
        }
    }

    private var opensByItself: Bool {
        opensConnection || (packet.tuple.transport == TransportProtocol.tcp && packet.tcpFlags.opensConnection)
    }

    /// Bridges on the link that a packet left by, where one of their ports may have held it back.
    var bridgesOnTheWay: [Suspect] {
        guard let link = interface(step.outInterface, of: last.namespace)?.linkDomain, link != 0 else { return [] }
        return layout.namespaces.indices.filter { layout.namespaces[$0].channel == layout.namespaces[last.namespace].channel }
            .flatMap { namespace in
                layout.namespaces[namespace].interfaces.filter { $0.value.linkDomain == link && $0.value.bridge != nil }
                    .sorted { $0.key < $1.key }.flatMap { index, bridge in
                        let own =
                            holdsBack(index, in: namespace)
                            ? [Suspect.bridge(bridge.name, namespace: layout.namespaces[namespace].name)] : []
                        return own + bridgeChains(in: namespace)
                    }
            }
    }

    /// A bridge that handed its packet to PREROUTING or FORWARD (br_netfilter), where it may send it nowhere.
    var bridgeBehindHook: [Suspect] {
        let place = layout.namespaces[last.namespace]
        guard last.hook == .prerouting || last.hook == .forward,
            let interface = interface(step.inInterface, of: last.namespace),
            let bridge = interface.bridge, filters(bridge)
        else { return [] }
        let chains = bridgeChains(in: last.namespace)
        guard last.hook == .prerouting else { return chains }
        let isSuspect = mayTurnRound || holdsBack(step.inInterface, in: last.namespace)
        return (isSuspect ? [.bridge(interface.name, namespace: place.name)] : []) + chains
            + devices(.ingress, step.inInterface, of: last.namespace)
    }

    /// Whether DNAT may send the packet back to the link that it came from: a port without hairpin mode keeps it.
    private var mayTurnRound: Bool {
        guard let facts = layout.namespaces[last.namespace].facts else { return true }
        return facts.redirections.contains {
            $0.family == last.family && $0.isReachedFromPrerouting && $0.match.admits(RuleMatch.Packet(packet.tuple)) != false
        }
    }

    private func filters(_ bridge: Bridge) -> Bool {
        let facts = layout.namespaces[last.namespace].facts
        return last.family == .ipv4
            ? bridge.filtersIPv4 || facts?.filtersBridgedIPv4 == true
            : bridge.filtersIPv6 || facts?.filtersBridgedIPv6 == true
    }

    /// Whether a port of a bridge forwards nothing, or two of them nothing to each other.
    private func holdsBack(_ bridge: UInt32, in namespace: Int) -> Bool {
        let ports = layout.namespaces[namespace].interfaces.values.compactMap(\.port).filter { $0.bridge == bridge }
        return ports.contains { !$0.isForwarding } || ports.filter(\.isIsolated).count > 1
    }

    private func bridgeChains(in namespace: Int) -> [Suspect] {
        let found = (layout.namespaces[namespace].facts?.otherChains ?? []).compactMap {
            chain -> (Hook, NamespaceFacts.OtherChain)? in
            if case .bridge(let hook) = chain.hook { (hook, chain) } else { nil }
        }
        return found.sorted { ($0.0.stage, $0.1.priority) < ($1.0.stage, $1.1.priority) }.map {
            .nativeChain(table: $0.1.table, name: $0.1.name)
        }
    }

    private func chains(_ hook: NativeHook, in namespace: Int, _ isAt: ([String]) -> Bool) -> [Suspect] {
        let found = layout.namespaces[namespace].facts?.otherChains.filter { chain in
            chain.hook == hook && chain.devices.map(isAt) ?? true
        }
        return (found ?? []).sorted { $0.priority < $1.priority }.map { .nativeChain(table: $0.table, name: $0.name) }
    }

    private func interface(_ number: UInt32, of namespace: Int) -> Interface? {
        layout.namespaces[namespace].interfaces[number]
    }
}
