public import Aggregation
internal import TraceModel

/// `/drops`: where packets vanished, most packets first.
public struct DropsReport: Codable, Sendable, Equatable {
    public struct Drop: Codable, Sendable, Equatable, PathGroup {
        public var netns: String
        public var family: String
        public var droppedBetween: PathReport.Ending
        public var decidedBy: DecidedBy?
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
    public var drops: [Drop]
}

extension DropsReport: MarkdownReport {
    public static let name = "drops"
    public static let isPaged = true
    public static let summary = "Print where packets were dropped, between which two probes."

    public init(_ snapshot: TraceSnapshot, _ filter: TraceFilter) { self = snapshot.dropsReport(filter) }
}

extension TraceSnapshot {
    public func dropsReport(_ filter: TraceFilter = TraceFilter()) -> DropsReport {
        let chosen = pathsByPackets { paths[$0].outcome == .dropped && admits(path: $0, filter) }
        var drops: [DropsReport.Drop] = []
        // Most packets first, so that the first path of a place is its example.
        for path in chosen.map(describePath) {
            guard let ending = path.droppedBetween else { continue }
            guard
                let index = drops.firstIndex(where: {
                    $0.isDecided(by: path.decidedBy) && $0.droppedBetween.isSamePlace(as: ending)
                })
            else {
                drops.append(
                    DropsReport.Drop(
                        netns: ending.after.netns, family: ending.after.family, droppedBetween: ending,
                        decidedBy: path.decidedBy, packets: path.packets,
                        bytes: path.bytes, firstSeen: path.firstSeen, lastSeen: path.lastSeen, protocols: path.protocols,
                        paths: [path.id], example: path.example))
                drops[drops.count - 1].noteInferred(path)
                continue
            }
            for cause in ending.causes where !drops[index].droppedBetween.causes.contains(cause) {
                drops[index].droppedBetween.causes.append(cause)
            }
            drops[index].add(path)
            if path.decidedBy?.evidence == "trace" { drops[index].decidedBy?.evidence = "trace" }
        }
        let (page, next) = filter.page(of: drops.byPackets)
        return DropsReport(
            generatedAt: Timestamp.text(generatedAt), completeness: completeness, nextCursor: next,
            drops: page.map(\.element))
    }
}

extension DropsReport.Drop {
    fileprivate func isDecided(by other: DecidedBy?) -> Bool {
        guard let decidedBy, let other else { return decidedBy == other }
        return decidedBy.isSame(as: other)
    }
}

extension PathReport.Ending {
    /// Whether both name the same chains, whatever interfaces the packets came by.
    fileprivate func isSamePlace(as other: PathReport.Ending) -> Bool {
        func key(_ step: StepReport) -> [String] { [step.netns, step.family, step.table, step.chain, step.hook] }
        return key(after) == key(other.after) && before.map(key) == other.before.map(key)
    }
}
