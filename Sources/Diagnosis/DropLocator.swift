internal import TraceModel

/// Who may have taken a packet between the last probe that saw it and those of which one had to see it next.
///
/// The order is the kernel's: the rest of the last probe's own hook, what lies between the hooks (the routing decision behind
/// PREROUTING), and the next hook's tables before the next probe.
struct DropLocator {
    let layout: Layout
    let last: Probe
    let next: [Probe]
    let opensConnection: Bool
    /// The last step, and the packet as it came into the namespace of that.
    let step: Step
    let packet: Packet

    /// - Parameters:
    ///   - steps: those of the packet in the last namespace that it was seen in.
    ///   - step: the last of them.
    ///   - packet: as it came into that namespace.
    init(_ layout: Layout, _ steps: [Step], last step: Step, packet: Packet, expected: [UInt32]) {
        opensConnection = steps.contains { layout.probes[Int($0.probe)].table == .nat }
        self.layout = layout
        self.step = step
        self.packet = packet
        last = layout.probes[Int(step.probe)]
        next = expected.map { layout.probes[Int($0)] }
    }

    /// In the kernel's order; exactly one where it is certain.
    var suspects: [Suspect] {
        guard let first = next.first else { return [] }
        if next.allSatisfy({ $0.namespace == last.namespace && $0.hook == last.hook }) {
            let own = chains(at: last.hook, from: last.priority, to: first.priority, includingFirst: last.sentinel == nil)
            // Nat's rules cannot drop, but what carries them out can; that is rare, so that it is named where nobody else is.
            return own.isEmpty && passesTranslation(to: first) ? [.addressTranslation] : own
        }
        let own = chains(at: last.hook, from: last.priority, includingFirst: last.sentinel == nil)
        if first.namespace != last.namespace || last.hook == .postrouting {
            let ways = Set(next.map { layout.namespaces[$0.namespace].name }).sorted().map { Suspect.way(namespace: $0) }
            // A connection is confirmed at the very end of its first packet's way out.
            let confirming: [Suspect] = opensConnection ? [.connectionTracking] : []
            return own + confirming + devices(.egress, step.outInterface, of: last.namespace) + bridgesOnTheWay + ways
                + arrivals + next.flatMap { chains(at: $0.hook, before: $0) }
        }
        return own + bridgeBehindHook + [last.hook == .prerouting ? .routing : .kernel(behind: last.hook)]
            + next.flatMap { chains(at: $0.hook, before: $0) }
    }

    private func passesTranslation(to next: Probe) -> Bool {
        let priority =
            last.hook == .prerouting || last.hook == .output
            ? HookPriority.destinationTranslation : HookPriority.sourceTranslation
        return last.hook != .forward && layout.namespaces[last.namespace].tracksConnections != false
            && (last.priority...max(last.priority, next.priority)).contains(priority)
    }

    private func chains(at hook: Hook, before probe: Probe) -> [Suspect] {
        chains(at: hook, from: .min, to: probe.priority, includingFirst: true, in: probe.namespace)
    }

    /// The chains that may decide about packets between two places of a hook's order.
    private func chains(
        at hook: Hook, from: Int32, to: Int32 = .max, includingFirst: Bool, in namespace: Int? = nil
    ) -> [Suspect] {
        let place = layout.namespaces[namespace ?? last.namespace]
        func lies(_ priority: Int32) -> Bool { priority < to && (includingFirst ? priority >= from : priority > from) }
        let known = place.facts.map { _ in place.decidingChains }
        var found: [(priority: Int32, suspect: Suspect)] = []
        for table in Table.iptables where table.hooks.contains(hook) {
            for backend in Backend.allCases {
                let priority = HookPriority.of(table, at: hook, backend: backend)
                let chain = BuiltInChain(family: last.family, table: table, hook: hook, backend: backend)
                // In a namespace whose rules are not known, any table may have dropped it.
                guard lies(priority), known?.contains(chain) ?? (backend == last.backend) else { continue }
                found.append((priority, .chain(table: table, hook: hook)))
            }
        }
        for chain in place.facts?.otherChains ?? [] where chain.hook == .ip(hook) && lies(chain.priority) {
            guard chain.family == nil || chain.family == last.family else { continue }
            found.append((chain.priority, .nativeChain(table: chain.table, name: chain.name)))
        }
        // Registered at PREROUTING and OUTPUT (NF_IP_PRI_CONNTRACK); a full table drops the packets of new connections.
        if place.tracksConnections == true, hook == .prerouting || hook == .output, lies(HookPriority.connectionTracking) {
            found.append((HookPriority.connectionTracking, Suspect.connectionTracking))
        }
        var suspects: [Suspect] = []
        for chain in found.sorted(by: { $0.priority < $1.priority }) where !suspects.contains(chain.suspect) {
            suspects.append(chain.suspect)
        }
        return suspects
    }
}
