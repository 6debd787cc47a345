public import Aggregation
public import Diagnosis
internal import TraceModel

/// `/findings`: faults found from journeys, rules and settings together.
public struct FindingsReport: Codable, Sendable, Equatable {
    public var schema = 1
    public var generatedAt: String
    public var completeness: Completeness
    /// Packets dropped, whether or not a finding explains them; absent in the answers of earlier versions.
    public var dropped: UInt64?
    public var findings: [FindingReport]
}

public struct FindingReport: Codable, Sendable, Equatable {
    /// One name for all findings of a rule: `forwarding-disabled`.
    public var kind: String
    public var severity: Finding.Severity
    public var title: String
    public var netns: String
    /// The explanation, in sentences.
    public var reason: String
    /// Packets that show it.
    public var packets: UInt64
    /// Ids of the first journeys that show it, at most `Finding.journeyLimit`.
    public var journeys: [String]
    /// Ids of the paths that show it; absent in the answers of earlier versions.
    public var paths: [String]?
    /// What dropped the packets, where one rule, policy or reason did and the kernel said so.
    public var decidedBy: DecidedBy?
    /// When the first and the last of the paths' packets were seen; absent where no path shows it.
    public var firstSeen: String?
    public var lastSeen: String?
    /// What mends it; empty where nothing is certain to, or where it is a matter of choice.
    public var cures: [Cure]

    init(_ finding: Finding, of snapshot: TraceSnapshot) {
        kind = finding.kind
        severity = finding.severity
        title = finding.title
        netns = finding.netns
        reason = finding.reason
        packets = finding.packets
        journeys = finding.journeys.map { "\(TraceID(run: snapshot.run, serial: $0))" }
        paths = finding.paths.map(snapshot.pathID)
        let decisions = finding.paths.map { snapshot.describePath($0).decidedBy }
        if let first = decisions.first ?? nil, first.kind != "unknown",
            decisions.allSatisfy({ $0.map(first.isSame) == true })
        {
            decidedBy = first
        }
        firstSeen = finding.paths.map { snapshot.paths.counts($0).firstSeen }.min().map(Timestamp.text)
        lastSeen = finding.paths.map { snapshot.paths.counts($0).lastSeen }.max().map(Timestamp.text)
        cures = finding.cures
    }
}

extension FindingsReport: MarkdownReport {
    public static let name = "findings"
    public static let summary = "Print faults with their reasons and the commands that mend them."
    public static let filters: [TraceFilter.Field] = [.netns]

    public static func scope(_ filter: TraceFilter) -> TraceSnapshot.Scope { .flows }
    public init(_ snapshot: TraceSnapshot, _ filter: TraceFilter) { self = snapshot.findingsReport(filter) }
}

extension TraceSnapshot {
    /// - Parameter filter: of which the namespaces count: those that a finding is about.
    public func findingsReport(_ filter: TraceFilter = TraceFilter()) -> FindingsReport {
        FindingsReport(
            generatedAt: Timestamp.text(generatedAt), completeness: completeness,
            dropped: paths.indices.reduce(0) { $0 + (paths[$1].outcome == .dropped ? paths.counts($1).packets : 0) },
            findings: findings.filter { filter.admits(netns: $0.netns) }.map { FindingReport($0, of: self) })
    }
}
