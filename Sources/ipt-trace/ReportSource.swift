import Aggregation
import ArgumentParser
import Foundation
import Reports
import TraceModel

enum ReportFormat: String, ExpressibleByArgument, CaseIterable {
    case text, markdown, json, mermaid
}

/// Where reports come from.
enum ReportSource {
    case collector(CollectorClient)
    case snapshot(TraceSnapshot)

    func paths(_ filter: PathFilter) async throws -> PathsReport {
        switch self {
        case .snapshot(let snapshot): snapshot.pathsReport(filter)
        case .collector(let client): try await client.report(PathsReport.self, "/paths", Self.query(filter))
        }
    }

    func precedence() async throws -> PrecedenceReport {
        switch self {
        case .snapshot(let snapshot): snapshot.precedenceReport()
        case .collector(let client): try await client.report(PrecedenceReport.self, "/precedence")
        }
    }

    func flows(limit: Int) async throws -> FlowsReport {
        switch self {
        case .snapshot(let snapshot): snapshot.flowsReport(limit: limit)
        case .collector(let client):
            try await client.report(FlowsReport.self, "/flows", [URLQueryItem(name: "limit", value: String(limit))])
        }
    }

    func drops(limit: Int) async throws -> DropsReport {
        switch self {
        case .snapshot(let snapshot): snapshot.dropsReport(limit: limit)
        case .collector(let client):
            try await client.report(DropsReport.self, "/drops", [URLQueryItem(name: "limit", value: String(limit))])
        }
    }

    func findings() async throws -> FindingsReport {
        switch self {
        case .snapshot(let snapshot): snapshot.findingsReport()
        case .collector(let client): try await client.report(FindingsReport.self, "/findings")
        }
    }

    private static func query(_ filter: PathFilter) -> [URLQueryItem] {
        [
            ("limit", String(filter.limit)), ("netns", filter.netns), ("proto", filter.transport.map { String($0) }),
            ("outcome", filter.outcome?.name), ("address", filter.address), ("port", filter.port.map { String($0) }),
        ].compactMap { name, value in value.map { URLQueryItem(name: name, value: $0) } }
    }
}

/// The reports that are printed.
enum ReportKind: String, ExpressibleByArgument, CaseIterable {
    case paths, flows, drops, findings, precedence

    /// Prints one report.
    func print(_ options: ReportOptions, _ filter: PathFilter = PathFilter()) async throws {
        guard formats.contains(options.format) else { throw formatFailure(options.format) }
        Terminal.print(
            try await text(from: try await options.source(), filter, options.format, Style(isColored: options.color.isOn)))
    }

    var formats: [ReportFormat] {
        switch self {
        case .paths, .precedence: ReportFormat.allCases
        case .drops, .findings: [.text, .markdown, .json]
        case .flows: [.text, .json]
        }
    }

    func formatFailure(_ format: ReportFormat) -> CommandFailure {
        CommandFailure(
            message: "\(rawValue) are printed as \(formats.map(\.rawValue).joined(separator: ", "))", code: ExitStatus.usage)
    }

    func text(from source: ReportSource, _ filter: PathFilter, _ format: ReportFormat, _ style: Style) async throws
        -> TerminalText
    {
        switch self {
        case .paths:
            let report = try await source.paths(filter)
            switch format {
            case .text: return report.text(style)
            case .markdown: return TerminalText(report.markdown)
            case .mermaid: return TerminalText(report.mermaid)
            case .json: return try Self.json(report)
            }
        case .precedence:
            let report = try await source.precedence()
            switch format {
            case .text: return report.text(style)
            case .markdown: return TerminalText(report.markdown)
            case .mermaid: return TerminalText(report.mermaid)
            case .json: return try Self.json(report)
            }
        case .flows:
            let report = try await source.flows(limit: filter.limit)
            switch format {
            case .text: return report.text(style)
            case .json: return try Self.json(report)
            case .markdown, .mermaid: throw formatFailure(format)
            }
        case .findings:
            let report = try await source.findings()
            switch format {
            case .text: return report.text(style)
            case .markdown: return TerminalText(report.markdown)
            case .json: return try Self.json(report)
            case .mermaid: throw formatFailure(format)
            }
        case .drops:
            let report = try await source.drops(limit: filter.limit)
            switch format {
            case .text: return report.text(style)
            case .markdown: return TerminalText(report.markdown)
            case .json: return try Self.json(report)
            case .mermaid: throw formatFailure(format)
            }
        }
    }

    static func json(_ report: some Encodable) throws -> TerminalText {
        try ReportJSON.text(report, isPretty: true)
    }
}
