public import Aggregation

/// An answer to one question about a snapshot. A new one is a file and a line in `ReportTable.all`: it is then the route `/NAME`,
/// the command `ipt-trace report NAME`, and a value of `analyze --report`.
public protocol Report: Codable, Sendable {
    static var name: String { get }
    /// For `--help`, as an imperative.
    static var summary: String { get }
    /// The filters that it takes.
    static var filters: [TraceFilter.Field] { get }
    /// Whether it is a list of which pages can be asked for.
    static var isPaged: Bool { get }
    /// Where its next page begins; `nil` where there is none.
    var nextCursor: String? { get }
    /// Whether `analyze` prints it where no report is named.
    static var isInOverview: Bool { get }

    /// The parts of a snapshot beside paths that it is made from.
    static func scope(_ filter: TraceFilter) -> TraceSnapshot.Scope
    init(_ snapshot: TraceSnapshot, _ filter: TraceFilter)

    /// For a terminal.
    func text(_ style: Style) -> TerminalText
    /// In one line.
    func json() throws -> [UInt8]
}

extension Report {
    public static var filters: [TraceFilter.Field] { TraceFilter.Field.allCases }
    public static var isInOverview: Bool { true }
    public static var isPaged: Bool { false }
    public var nextCursor: String? { nil }
    public static func scope(_ filter: TraceFilter) -> TraceSnapshot.Scope { [] }
    public func json() throws -> [UInt8] { Array(try ReportJSON.encode(self)) }
}

/// All reports, in the order in which help and `analyze` show them.
public enum ReportTable {
    public static let all: [any Report.Type] = [
        PathsReport.self, FlowsReport.self, DropsReport.self, RulesReport.self, FindingsReport.self, PrecedenceReport.self,
        LatencyReport.self, JourneysReport.self, NamespacesReport.self,
    ]

    public static func report(named name: String) -> (any Report.Type)? { all.first { $0.name == name } }
}
