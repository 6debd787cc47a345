// The event path without a kernel: logged packets as bytes in, paths out. Prints CPU time per event for each stage, to be
// held against the budget of 1 µs. `make bench` runs it.
//
//   EventPathBenchmark [PACKETS]

import Intake
import Correlation
import Glibc
import Reports
import TraceModel
import WireFormat

/// A guest behind a host that masquerades, as `ipt-trace lab up ping` makes it: eleven events for each packet.
struct Traffic {
    static let guestWay = ["raw/OUTPUT", "mangle/OUTPUT", "filter/OUTPUT", "security/OUTPUT", "mangle/POSTROUTING"]
    static let hostWay = [
        "raw/PREROUTING", "mangle/PREROUTING", "mangle/FORWARD", "filter/FORWARD", "security/FORWARD", "mangle/POSTROUTING",
    ]

    let registry = LayoutRegistry()
    private var sequences: [UInt32] = [0, 0]

    init() {
        var probes: [Probe] = []
        for namespace in 0...1 {
            for table in Table.iptables {
                for hook in table.hooks {
                    probes.append(
                        Probe(
                            namespace: namespace, family: .ipv4, table: table, chain: hook.name, hook: hook, backend: .nft,
                            prefix: "ipt-trace:a1b2c3:\(table.name):\(hook.name)", coverage: .every(.none, until: nil)))
                }
            }
        }
        registry.update(
            namespaces: [
                NamespaceLayout(name: "guest", inode: 1, interfaces: [2: Interface(name: "vGUEST", segment: 10)]),
                NamespaceLayout(
                    name: "host", inode: 2,
                    interfaces: [2: Interface(name: "br0", segment: 10), 4: Interface(name: "eth0", segment: 11)]),
            ],
            openSegments: [11], probes: probes)
    }

    /// The datagrams of one namespace for the packets of `range`: a hundred messages each, as the collector asks for.
    mutating func datagrams(_ namespace: Int, packets range: Range<Int>) -> [[UInt8]] {
        let way = namespace == 0 ? Self.guestWay : Self.hostWay
        var datagrams: [[UInt8]] = []
        var current: [UInt8] = []
        var messages = 0
        for number in range {
            for place in way {
                current += message(namespace, place, number)
                messages += 1
                if messages % 100 == 0 {
                    datagrams.append(current)
                    current = []
                }
            }
        }
        return current.isEmpty ? datagrams : datagrams + [current]
    }

    private mutating func message(_ namespace: Int, _ place: String, _ number: Int) -> [UInt8] {
        let parts = place.split(separator: "/")
        let hook = Hook(name: parts[1]) ?? .forward
        let sequence = sequences[namespace]
        sequences[namespace] += 1
        let payload = (0..<8).map { UInt8(truncatingIfNeeded: number >> (8 * $0)) } + [UInt8](repeating: 0, count: 56)
        let udp = big(40000, 2) + big(9, 2) + big(72, 2) + big(0, 2) + payload
        let packet =
            [0x45, 0] + big(92, 2) + big(number & 0xFFFF, 2) + [
                0x40, 0, namespace == 0 || hook == .prerouting ? 64 : 63, 17, 0, 0, 172, 16, 0, 2, 8, 8, 8, 8,
            ]
            + udp
        var body: [UInt8] = [2, 0, 0, 5]
        body += attribute(1, [8, 0, hook.rawValue, 0])
        body += attribute(10, Array("ipt-trace:a1b2c3:\(parts[0]):\(parts[1])".utf8) + [0])
        if hook != .output { body += attribute(4, big(2, 4)) }
        if hook != .prerouting { body += attribute(5, big(namespace == 0 ? 2 : 4, 4)) }
        body += attribute(12, big(Int(sequence), 4)) + attribute(13, big(Int(sequence) + 1, 4)) + attribute(9, packet)
        return native(16 + body.count, 4) + native(Int(NFLogMessage.packetType), 2) + native(0, 10) + body
    }

    private func attribute(_ type: Int, _ value: [UInt8]) -> [UInt8] {
        native(4 + value.count, 2) + native(type, 2) + value + [UInt8](repeating: 0, count: (4 - value.count % 4) % 4)
    }

    private func native(_ value: Int, _ count: Int) -> [UInt8] {
        (0..<count).map { UInt8(truncatingIfNeeded: value >> (8 * $0)) }
    }
    private func big(_ value: Int, _ count: Int) -> [UInt8] { native(value, count).reversed() }
}

struct Paths: JourneySink {
    var aggregate = TraceAggregate()
    mutating func accept(_ journey: Journey, routes: RouteTable, history: EventHistory) {
        aggregate.add(journey, history: history)
    }
}

/// CPU time of this process in nanoseconds.
func cpuTime() -> Int64 {
    var time = timespec()
    unsafe clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time)
    return Int64(time.tv_sec) * 1_000_000_000 + Int64(time.tv_nsec)
}

let packets = CommandLine.arguments.dropFirst().first.flatMap { Int($0) } ?? 200_000
let batch = 2000
var traffic = Traffic()
var rounds: [(guest: [[UInt8]], host: [[UInt8]])] = []
var start = 0
while start < packets {
    let range = start..<min(packets, start + batch)
    rounds.append((traffic.datagrams(0, packets: range), traffic.datagrams(1, packets: range)))
    start += batch
}
let events = packets * (Traffic.guestWay.count + Traffic.hostWay.count)

@MainActor func report(_ stage: String, _ nanoseconds: Int64) {
    let perEvent = Double(nanoseconds) / Double(events)
    let rounded = Double(Int(perEvent * 10)) / 10
    print("\(stage): \(rounded) ns/event, \(Int(1e9 / perEvent)) events/s on one core")
}

/// Splitting and parsing alone.
@MainActor func parseOnly() -> Int64 {
    let parser = PacketParser(seed: 1)
    var sum: UInt64 = 0
    let begun = cpuTime()
    for round in rounds {
        for datagram in round.guest + round.host {
            let bytes = unsafe datagram.span.bytes
            var offset = 0
            while let frame = try? NetlinkMessage.next(in: bytes, at: &offset) {
                guard let message = try? NFLogMessage(parsing: bytes, body: frame.body),
                    let packet = try? parser.parse(bytes, message.payload)
                else { continue }
                sum &+= packet.fingerprint.header
            }
        }
    }
    let spent = cpuTime() - begun
    precondition(sum != 0, "nothing was parsed")
    return spent
}

/// Everything up to the paths.
@MainActor func wholePath() -> (Int64, Paths, Correlator) {
    var correlator = Correlator()
    correlator.update(traffic.registry.current.layout)
    var readers = (0...1).map {
        NFLogReader(namespace: $0, parser: PacketParser(seed: 1), registry: traffic.registry)
    }
    var sink = Paths()
    // A packet every 7 µs, so that as many journeys are open at once as on a loaded machine.
    var now: Int64 = 1_000_000
    let begun = cpuTime()
    for round in rounds {
        correlator.receive(at: now)
        for datagram in round.guest { readers[0].read(unsafe datagram.span.bytes, now: now, into: &correlator) }
        for datagram in round.host { readers[1].read(unsafe datagram.span.bytes, now: now, into: &correlator) }
        correlator.advance(to: now, into: &sink)
        now += Int64(batch) * 7
    }
    correlator.finish(into: &sink)
    return (cpuTime() - begun, sink, correlator)
}

print("event path: \(packets) packets, \(events) events, 2 namespaces")
report("parse", parseOnly())
let (spent, sink, correlator) = wholePath()
report("parse, correlate, add up", spent)
precondition(sink.aggregate.paths.count == 1 && sink.aggregate.paths[0].packets == UInt64(packets), "the result is wrong")
print("\(correlator.counters.journeys) journeys, \(sink.aggregate.paths.count) path; budget 1000 ns/event")
