public import Aggregation
internal import TraceModel

/// `/latency`: how long packets took, of the latest journeys that are kept.
///
/// Only the kernel's stamps are measured. It gives no stamp at OUTPUT and POSTROUTING; and where a program has switched on
/// receive timestamps, a packet has the stamp of its arrival at all hooks of a namespace. So a time is known only between two
/// stamps that differ.
public struct LatencyReport: Codable, Sendable, Equatable {
    public struct Figures: Codable, Sendable, Equatable {
        /// Packets whose time is known.
        public var measured: UInt64
        /// Packets without two stamps that differ.
        public var unknown: UInt64
        /// Microseconds that half, nine tenths, and 99 of 100 of the measured packets did not exceed; `null` where none is.
        @ExplicitNull public var p50Us: Int64?
        @ExplicitNull public var p90Us: Int64?
        @ExplicitNull public var p99Us: Int64?

        public init(measured: UInt64, unknown: UInt64, p50Us: Int64? = nil, p90Us: Int64? = nil, p99Us: Int64? = nil) {
            self.measured = measured
            self.unknown = unknown
            self.p50Us = p50Us
            self.p90Us = p90Us
            self.p99Us = p99Us
        }
    }

    /// From the arrival in one namespace to the arrival in the next.
    public struct Transit: Codable, Sendable, Equatable {
        public var netns: String
        public var next: String
        public var figures: Figures
    }

    /// From one probe to the next in one namespace.
    public struct Hop: Codable, Sendable, Equatable {
        public var netns: String
        /// `table/CHAIN` of the probes.
        public var from: String
        public var to: String
        public var figures: Figures
    }

    public var schema = 1
    public var generatedAt: String
    public var completeness: Completeness
    /// Most packets first.
    public var transits: [Transit]
    /// Most packets first.
    public var hops: [Hop]
}

extension LatencyReport: Report {
    public static let name = "latency"
    public static let summary = "Print how long packets took through namespaces and between chains."
    public static let isInOverview = false

    public static func scope(_ filter: TraceFilter) -> TraceSnapshot.Scope { JourneysReport.scope(filter) }
    public init(_ snapshot: TraceSnapshot, _ filter: TraceFilter) { self = snapshot.latencyReport(filter) }

    public func text(_ style: Style) -> TerminalText {
        var lines: [TerminalText] = ["\(Phrase.completeness(completeness))"]
        let head = ["", "", "p50", "p90", "p99", "packets", "unknown"]
        for (title, rows) in [
            ("through a namespace", transits.map { ($0.netns, "→ \($0.next)", $0.figures) }),
            ("between chains", hops.map { ($0.netns, "\($0.from) → \($0.to)", $0.figures) }),
        ] where !rows.isEmpty {
            lines += ["", style.bold("\(title)")]
            lines += Phrase.columns([head] + rows.map { [$0, $1] + $2.cells })
        }
        let unknown = transits.map(\.figures) + hops.map(\.figures)
        if lines.count == 1 { lines.append("No journey that is kept has two steps.") }
        if unknown.contains(where: { $0.unknown > 0 }) {
            lines += [
                "",
                "unknown: the kernel stamps no packet at OUTPUT and POSTROUTING, and one stamp for all hooks of a namespace is "
                    + "no time between them.",
            ]
        }
        return lines.joined(separator: "\n")
    }
}

extension LatencyReport.Figures {
    fileprivate init(_ sample: Sample) {
        let times = sample.times.sorted()
        /// The nearest rank: the least time that at least `share` percent did not exceed.
        func quantile(_ share: Int) -> Int64? { times.isEmpty ? nil : times[(times.count * share + 99) / 100 - 1] }
        self.init(
            measured: UInt64(times.count), unknown: sample.unknown, p50Us: quantile(50), p90Us: quantile(90),
            p99Us: quantile(99))
    }

    fileprivate var cells: [String] {
        [p50Us, p90Us, p99Us].map { $0.map { "\($0) µs" } ?? "?" } + ["\(measured)", "\(unknown)"]
    }
}

/// Times of one kind, in microseconds.
private struct Sample {
    var times: [Int64] = []
    var unknown: UInt64 = 0

    /// Adds a packet by its two stamps; `nil` for one that the kernel did not give.
    mutating func add(from first: Int64?, to second: Int64?) {
        if let first, let second, second > first { times.append(second - first) } else { unknown += 1 }
    }
}

extension TraceSnapshot {
    private struct Place: Hashable {
        var netns: String
        var from: String
        var to: String

        var order: [String] { [netns, from, to] }
    }

    /// - Parameter filter: of which the limit is the most rows of each list.
    func latencyReport(_ filter: TraceFilter) -> LatencyReport {
        var all = filter
        all.limit = .max
        var transits: [Place: Sample] = [:]
        var hops: [Place: Sample] = [:]
        for record in chosenJourneys(all).entries {
            var previous: (netns: String, arrival: Int64?)?
            for (leg, details) in zip(record.journey.legs, record.details) {
                let steps = stepTrie.steps(of: leg.stepPath).map { layout.probes[Int($0.probe)] }
                // Without the first events it is not known which details belong to which step.
                guard let first = steps.first, details.count == steps.count else {
                    previous = nil
                    continue
                }
                let netns = layout.namespaces[first.namespace].name
                let stamps = details.map { $0.isStamped ? $0.time : nil }
                let arrival = first.hook == .prerouting ? stamps.first ?? nil : nil
                if let previous {
                    transits[Place(netns: previous.netns, from: "", to: netns), default: Sample()].add(
                        from: previous.arrival, to: arrival)
                }
                previous = (netns, arrival)
                for index in steps.indices.dropFirst() {
                    let place = Place(netns: netns, from: steps[index - 1].place, to: steps[index].place)
                    hops[place, default: Sample()].add(from: stamps[index - 1], to: stamps[index])
                }
            }
        }
        func sorted(_ samples: [Place: Sample]) -> [(place: Place, figures: LatencyReport.Figures)] {
            let rows = samples.map { (place: $0, figures: LatencyReport.Figures($1)) }.sorted { one, other in
                let packets = (one.figures.measured + one.figures.unknown, other.figures.measured + other.figures.unknown)
                return packets.0 != packets.1
                    ? packets.0 > packets.1 : one.place.order.lexicographicallyPrecedes(other.place.order)
            }
            return Array(rows.prefix(max(0, filter.limit)))
        }
        return LatencyReport(
            generatedAt: Timestamp.text(generatedAt), completeness: completeness,
            transits: sorted(transits).map {
                LatencyReport.Transit(netns: $0.place.netns, next: $0.place.to, figures: $0.figures)
            },
            hops: sorted(hops).map {
                LatencyReport.Hop(netns: $0.place.netns, from: $0.place.from, to: $0.place.to, figures: $0.figures)
            })
    }
}

extension Probe {
    fileprivate var place: String { "\(table.name)/\(chain)" }
}
