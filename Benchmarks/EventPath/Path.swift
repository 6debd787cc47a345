import Allocations
import Correlation
import Glibc
import Intake
import Reports
import TraceModel
import WireFormat

struct Paths: JourneySink {
    var aggregate = TraceAggregate()
    mutating func accept(_ journey: Journey, routes: RouteTable, history: EventHistory) {
        aggregate.add(journey, history: history)
    }
}

/// What was spent between two moments.
struct Cost {
    var events: UInt64 = 0
    var journeys: UInt64 = 0
    /// CPU time of this process, in nanoseconds.
    var time: Int64 = 0
    var allocations: UInt64 = 0

    var perEvent: Double { Double(time) / Double(events) }
}

/// Everything from bytes to paths.
struct Path {
    private(set) var correlator: Correlator
    private(set) var sink = Paths()
    private(set) var cost = Cost()
    private var readers: [NFLogReader]
    private var now: Int64 = 1_000_000

    init(_ traffic: Traffic, _ limits: Correlator.Limits) {
        correlator = Correlator(limits: limits)
        correlator.update(traffic.registry.current.layout)
        for known in traffic.translations {
            correlator.noteTranslation(namespace: known.namespace, original: known.original, reply: known.reply)
        }
        readers = (0..<traffic.size.pairs * 2).map {
            NFLogReader(namespace: $0, parser: PacketParser(seed: 1), registry: traffic.registry)
        }
    }

    mutating func forgetCost() { cost = Cost() }

    /// Takes one round, and counts what that costs.
    ///
    /// - Parameter duration: until the next one, in microseconds.
    mutating func take(_ round: [Traffic.Datagram], duration: Int64) {
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
            readers[datagram.namespace].read(unsafe datagram.bytes.span.bytes, now: now, into: &correlator)
        }
        correlator.advance(to: now, into: &sink)
    }

    mutating func finish() { correlator.finish(into: &sink) }
}

/// CPU time of this process in nanoseconds.
func cpuTime() -> Int64 {
    var time = timespec()
    unsafe clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time)
    return Int64(time.tv_sec) * 1_000_000_000 + Int64(time.tv_nsec)
}

/// Memory that this process has in use, in bytes.
func residentMemory() -> Int {
    guard let file = unsafe fopen("/proc/self/statm", "r") else { return 0 }
    defer { unsafe fclose(file) }
    var line = [CChar](repeating: 0, count: 256)
    guard unsafe fgets(&line, Int32(line.count), file) != nil else { return 0 }
    let fields = String(decoding: line.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self).split(separator: " ")
    return (fields.count > 1 ? Int(fields[1]) ?? 0 : 0) * Int(getpagesize())
}
