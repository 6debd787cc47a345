public import Aggregation
internal import TraceModel

/// `/rules`: the rules and policies that dropped packets, as far as the kernel's own traces name them, most packets first.
public struct RulesReport: Codable, Sendable, Equatable {
    public struct Rule: Codable, Sendable, Equatable, PathGroup {
        public var decidedBy: DecidedBy
        public var packets: UInt64
        public var bytes: UInt64
        public var firstSeen: String
        public var lastSeen: String
        public var protocols: [String: UInt64]
        /// Ids of the paths that end there.
        public var paths: [String]
        /// For how many of the packets the rule is inferred; absent for none.
        public var inferred: UInt64?
        /// Example packet of the path that most of the packets took.
        public var example: PathReport.Example
    }

    public var schema = 1
    public var generatedAt: String
    public var completeness: Completeness
    /// Where the next page begins; absent where there is none.
    public var nextCursor: String?
    /// Dropped packets of which no trace has named the rule; they are in no entry.
    public var unnamed: UInt64
    public var rules: [Rule]
}

extension RulesReport: MarkdownReport {
    public static let name = "rules"
    public static let isPaged = true
    public static let summary = "Print the rules and policies that dropped packets, with counts."
    public static let isInOverview = false

    public init(_ snapshot: TraceSnapshot, _ filter: TraceFilter) { self = snapshot.rulesReport(filter) }
}

extension TraceSnapshot {
    public func rulesReport(_ filter: TraceFilter = TraceFilter()) -> RulesReport {
        let chosen = pathsByPackets { paths[$0].outcome == .dropped && admits(path: $0, filter) }
        var unnamed: UInt64 = 0
        var rules: [RulesReport.Rule] = []
        for path in chosen.map(describePath) {
            guard let decidedBy = path.decidedBy, decidedBy.isRule else {
                // No rule did what the kernel or its connection tracking has done.
                if path.decidedBy?.kind == "unknown" { unnamed += path.packets }
                continue
            }
            guard let index = rules.firstIndex(where: { $0.decidedBy.isSame(as: decidedBy) }) else {
                rules.append(
                    RulesReport.Rule(
                        decidedBy: decidedBy, packets: path.packets, bytes: path.bytes, firstSeen: path.firstSeen,
                        lastSeen: path.lastSeen, protocols: path.protocols, paths: [path.id], example: path.example))
                rules[rules.count - 1].noteInferred(path)
                continue
            }
            rules[index].add(path)
            if path.decidedBy?.evidence == "trace" { rules[index].decidedBy.evidence = "trace" }
        }
        let (page, next) = filter.page(of: rules.byPackets)
        return RulesReport(
            generatedAt: Timestamp.text(generatedAt), completeness: completeness, nextCursor: next, unnamed: unnamed,
            rules: page.map(\.element))
    }
}
