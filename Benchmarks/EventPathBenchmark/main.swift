// The event path without a kernel: logged packets as bytes in, paths out. Prints CPU time and allocations for each event, to be
// held against the budget of 150 ns and none. `make bench` runs it.
//
//   EventPathBenchmark [PACKETS]          one flow, two namespaces; a round before it warms up
//   EventPathBenchmark counted PACKETS    the same without more than that, for tools/count-instructions
//   EventPathBenchmark live [JOURNEYS]    many journeys under way, paths, namespaces and probes
//   EventPathBenchmark copies [PACKETS]   packets that are all the same
//   EventPathBenchmark memory [JOURNEYS]  what journeys take that were seen in one namespace; a run of its own, since memory
//                                         that was used before is used again

import Aggregation
import Correlation
import EventPath
import Reports
import TraceModel
import WireFormat

let words = Array(CommandLine.arguments.dropFirst())

func rounded(_ value: Double, _ digits: Int = 1) -> Double {
    var scale = 1.0
    for _ in 0..<digits { scale *= 10 }
    return (value * scale).rounded() / scale
}

func report(_ stage: String, _ cost: Cost) {
    print(
        "\(stage): \(rounded(cost.perEvent)) ns/event, \(Int(1e9 / cost.perEvent)) events/s on one core, "
            + "\(rounded(Double(cost.allocations) / Double(cost.events), 4)) allocations/event, "
            + "\(rounded(Double(cost.allocations) / Double(max(1, cost.journeys)), 4)) allocations/journey")
}

/// Splitting and parsing alone.
func parse(_ traffic: Traffic, rounds: Int) -> Cost {
    var traffic = traffic
    let parser = PacketParser(seed: 1)
    var cost = Cost()
    var sum: UInt64 = 0
    for number in 0..<rounds {
        let round = traffic.round(first: number * Pace.bursts * Traffic.burst, bursts: Pace.bursts)
        let begun = cpuTime()
        for datagram in round {
            let bytes = datagram.bytes.octets
            var offset = 0
            while let frame = try? NetlinkMessage.next(in: bytes, at: &offset) {
                guard let message = try? NFLogMessage(parsing: bytes, body: frame.body),
                    let packet = try? parser.parse(bytes, message.payload)
                else { continue }
                sum &+= packet.fingerprint.header
                cost.events += 1
            }
        }
        cost.time += cpuTime() - begun
    }
    precondition(sum != 0, "nothing was parsed")
    return cost
}

func small(packets: Int, isCounted: Bool) {
    let rounds = max(1, packets / (Pace.bursts * Traffic.burst))
    var traffic = Traffic(Traffic.Size())
    if !isCounted {
        print("event path: \(rounds * Pace.bursts * Traffic.burst) packets, 2 namespaces, \(traffic.probes) probes")
        report("parse", parse(traffic, rounds: rounds))
    }
    var path = Path(traffic, Correlator.Limits())
    var first = 0
    if !isCounted {
        path.run(&traffic, &first, rounds: max(100, rounds / 4))
        path.forgetCost()
    }
    path.run(&traffic, &first, rounds: rounds)
    let cost = path.cost
    path.finish()
    if isCounted {
        print("\(cost.events) events")
    } else {
        report("parse, correlate, add up", cost)
    }
    let paths = path.sink.aggregate.paths
    precondition(paths.count == 1 && paths.counts(0).packets == UInt64(first), "the result is wrong")
}

/// A steady state in which `journeys` are under way: each stays until it is as old as that many packets take.
func live(journeys: Int) {
    for row in [Traffic.burst, 1] {
        for isLarge in [false, true] { live(journeys: journeys, isLarge: isLarge, row: row) }
    }
}

func live(journeys: Int, isLarge: Bool, row: Int) {
    var size = Traffic.Size()
    size.flows = 1000
    size.row = row
    size.translatedFlows = 1000
    var limits = Correlator.Limits()
    if isLarge {
        size.pairs = 100
        size.userChains = 8
        size.variants = 100
        size.flows = 100
        size.translatedFlows = 10_000
        limits.journeys = journeys * 2
        limits.settle = Int64(journeys) * Pace.interval
        // Longer, as it is outside of benchmarks: else what fits less well would be looked for at once.
        limits.linger = limits.settle * 2
    }
    var traffic = Traffic(size)
    var path = Path(traffic, limits)
    var first = 0
    let count = isLarge ? 100 : Pace.bursts
    let rounds = (isLarge ? journeys : 300_000) / (count * Traffic.burst)
    // The memory of the packets themselves is not the journeys'.
    path.run(&traffic, &first, rounds: 1, bursts: count)
    let before = (memory: residentMemory(), journeys: path.correlator.liveJourneys)
    path.run(&traffic, &first, rounds: rounds, bursts: count)
    let underWay = path.correlator.liveJourneys
    let each = (residentMemory() - before.memory) / max(1, underWay - before.journeys)
    // Until everything that grows has grown.
    path.run(&traffic, &first, rounds: rounds / 4, bursts: count)
    path.forgetCost()
    path.run(&traffic, &first, rounds: max(rounds / 2, 300), bursts: count)
    report(
        "\(underWay) journeys under way, \(path.sink.aggregate.paths.count) paths, \(size.pairs * 2) namespaces, "
            + "\(traffic.probes) probes, \(row) packets of a flow in a row", path.cost)
    if isLarge { print("each in \(each) bytes, of two legs") }
}

/// Copies of one packet, as many as are under way on a loaded machine: which event continues which cannot be told, and looking
/// for it must not take ever longer. And the same from as many ports, which can be told apart, but not by what a packet's hashes
/// begin with.
func copies(packets: Int) {
    for flows in [1, 20_000] {
        var size = Traffic.Size()
        size.distinct = 1
        size.flows = flows
        var traffic = Traffic(size)
        var path = Path(traffic, Correlator.Limits())
        var first = 0
        path.run(&traffic, &first, rounds: packets / (Pace.bursts * Traffic.burst))
        let what = flows == 1 ? "copies of one packet" : "identical datagrams from \(flows) ports"
        report("\(what), \(path.correlator.liveJourneys) journeys under way", path.cost)
    }
}

/// What journeys take that have been seen in one namespace so far.
func memory(journeys: Int) {
    var traffic = Traffic(Traffic.Size())
    var limits = Correlator.Limits()
    limits.journeys = journeys * 2
    limits.settle = Int64(journeys) * Pace.interval * 2
    limits.linger = limits.settle * 2
    var path = Path(traffic, limits)
    var first = 0
    path.run(&traffic, &first, rounds: 1, namespaces: 0..<1)
    let before = (memory: residentMemory(), journeys: path.correlator.liveJourneys)
    path.run(&traffic, &first, rounds: journeys / (Pace.bursts * Traffic.burst), namespaces: 0..<1)
    let underWay = path.correlator.liveJourneys
    let each = (residentMemory() - before.memory) / max(1, underWay - before.journeys)
    print("\(underWay) journeys under way: each in \(each) bytes, of one leg")
}

let journeys = words.dropFirst().first.flatMap { Int($0) } ?? 1_000_000

switch words.first {
case "live": live(journeys: journeys)
case "copies": copies(packets: words.dropFirst().first.flatMap { Int($0) } ?? 40_000)
case "memory": memory(journeys: journeys)
case "counted": small(packets: words.dropFirst().first.flatMap { Int($0) } ?? 10_000, isCounted: true)
default: small(packets: words.first.flatMap { Int($0) } ?? 200_000, isCounted: false)
}
