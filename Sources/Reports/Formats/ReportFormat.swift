/// A form in which reports are printed. A new one is a file and a line in `ReportFormat.all`.
public struct ReportFormat: Sendable, Hashable {
    public let name: String
    /// Whether it is made of all reports of a snapshot, and not of one: `text(of:_:)` has nothing then.
    public let holdsAllReports: Bool
    /// `nil` for a report that has no such form.
    private let render: @Sendable (any Report, Style) throws -> TerminalText?
    private let offers: @Sendable (any Report.Type) -> Bool

    init(
        _ name: String, holdsAllReports: Bool = false,
        offeredBy offers: @escaping @Sendable (any Report.Type) -> Bool = { _ in true },
        _ render: @escaping @Sendable (any Report, Style) throws -> TerminalText?
    ) {
        self.name = name
        self.holdsAllReports = holdsAllReports
        self.render = render
        self.offers = offers
    }

    public static let all: [ReportFormat] = [text, markdown, json, mermaid, dot, svg, html]

    public static func == (one: ReportFormat, other: ReportFormat) -> Bool { one.name == other.name }

    public func hash(into hasher: inout Hasher) { hasher.combine(name) }

    public func isOffered(by report: any Report.Type) -> Bool { offers(report) }

    /// - Throws: `FormatProblem` for a report that has no such form.
    public func text(of report: some Report, _ style: Style) throws -> TerminalText {
        guard let text = try render(report, style) else { throw FormatProblem(type(of: report), self) }
        return text
    }
}

/// A report was asked for in a form that it does not have.
public struct FormatProblem: Error, CustomStringConvertible {
    public let description: String

    public init(_ report: any Report.Type, _ format: ReportFormat) {
        let offered = ReportFormat.all.filter { $0.isOffered(by: report) }.map(\.name).joined(separator: ", ")
        description = "report \(report.name) has no form \(format.name); it is printed as \(offered)"
    }
}
