internal import Aggregation
internal import TraceModel

/// Who may have taken a packet between the last probe that saw it and those of which one had to see it next.
///
/// The order is the kernel's: the rest of the last probe's own hook, what lies between the hooks (the routing decision behind
/// PREROUTING), and the next hook's tables before the next probe.
struct DropLocator {
    private let layout: Layout
    private let last: Probe
    private let next: [Probe]
    private let opensConnection: Bool

    /// - Parameter steps: of the packet in the last namespace that it was seen in.
    init(_ layout: Layout, _ steps: [Step], last: UInt32, expected: [UInt32]) {
        opensConnection = steps.contains { layout.probes[Int($0.probe)].table == .nat }
        self.layout = layout
        self.last = layout.probes[Int(last)]
        next = expected.map { layout.probes[Int($0)] }
    }

    /// `filter/FORWARD`, `routing`, `the way to guest`, …: exactly one where it is certain.
    var suspects: [String] {
        guard let first = next.first else { return [] }
        if next.allSatisfy({ $0.namespace == last.namespace && $0.hook == last.hook }) {
            return chains(at: last.hook, from: last.priority, to: first.priority, includingFirst: last.sentinel == nil)
        }
        let own = chains(at: last.hook, from: last.priority, includingFirst: last.sentinel == nil)
        if first.namespace != last.namespace || last.hook == .postrouting {
            let ways = Set(next.map { "the way to \(layout.namespaces[$0.namespace].name)" }).sorted()
            // A connection is confirmed at the very end of its first packet's way out.
            let confirming = opensConnection ? [Self.connectionTracking] : []
            return own + confirming + ways + next.flatMap { chains(at: $0.hook, before: $0) }
        }
        return own + [last.hook == .prerouting ? Self.routing : "the kernel behind \(last.hook.name)"]
            + next.flatMap { chains(at: $0.hook, before: $0) }
    }

    static let routing = "routing"
    static let connectionTracking = "connection tracking"

    private func chains(at hook: Hook, before probe: Probe) -> [String] {
        chains(at: hook, from: .min, to: probe.priority, includingFirst: true, in: probe.namespace)
    }

    /// The chains that may decide about packets between two places of a hook's order.
    private func chains(
        at hook: Hook, from: Int32, to: Int32 = .max, includingFirst: Bool, in namespace: Int? = nil
    ) -> [String] {
        let place = layout.namespaces[namespace ?? last.namespace]
        func lies(_ priority: Int32) -> Bool { priority < to && (includingFirst ? priority >= from : priority > from) }
        let known = place.facts.map { _ in place.decidingChains }
        var found: [(priority: Int32, name: String)] = []
        for table in Table.iptables where table.hooks.contains(hook) {
            for backend in Backend.allCases {
                let priority = HookPriority.of(table, at: hook, backend: backend)
                let chain = BuiltInChain(family: last.family, table: table, hook: hook, backend: backend)
                // Of a namespace whose rules are not known, any table may.
                guard lies(priority), known?.contains(chain) ?? (backend == last.backend) else { continue }
                found.append((priority, "\(table.name)/\(hook.name)"))
            }
        }
        for chain in place.facts?.otherChains ?? [] where chain.hook == hook.name && lies(chain.priority) {
            guard chain.family == nil || chain.family == last.family else { continue }
            found.append((chain.priority, "\(chain.table)/\(chain.name) of nftables"))
        }
        // Registered at PREROUTING and OUTPUT (NF_IP_PRI_CONNTRACK); a full table drops the packets of new connections.
        if place.tracksConnections == true, hook == .prerouting || hook == .output, lies(HookPriority.connectionTracking) {
            found.append((HookPriority.connectionTracking, Self.connectionTracking))
        }
        var names: [String] = []
        for chain in found.sorted(by: { $0.priority < $1.priority }) where !names.contains(chain.name) {
            names.append(chain.name)
        }
        return names
    }
}

/// What makes the kernel drop a packet where it is routed.
enum RoutingLoss: String {
    /// `ip_forward`, `net.ipv6.conf.all.forwarding`.
    case forwardingDisabled = "forwarding-disabled"
    /// It could not be sent on with less than one hop to live.
    case timeToLive = "ttl-spent"
    /// An address that no packet from a network may have.
    case martian = "martian-source"
    /// The interface has a strict reverse-path filter, which may have been it.
    case reversePath = "reverse-path-filter"

    var explanation: String {
        switch self {
        case .forwardingDisabled: "forwarding is switched off"
        case .timeToLive: "the packet had no hops left to live"
        case .martian: "its source address cannot come from a network"
        case .reversePath: "the interface's reverse-path filter is strict"
        }
    }
}

extension TraceContext {
    /// - Parameters:
    ///   - steps: those in the last namespace.
    ///   - packets: all that were lost there.
    ///   - spent: those of them with no hops left to live.
    ///   - martian: those with a source that cannot be.
    func ending(
        _ steps: [Step], after step: Step, expected: [UInt32], packets: UInt64, spent: UInt64, martian: UInt64
    ) -> PathReport.Ending {
        let suspects = DropLocator(layout, steps, last: step.probe, expected: expected).suspects
        var causes: [RoutingLoss] = []
        if suspects.contains(DropLocator.routing) {
            let last = layout.probes[Int(step.probe)]
            let namespace = layout.namespaces[last.namespace]
            let interface = layout.interfaceName(step.inInterface, namespace: last.namespace)
            if martian > 0 { causes.append(.martian) }
            if martian < packets {
                let forwards = last.family == .ipv4 ? namespace.facts?.forwardsIPv4 : namespace.facts?.forwardsIPv6
                if last.family == .ipv4, let interface, namespace.facts?.strictInterfaces.contains(interface) == true {
                    causes.append(.reversePath)
                }
                if forwards == false { causes.append(.forwardingDisabled) }
                if spent > 0 { causes.append(.timeToLive) }
            }
        }
        return PathReport.Ending(
            after: describe(step), before: expected.map(describeProbe), suspects: suspects, causes: causes.map(\.rawValue))
    }
}
