public import Aggregation
internal import TraceModel

/// `/findings`: faults found from journeys, rules and settings together.
public struct FindingsReport: Codable, Sendable, Equatable {
    public var schema = 1
    public var generatedAt: String
    public var completeness: Completeness
    /// Packets dropped, whether or not a finding explains them; absent in the answers of earlier versions.
    public var dropped: UInt64?
    public var findings: [Finding]
}

public struct Finding: Codable, Sendable, Equatable {
    public enum Severity: String, Codable, Sendable, Comparable {
        /// Worth knowing.
        case notice
        /// Packets are lost, or will be under conditions that are easily met.
        case warning
        /// Packets are lost, and it is known why.
        case problem

        public static func < (one: Severity, other: Severity) -> Bool { one.rank < other.rank }
        private var rank: Int { self == .notice ? 0 : self == .warning ? 1 : 2 }
    }

    /// The same for every finding of this sort: `forwarding-disabled`.
    public var kind: String
    public var severity: Severity
    public var title: String
    public var netns: String
    /// Why it is so, in sentences.
    public var reason: String
    /// Packets that show it.
    public var packets: UInt64
    /// Ids of journeys that show it; the first ones, at most ten.
    public var journeys: [String]
    /// What mends it; empty where nothing is certain to, or where it is a matter of choice.
    public var cures: [Cure]

    /// - Parameter remedy: the command of the only cure; `nil` for none.
    init(
        kind: String, severity: Severity, title: String, netns: String, reason: String, packets: UInt64, journeys: [String],
        remedy: String?
    ) {
        self.kind = kind
        self.severity = severity
        self.title = title
        self.netns = netns
        self.reason = reason
        self.packets = packets
        self.journeys = journeys
        cures = remedy.map { [Cure(netns: netns, command: $0, reason: title)] } ?? []
    }
}

/// A command that mends what a finding tells.
public struct Cure: Codable, Sendable, Equatable {
    /// The namespace that it changes.
    public var netns: String
    /// As a shell takes it, in the namespace of ipt-trace itself.
    public var command: String
    /// The fault that it mends.
    public var reason: String
}

extension TraceSnapshot {
    public func findingsReport() -> FindingsReport {
        var all = PathFilter()
        all.limit = .max
        let input = DiagnosisInput(layout: layout, paths: pathsReport(all).paths, flows: flowsReport(limit: 1000).flows)
        let found = DiagnosisInput.rules.flatMap { $0(input) }
        return FindingsReport(
            generatedAt: Timestamp.text(generatedAt), completeness: completeness,
            dropped: input.paths.reduce(0) { $0 + ($1.outcome == Outcome.dropped.name ? $1.packets : 0) },
            findings: found.sorted {
                ($1.severity, $1.packets, $0.kind, $0.netns) < ($0.severity, $0.packets, $1.kind, $1.netns)
            })
    }
}

/// What the rules look at.
struct DiagnosisInput {
    var layout: Layout
    var paths: [PathReport]
    var flows: [FlowReport]

    func facts(_ netns: String) -> NamespaceFacts? { layout.namespaces.first { $0.name == netns }?.facts }

    /// Namespaces of which rules or settings are known, each once.
    var known: [(netns: String, facts: NamespaceFacts)] {
        var seen: Set<String> = []
        return layout.namespaces.compactMap { namespace in
            guard let facts = namespace.facts, seen.insert(namespace.name).inserted else { return nil }
            return (namespace.name, facts)
        }
    }

    /// One finding out of the paths that show it; `nil` for none.
    func finding(
        _ kind: String, _ severity: Finding.Severity, _ title: String, in netns: String, _ shown: [PathReport],
        because reason: String, remedy: String?
    ) -> Finding? {
        guard !shown.isEmpty else { return nil }
        return Finding(
            kind: kind, severity: severity, title: title, netns: netns, reason: reason,
            packets: shown.reduce(0) { $0 + $1.packets }, journeys: shown.prefix(10).map(\.example.journey), remedy: remedy)
    }
}
