internal import Correlation
internal import Engine
internal import TraceModel

/// Turns a rule trace's reports into events of the host's namespace, and counts those whose chain it does not know.
struct RuleTraceReader {
    private(set) var counters = IntakeCounters()
    private(set) var unresolved = UnresolvedPrefixes()
    private let registry: LayoutRegistry
    private var order: UInt32 = 0

    init(_ registry: LayoutRegistry) { self.registry = registry }

    /// Counts an event of a chain that is no step.
    mutating func countUnresolved(_ place: String) {
        counters.events += 1
        counters.unresolved += 1
        unresolved.count(unresolved.number(of: place))
    }

    /// - Parameters:
    ///   - interfaces: names; `nil` where the packet has none.
    ///   - probe: where it is, by the number of its namespace.
    mutating func take(
        _ packet: Packet, _ interfaces: (in: String?, out: String?), time: Int64, into correlator: inout Correlator,
        at probe: (_ namespace: Int) -> Probe
    ) {
        counters.events += 1
        guard let namespace = registry.namespace(named: "host", channel: .nflog),
            let number = registry.number(of: probe(namespace))
        else {
            counters.unresolved += 1
            return
        }
        func interface(_ name: String?) -> UInt32 { name.map { registry.interface(named: $0, namespace: namespace) } ?? 0 }
        let (input, output) = (interface(interfaces.in), interface(interfaces.out))
        correlator.follow(registry, to: number)
        order &+= 1
        correlator.ingest(
            Event(
                packet: packet,
                sighting: Sighting(
                    time: time, probe: number, inInterface: input, outInterface: output, mark: 0, order: order,
                    timeToLive: packet.timeToLive, isStamped: false)))
    }
}
