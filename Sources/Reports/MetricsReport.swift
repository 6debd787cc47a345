public import Aggregation
internal import TraceModel

extension TraceSnapshot {
    /// `/metrics`: counters and gauges in Prometheus' text format, version 0.0.4.
    ///
    /// Labels are bounded: outcomes, namespaces, the places where packets were dropped, and why a recording left events out.
    ///
    /// - Parameters:
    ///   - recording: `nil` where nothing is recorded.
    ///   - version: the program's.
    public func metrics(recording: RecordingStatus? = nil, version: String = "") -> String {
        var text = MetricsText()
        text.family("ipt_trace_build_info", .gauge, "1, with the version of the program.")
        text.sample("ipt_trace_build_info", 1, [("version", MetricsLine(escaping: version))])
        text.family("ipt_trace_start_time_seconds", .gauge, "When the collection began, in seconds since 1970.")
        text.sample("ipt_trace_start_time_seconds", Double(since) / 1_000_000)
        let counters: [(String, String, UInt64)] = [
            ("events_total", "Events received.", completeness.events),
            ("events_lost_total", "Events that the kernel counted and nobody received.", completeness.lost),
            ("events_unplaced_total", "Events whose prefix no rule explains.", completeness.unplaced),
            ("receive_overflows_total", "Deliveries dropped because a receive buffer was full.", completeness.overflows),
            (
                "events_thinned_total", "Events of flows that were not followed, because more came than could be.",
                completeness.thinned ?? 0
            ),
            ("messages_malformed_total", "Messages and packets that could not be parsed.", completeness.malformed),
            ("journeys_ambiguous_total", "Journeys that another packet's events may be part of.", completeness.ambiguous),
            (
                "copies_unwanted_total", "Copies of multicast packets that nobody had asked for where they arrived.",
                completeness.unwanted ?? 0
            ),
            ("journeys_evicted_total", "Journeys closed early to bound memory.", completeness.evicted),
            ("journeys_own_total", "Journeys to or from the collector's own endpoint.", completeness.own),
        ]
        for (name, help, value) in counters {
            text.family("ipt_trace_\(name)", .counter, help)
            text.sample("ipt_trace_\(name)", value)
        }
        text.family("ipt_trace_followed_one_in", .gauge, "Of this many flows one is followed; 1 while all can be.")
        text.sample("ipt_trace_followed_one_in", completeness.followedOneIn ?? 1)
        text.family("ipt_trace_behind_seconds", .gauge, "How far receiving lags; 0 below 100 ms.")
        text.sample("ipt_trace_behind_seconds", Double(completeness.behindUs ?? 0) / 1_000_000)
        text.family("ipt_trace_namespaces_left_out", .gauge, "Namespaces that should be followed and are not.")
        text.sample("ipt_trace_namespaces_left_out", completeness.namespacesLeftOut ?? 0)
        text.family("ipt_trace_namespaces_unread", .gauge, "Namespaces whose rules or interfaces cannot be read.")
        text.sample("ipt_trace_namespaces_unread", completeness.namespacesUnread ?? 0)
        var outcomes: [String: UInt64] = [:]
        for outcome in Outcome.allCases where outcome != .open { outcomes[outcome.name] = 0 }
        var packets = [UInt64](repeating: 0, count: Outcome.allCases.count)
        // Records are large: they are not copied to be counted.
        for index in paths.indices { packets[Int(paths[index].outcome.rawValue)] += paths.counts(index).packets }
        for outcome in Outcome.allCases where packets[Int(outcome.rawValue)] > 0 {
            outcomes[outcome.name, default: 0] += packets[Int(outcome.rawValue)]
        }
        text.family("ipt_trace_journeys_total", .counter, "Journeys that have ended, by outcome.")
        for (outcome, count) in outcomes.sorted(by: { $0.key < $1.key }) {
            text.sample("ipt_trace_journeys_total", count, [("outcome", "\(outcome)")])
        }
        text.add(DropMetrics(self))
        text.family("ipt_trace_journeys_open", .gauge, "Journeys under way.")
        text.sample("ipt_trace_journeys_open", completeness.open)
        text.family("ipt_trace_paths", .gauge, "Distinct paths.")
        text.sample("ipt_trace_paths", paths.count)
        text.family("ipt_trace_flows", .gauge, "Connections that are remembered.")
        text.sample("ipt_trace_flows", flowCount)
        text.family("ipt_trace_probes", .gauge, "Probes in force, by namespace.")
        // Several namespaces may have one label, one after the other, or since their names are escaped alike; a series is listed once.
        var probes: [MetricsLine: Int] = [:]
        for (index, namespace) in layout.namespaces.enumerated() where !namespace.isGone {
            probes[MetricsLine(escaping: namespace.name), default: 0] += layout.probes.indices.count {
                layout.probes[$0].namespace == index && layout.isInForce[$0]
            }
        }
        for (netns, count) in probes.sorted(by: { $0.key.description < $1.key.description }) {
            text.sample("ipt_trace_probes", count, [("netns", netns)])
        }
        addTransitTimes(to: &text)
        if let recording { text.add(recording) }
        return text.text
    }
}

extension TraceSnapshot {
    /// Namespaces that have histograms of their own; a namespace has 45 series.
    private static let mostTimedNamespaces = 64

    /// Histograms of the namespaces with most packets measured; those of the rest are added up without a name.
    private func addTransitTimes(to text: inout MetricsText) {
        var histograms: [MetricsLine: [TransitTimes.End: TransitTimes.Histogram]] = [:]
        for (index, namespace) in layout.namespaces.enumerated() where !namespace.isGone {
            for end in TransitTimes.End.allCases {
                guard let histogram = transitTimes[index, end] else { continue }
                histograms[MetricsLine(escaping: namespace.name), default: [:]].add(histogram, end)
            }
        }
        let byPackets = histograms.sorted { one, other in
            (other.value.packets, one.key.description) < (one.value.packets, other.key.description)
        }
        let name = "ipt_trace_transit_seconds"
        text.family(
            name, .histogram,
            "Time from a packet's arrival in a namespace to its last chain in INPUT or FORWARD, or to the next namespace; of a sample."
        )
        for (netns, ends) in byPackets.prefix(Self.mostTimedNamespaces) {
            for end in TransitTimes.End.allCases {
                if let histogram = ends[end] { text.add(histogram, name, [("netns", netns), ("until", "\(end.name)")]) }
            }
        }
        text.family(
            "ipt_trace_transits_unlisted_total", .counter, "Measured packets of namespaces beyond those that have histograms.")
        text.sample(
            "ipt_trace_transits_unlisted_total",
            byPackets.dropFirst(Self.mostTimedNamespaces).reduce(0) { $0 + $1.value.packets })
    }
}

extension [TransitTimes.End: TransitTimes.Histogram] {
    fileprivate mutating func add(_ histogram: TransitTimes.Histogram, _ end: TransitTimes.End) {
        if self[end]?.add(histogram) == nil { self[end] = histogram }
    }

    fileprivate var packets: UInt64 { values.reduce(0) { $0 + $1.count } }
}

/// Writes Prometheus' text format.
private struct MetricsText {
    enum Kind: String {
        case counter, gauge, histogram
    }

    var text = ""

    mutating func family(_ name: String, _ kind: Kind, _ help: String) {
        text += "# HELP \(name) \(help)\n# TYPE \(name) \(kind.rawValue)\n"
    }

    mutating func sample(_ name: String, _ value: some CustomStringConvertible, _ labels: [(String, MetricsLine)] = []) {
        let list = labels.map { label, value -> MetricsLine in "\(label)=\"\(value)\"" }.joined(separator: ",")
        text += "\(name)\(labels.isEmpty ? "" : "{\(list)}") \(value)\n"
    }

    mutating func add(_ histogram: TransitTimes.Histogram, _ name: String, _ labels: [(String, MetricsLine)]) {
        var packets: UInt64 = 0
        for (count, bound) in zip(histogram.counts, TransitTimes.bounds) {
            packets += count
            sample("\(name)_bucket", packets, labels + [("le", "\(Double(bound) / 1_000_000)")])
        }
        sample("\(name)_bucket", histogram.count, labels + [("le", "+Inf")])
        sample("\(name)_sum", Double(histogram.sum) / 1_000_000, labels)
        sample("\(name)_count", histogram.count, labels)
    }

    mutating func add(_ drops: DropMetrics) {
        family("ipt_trace_drops_total", .counter, "Packets that were dropped, by the last place that saw them.")
        let places = drops.places.sorted {
            $0.key.map(\.description).lexicographicallyPrecedes($1.key.map(\.description))
        }
        for (place, count) in places {
            sample("ipt_trace_drops_total", count, Array(zip(["netns", "family", "table", "chain"], place)))
        }
        family("ipt_trace_drops_unlisted_total", .counter, "Packets that were dropped in more places than have series.")
        sample("ipt_trace_drops_unlisted_total", drops.unlisted)
        family(
            "ipt_trace_decided_drops_total", .counter,
            "Packets that were dropped, by what decided it (rule, policy, kernel, unnamed) and the program that wrote the rule."
        )
        for (key, count) in drops.decisions.sorted(by: { $0.key.lexicographicallyPrecedes($1.key) }) {
            sample("ipt_trace_decided_drops_total", count, Array(zip(["kind", "owner"], key.map(MetricsLine.init(escaping:)))))
        }
        family(
            "ipt_trace_kernel_drops_total", .counter,
            "Packets that the kernel dropped outside all tables, by the reason that it gave for them.")
        for (reason, count) in drops.reasons.sorted(by: { $0.key < $1.key }) {
            sample("ipt_trace_kernel_drops_total", count, [("reason", MetricsLine(escaping: reason))])
        }
    }

    mutating func add(_ recording: RecordingStatus) {
        family("ipt_trace_recorded_events_total", .counter, "Events written into the recording's files.")
        sample("ipt_trace_recorded_events_total", recording.events)
        family("ipt_trace_recorded_bytes_total", .counter, "Bytes of the recording's files.")
        sample("ipt_trace_recorded_bytes_total", recording.bytes)
        family("ipt_trace_recording_left_out_total", .counter, "Events that are in no file of the recording, by reason.")
        for (reason, events) in recording.leftOut {
            sample("ipt_trace_recording_left_out_total", events, [("reason", MetricsLine(escaping: reason))])
        }
        family(
            "ipt_trace_recording_state", .gauge, "1 for the recorder's state: suspended until there is room again, or ended.")
        for state in recording.states {
            sample("ipt_trace_recording_state", state == recording.state ? 1 : 0, [("state", MetricsLine(escaping: state))])
        }
    }
}
