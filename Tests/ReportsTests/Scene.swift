import Aggregation
import Reports
import TraceModel

/// A snapshot of two namespaces with hand-made journeys.
struct Scene {
    var layout = Layout()
    var stepTrie = StepTrie()
    var aggregate: TraceAggregate
    var serial: UInt64 = 0

    init(limits: TraceAggregate.Limits = TraceAggregate.Limits()) {
        aggregate = TraceAggregate(limits: limits)
        for name in ["guest", "host"] {
            let index = layout.namespaces.count
            layout.namespaces.append(
                NamespaceLayout(
                    name: name, inode: 1, interfaces: [1: Interface(name: "eth0"), 2: Interface(name: "br0")],
                    tracksConnections: name == "host"))
            for table in Table.iptables {
                for hook in table.hooks {
                    layout.probes.append(
                        Probe(
                            namespace: index, family: .ipv4, table: table, chain: hook.name, hook: hook, backend: .nft,
                            prefix: "", coverage: .every(.none, until: nil)))
                    layout.isInForce.append(true)
                }
            }
        }
    }

    func probe(_ namespace: Int, _ place: String) -> UInt32? {
        layout.probes.indices.first {
            let probe = layout.probes[$0]
            return probe.namespace == namespace && "\(probe.table.name)/\(probe.chain)" == place
        }
        .map { UInt32($0) }
    }

    mutating func leg(
        _ namespace: Int, _ places: [String], _ entry: PacketTuple, _ exit: PacketTuple? = nil, out: UInt32 = 1
    ) -> JourneyLeg {
        var stepPath = StepTrie.root
        for place in places {
            guard let probe = probe(namespace, place) else { continue }
            stepPath = stepTrie.advance(stepPath, by: Step(probe: probe, inInterface: 2, outInterface: out))
        }
        return JourneyLeg(
            namespace: namespace, stepPath: stepPath, entry: entry, exit: exit ?? entry, lastHook: .postrouting,
            opensConnection: places.contains { $0.hasPrefix("nat") }, firstEvent: EventHistory.none,
            lastEvent: EventHistory.none)
    }

    mutating func add(
        _ legs: [JourneyLeg], _ outcome: Outcome, expected: [UInt32] = [], tcpFlags: TCPFlags = [],
        decision: RuleDecision? = nil, kernel: KernelDecision? = nil, history: EventHistory = EventHistory()
    ) {
        serial += 1
        var journey = Journey(
            packet: Packet(
                tuple: legs[0].entry, fingerprint: Fingerprint(header: 0, payload: 0), length: 84, timeToLive: 64,
                tcpFlags: tcpFlags))
        journey.serial = serial
        journey.legs = legs
        journey.outcome = outcome
        journey.expected = expected
        journey.decision = decision.map { .rule($0) } ?? kernel.map { .kernel($0) }
        journey.firstSeen = 1_000_000 * Int64(serial)
        journey.lastSeen = journey.firstSeen + 5
        aggregate.add(journey, history: history)
    }

    var snapshot: TraceSnapshot {
        TraceSnapshot(
            generatedAt: 1_795_248_552_499_217, since: 0, context: TraceContext(run: 0xABC, layout: layout, stepTrie: stepTrie),
            completeness: Completeness(), paths: aggregate.paths, flows: aggregate.flows,
            journeys: aggregate.recentJourneys(history: EventHistory()), inferred: aggregate.inferredDecisions,
            transitTimes: aggregate.transitTimes)
    }
}

func tuple(_ source: UInt32, _ destination: UInt32, _ sourcePort: UInt16 = 1000, _ destinationPort: UInt16 = 53)
    -> PacketTuple
{
    PacketTuple(
        source: IPAddress(ipv4: source), destination: IPAddress(ipv4: destination), sourcePort: sourcePort,
        destinationPort: destinationPort, transport: TransportProtocol.udp)
}

let request = tuple(0xAC10_0002, 0x0808_0808)
let translated = tuple(0x0A00_020F, 0x0808_0808)
