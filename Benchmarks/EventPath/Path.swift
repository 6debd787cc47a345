package import Aggregation
private import Allocations
package import Correlation
internal import Engine
private import Glibc
internal import Reports
package import TraceModel
internal import WireFormat

package struct Paths: JourneySink {
    package private(set) var aggregate = TraceAggregate()

    package mutating func accept(_ journey: Journey, stepTrie: StepTrie, history: EventHistory) {
        aggregate.add(journey, history: history)
    }
}

package enum Pace {
    /// Of a round.
    package static let bursts = 25
    /// Microseconds between two packets, so that as many journeys are open at once as on a loaded machine.
    package static let interval: Int64 = 7
}

/// Time and allocations between two moments.
package struct Cost {
    package var events: UInt64 = 0
    package var journeys: UInt64 = 0
    /// CPU time of this process, in nanoseconds.
    package var time: Int64 = 0
    package var allocations: UInt64 = 0

    package init() {}

    package var perEvent: Double { Double(time) / Double(events) }
}

/// Everything from bytes to paths.
package struct Path: ~Copyable {
    package private(set) var correlator: Correlator
    package private(set) var sink = Paths()
    package private(set) var cost = Cost()
    private var readers: [NFLogReader]
    private var vocabulary = TemplateRegistry()
    private var now: Int64 = 1_000_000

    package init(_ traffic: Traffic, _ limits: Correlator.Limits) {
        correlator = Correlator(limits: limits)
        correlator.update(traffic.registry.current)
        for known in traffic.translations {
            correlator.noteTranslation(namespace: known.namespace, original: known.original, reply: known.reply)
        }
        readers = (0..<traffic.size.pairs * 2).map {
            NFLogReader(namespace: $0, parser: PacketParser(seed: 1), registry: traffic.registry)
        }
    }

    package mutating func forgetCost() { cost = Cost() }

    /// Takes one round, and counts what that costs.
    ///
    /// - Parameter duration: until the next one, in microseconds.
    package mutating func take(_ round: [Traffic.Datagram], duration: Int64) {
        let events = correlator.counters.events
        let journeys = correlator.counters.journeys
        let allocations = allocations_of_this_thread()
        let begun = cpuTime()
        measured(round)
        cost.time += cpuTime() - begun
        cost.allocations += allocations_of_this_thread() - allocations
        cost.events += correlator.counters.events - events
        cost.journeys += correlator.counters.journeys - journeys
        now += duration
    }

    /// By this name the instruction count finds what to count.
    @inline(never)
    private mutating func measured(_ round: [Traffic.Datagram]) {
        correlator.receive(at: now)
        for datagram in round {
            readers[datagram.namespace].read(
                datagram.bytes.octets, with: &vocabulary, now: now, into: &correlator)
        }
        correlator.advance(to: now, into: &sink)
    }

    /// Takes rounds of packets, the first of them with the number `first`, which moves on.
    ///
    /// - Parameter namespaces: those that are read; `nil` for all.
    package mutating func run(
        _ traffic: inout Traffic, _ first: inout Int, rounds: Int, bursts: Int = Pace.bursts, interval: Int64 = Pace.interval,
        namespaces: Range<Int>? = nil
    ) {
        for _ in 0..<rounds {
            let packets = bursts * Traffic.burst
            let round = traffic.round(first: first, bursts: bursts)
            take(round.filter { namespaces?.contains($0.namespace) ?? true }, duration: Int64(packets) * interval)
            first += packets
        }
    }

    package mutating func finish() { correlator.finish(into: &sink) }
}

/// CPU time of this process in nanoseconds.
package func cpuTime() -> Int64 {
    var time = timespec()
    unsafe clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time)
    return Int64(time.tv_sec) * 1_000_000_000 + Int64(time.tv_nsec)
}

/// Memory that this process has in use, in bytes.
package func residentMemory() -> Int {
    guard let file = unsafe fopen("/proc/self/statm", "r") else { return 0 }
    defer { unsafe fclose(file) }
    var line = [CChar](repeating: 0, count: 256)
    guard unsafe fgets(&line, Int32(line.count), file) != nil else { return 0 }
    let fields = String(decoding: line.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self).split(separator: " ")
    return (fields.count > 1 ? Int(fields[1]) ?? 0 : 0) * Int(getpagesize())
}
