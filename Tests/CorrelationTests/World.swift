import Correlation
import Testing
import TraceModel

/// A machine as the correlator sees it: namespaces with all of iptables' probes, and links between them. Packets are sent
/// through it by naming the chains that they pass.
struct World {
    var layout = Layout()
    private var probes: [Key: UInt32] = [:]
    private var orders: [Int: UInt32] = [:]

    struct Key: Hashable {
        var namespace: Int
        var place: String
    }

    /// - Parameter backend: `nft` has security at 150, `legacy` at 50.
    mutating func addNamespace(
        _ name: String, backend: Backend = .nft, tables: [Table] = Table.iptables, condition: Condition = .none,
        interfaces: [UInt32: Interface]
    ) -> Int {
        let index = layout.namespaces.count
        layout.namespaces.append(NamespaceLayout(name: name, inode: UInt64(index + 1), interfaces: interfaces))
        for table in tables {
            for hook in table.hooks {
                probes[Key(namespace: index, place: "\(table.name)/\(hook.name)")] = UInt32(layout.probes.count)
                layout.probes.append(
                    Probe(
                        namespace: index, family: .ipv4, table: table, chain: hook.name, hook: hook, backend: backend,
                        prefix: "p\(layout.probes.count)", coverage: .every(condition, until: nil)))
                layout.isInForce.append(true)
            }
        }
        return index
    }

    /// Adds a probe that `events` knows by `name`.
    mutating func add(_ probe: Probe, as name: String) {
        probes[Key(namespace: probe.namespace, place: name)] = UInt32(layout.probes.count)
        layout.probes.append(probe)
        layout.isInForce.append(true)
    }

    func probe(_ namespace: Int, _ place: String) -> UInt32? { probes[Key(namespace: namespace, place: place)] }

    /// The events of a packet at `places` of one namespace, such as `raw/PREROUTING`, in the kernel's order.
    mutating func events(
        _ namespace: Int, _ places: [String], _ packet: Packet, in input: UInt32 = 0, out output: UInt32 = 0
    ) -> [Event] {
        places.compactMap { place in
            guard let probe = probe(namespace, place) else { return nil }
            orders[namespace, default: 0] += 1
            let hook = layout.probes[Int(probe)].hook
            return Event(
                packet: packet,
                sighting: Sighting(
                    time: 1_000_000, probe: probe, inInterface: hook == .output ? 0 : input,
                    outInterface: hook == .prerouting || hook == .input ? 0 : output, mark: 0,
                    order: orders[namespace] ?? 0, timeToLive: packet.timeToLive, isStamped: false))
        }
    }

    /// A guest behind a host that forwards to the outside: interface 2 of the guest on a leg with interface 2 of the
    /// host; interface 3 of the host leads outside.
    static func guestAndHost(backend: Backend = .nft) -> (World, guest: Int, host: Int) {
        var world = World()
        let guest = world.addNamespace(
            "guest", backend: backend,
            interfaces: [1: Interface(name: "lo", linkDomain: 1), 2: Interface(name: "vGUEST", linkDomain: 10)])
        let host = world.addNamespace(
            "host", backend: backend,
            interfaces: [
                1: Interface(name: "lo", linkDomain: 2), 2: Interface(name: "br0", linkDomain: 10),
                3: Interface(name: "eth0", linkDomain: 11),
            ])
        world.layout.openLinkDomains = [11]
        return (world, guest, host)
    }
}

/// Ways through one namespace.
enum Way {
    static let out = ["raw/OUTPUT", "mangle/OUTPUT", "filter/OUTPUT", "security/OUTPUT", "mangle/POSTROUTING"]
    static let into = ["raw/PREROUTING", "mangle/PREROUTING", "mangle/INPUT", "filter/INPUT", "security/INPUT"]
    static let before = ["raw/PREROUTING", "mangle/PREROUTING"]
    static let through = ["mangle/FORWARD", "filter/FORWARD", "security/FORWARD", "mangle/POSTROUTING"]
}

/// A UDP packet; equal `content` makes copies that nothing but their addresses tells apart.
func packet(_ source: UInt32, _ sourcePort: UInt16, _ destination: UInt32, _ destinationPort: UInt16, content: UInt64 = 1)
    -> Packet
{
    Packet(
        tuple: PacketTuple(
            source: IPAddress(ipv4: source), destination: IPAddress(ipv4: destination), sourcePort: sourcePort,
            destinationPort: destinationPort, transport: TransportProtocol.udp),
        fingerprint: Fingerprint(header: content, payload: content &* 77), length: 100, timeToLive: 64)
}

/// Collects journeys as text: `guest:raw/OUTPUT,… > host:…`.
struct Collected: JourneySink {
    var layout: Layout
    var journeys: [Journey] = []
    /// Those that were said to be lost perhaps.
    var doubtful: [Journey] = []
    var ways: [String] = []

    init(_ world: World) { layout = world.layout }

    mutating func mayBeLost(_ journey: Journey) { doubtful.append(journey) }

    mutating func accept(_ journey: Journey, stepTrie: StepTrie, history: EventHistory) {
        journeys.append(journey)
        ways.append(
            journey.legs.map { leg in
                let places = stepTrie.steps(of: leg.stepPath).map { step in
                    let probe = layout.probes[Int(step.probe)]
                    return "\(probe.table.name)/\(probe.chain)"
                }
                return "\(layout.namespaces[leg.namespace].name):" + places.joined(separator: ",")
            }
            .joined(separator: " > "))
    }
}

/// Feeds `events` to a correlator over `world` and closes everything: once with a look for each event, and once as a reader
/// does that recognises packets which it has just read. What comes of it is the same.
///
/// - Returns: also how many journeys are under way at the end.
func correlate(
    _ world: World, _ events: [Event], limits: Correlator.Limits = Correlator.Limits(),
    prepare: (inout Correlator) -> Void = { _ in }
) -> (Collected, live: Int) {
    func run(_ take: (Event, inout Correlator) -> Void) -> (Collected, live: Int) {
        var correlator = Correlator(limits: limits)
        correlator.update(world.layout)
        prepare(&correlator)
        var collected = Collected(world)
        correlator.advance(to: 1_000_000, into: &collected)
        for event in events { take(event, &correlator) }
        correlator.advance(to: 2_000_000, into: &collected)
        correlator.advance(to: 9_000_000, into: &collected)
        return (collected, correlator.liveJourneys)
    }
    let looked = run { $1.ingest($0) }
    var recent = RecentNames(world)
    let recognised = run { recent.take($0, &$1) }
    #expect(recognised.0.ways == looked.0.ways)
    #expect(recognised.0.journeys.map(\.outcome) == looked.0.journeys.map(\.outcome))
    #expect(recognised.0.journeys.map(\.isAmbiguous) == looked.0.journeys.map(\.isAmbiguous))
    return looked
}

/// Where the latest packets of each namespace were found last.
private struct RecentNames {
    private var names: [[(packet: Packet, name: LegName)]]
    private let layout: Layout

    init(_ world: World) {
        layout = world.layout
        names = Array(repeating: [], count: layout.namespaces.count)
    }

    mutating func take(_ event: Event, _ correlator: inout Correlator) {
        let namespace = layout.probes[Int(event.sighting.probe)].namespace
        let known = names[namespace].firstIndex {
            $0.packet.fingerprint == event.packet.fingerprint && $0.packet.tuple == event.packet.tuple
        }
        if let known, correlator.extend(names[namespace][known].name, with: event.sighting) { return }
        let name = correlator.ingest(event)
        if let known { names[namespace].remove(at: known) }
        names[namespace].insert((event.packet, name), at: 0)
        names[namespace] = Array(names[namespace].prefix(4))
    }
}
