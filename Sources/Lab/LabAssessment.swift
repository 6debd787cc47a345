public import Aggregation
public import Reports

/// Comparison of a network's traffic with the result expected of it.
public struct LabAssessment: Encodable, Sendable {
    public struct Check: Codable, Sendable {
        public var what: String
        public var holds: Bool
    }

    public var schema = 1
    public var network: String
    public var asExpected: Bool
    public var checks: [Check]
    public var paths: PathsReport
    public var findings: [FindingReport]

    /// - Parameters:
    ///   - traffic: by command, whether it ended as it should; none of a recording.
    public init(
        _ network: LabNetwork, _ reports: LabReports, traffic: [(command: String, isAsExpected: Bool)] = []
    ) {
        paths = reports.paths
        findings = reports.findings.findings
        self.network = network.name
        let journeys = reports.journeys.journeys
        checks = traffic.map { Check(what: "\($0.command) ends as it should", holds: $0.isAsExpected) }
        checks += network.expected.map { expected in
            Check(what: expected.claim, holds: journeys.contains { expected.isMet(by: $0) })
        }
        // Packets that a firewall drops on purpose are no fault.
        let kinds = Set(findings.map(\.kind)).subtracting(["packets-dropped"])
        let counted = traffic.isEmpty ? [] : network.expected.compactMap { $0.counted?.finding }
        let expectedKinds = network.findings.union(counted)
        // What is known only where the kernel may be asked.
        let possible = Set(network.expected.compactMap(\.told))
        let wanted = expectedKinds.sorted().joined(separator: ", ")
        checks.append(
            Check(
                what: "findings besides drops: \(wanted.isEmpty ? "none" : wanted)",
                holds: kinds.subtracting(possible) == expectedKinds))
        if let shares = network.shares {
            let seen = Self.connections(reports.flows.flows)
            let text = seen.sorted { $0.key < $1.key }.map { "\($0.key) \($0.value)" }.joined(separator: ", ")
            checks.append(Check(what: "connections by server: \(text)", holds: shares.isMet(by: seen)))
        }
        let mayBeIncomplete = network.expected.contains { $0.outcome == "incomplete" }
        if !mayBeIncomplete {
            checks.append(Check(what: "no journey is incomplete", holds: paths.completeness.incomplete == 0))
        }
        checks.append(Check(what: "no event is lost", holds: paths.completeness.lost == 0))
        checks.append(Check(what: "no path is in doubt", holds: paths.completeness.ambiguous == 0))
        asExpected = checks.allSatisfy(\.holds)
    }

    /// How many connections each address got that DNAT gave.
    private static func connections(_ flows: [FlowReport]) -> [String: Int] {
        var counts: [String: Int] = [:]
        for flow in flows {
            for translation in flow.translations where translation.kind == "dnat" { counts[translation.to, default: 0] += 1 }
        }
        return counts
    }

    public var text: TerminalText {
        checks.map { check -> TerminalText in
            "\(check.holds ? "as expected" : "NOT AS EXPECTED"): \(check.what)"
        }.joined(separator: "\n")
    }
}

/// Reports on a network's traffic.
public struct LabReports: Sendable {
    public var paths: PathsReport
    public var journeys: JourneysReport
    public var flows: FlowsReport
    public var findings: FindingsReport

    public init(paths: PathsReport, journeys: JourneysReport, flows: FlowsReport, findings: FindingsReport) {
        self.paths = paths
        self.journeys = journeys
        self.flows = flows
        self.findings = findings
    }

    /// Assesses a recording.
    public init(_ snapshot: TraceSnapshot) {
        let paths = snapshot.pathsReport()
        var journeys = snapshot.journeysReport(TraceFilter(limit: 1024))
        journeys.journeys += paths.examples(besides: journeys.journeys).compactMap { snapshot.journeyReport(id: $0) }
        self.init(
            paths: paths, journeys: journeys,
            flows: snapshot.flowsReport(TraceFilter(limit: 1000)), findings: snapshot.findingsReport())
    }
}

extension PathsReport {
    /// Ids of the paths' example journeys, without those that are known.
    func examples(besides known: [JourneyReport]) -> [String] {
        let known = Set(known.map(\.id))
        return paths.map(\.example.journey).filter { !known.contains($0) }
    }
}

extension Expectation {
    /// In words.
    var claim: String {
        "\(transport) \(source) → \(destination) \(outcome)" + (lastSeen.map { " behind \($0)" } ?? "")
            + (translations.isEmpty ? "" : " (\(translations.joined(separator: ", ")))")
            + (suspects.map { ", lost in \($0.joined(separator: " or "))" } ?? "")
            + (causes.isEmpty ? "" : " (\(causes.joined(separator: ", ")))")
            + (chains.isEmpty ? "" : " by way of \(chains.joined(separator: ", "))")
            + (carrier.map { ", carried by \($0)" } ?? "") + (through.map { " through \($0)" } ?? "")
            + (reason.map { ", because of \($0)" } ?? "")
    }

    /// Whether a journey is one that must have been made.
    func isMet(by journey: JourneyReport) -> Bool {
        func end(_ address: String, _ port: Int?, _ wanted: String) -> Bool {
            wanted == address || wanted == port.map { address.contains(":") ? "[\(address)]:\($0)" : "\(address):\($0)" }
        }
        let kinds = journey.translations.flatMap { translation in
            let kind = "\(translation.kind) in \(translation.netns)"
            return [kind, "\(kind) to \(translation.to)"]
        }
        let last = journey.droppedBetween.map { "\($0.after.table)/\($0.after.chain) in \($0.after.netns)" }
        return journey.protocol == transport && end(journey.source, journey.sourcePort, source)
            && end(journey.destination, journey.destinationPort, destination)
            && (journey.outcome == outcome || outcome == "delivered" && journey.hasFoundNoSocket)
            && (lastSeen == nil || lastSeen == last) && translations.allSatisfy(kinds.contains)
            && (suspects == nil || suspects == journey.droppedBetween?.suspects && causes == journey.droppedBetween?.causes
                || counted != nil && journey.droppedBetween?.suspects == ["routing"]
                    && journey.droppedBetween?.causes == counted.map { [$0.cause] }
                    && ["counter", "drop_reason"].contains(journey.droppedBetween?.evidence)
                || counted == nil && suspects?.contains("routing") == true
                    && journey.droppedBetween?.evidence == "drop_reason")
            && (carrier == nil
                || carrier == journey.carriedBy.map { "\($0.protocol) \($0.source) → \($0.destination)" }
                    && journey.carriedBy?.journey != nil)
            && chains.allSatisfy { chain in journey.steps.contains { $0.chainText == chain } }
            && (through == nil || through == journey.passed)
            && (reason.map { journey.reason?.contains($0) == true } ?? true)
    }
}

extension JourneyReport {
    /// Whether it came to the sockets and none took it, which is known only where the kernel may be asked.
    fileprivate var hasFoundNoSocket: Bool { decidedBy?.reason == "NO_SOCKET" }

    /// The namespaces that the packet passed, one after the other, each once in a row.
    fileprivate var passed: String {
        steps.map(\.netns).reduce(into: [String]()) { names, name in
            if names.last != name { names.append(name) }
        }.joined(separator: ", ")
    }
}
