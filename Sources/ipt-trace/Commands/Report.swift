import ArgumentParser
import Foundation
import FoundationNetworking
import Reports

struct Report: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Prints what a running collector has found out.",
        discussion: """
              ipt-trace report paths
              ipt-trace report precedence --format markdown
              ipt-trace report flows --format json --from http://127.0.0.1:9101
            """,
        subcommands: [PathsCommand.self, PrecedenceCommand.self, FlowsCommand.self])
}

enum ReportFormat: String, ExpressibleByArgument, CaseIterable {
    case text, markdown, json, mermaid
}

struct ReportOptions: ParsableArguments {
    @Option(help: ArgumentHelp("The collector.", valueName: "url"))
    var from = "http://127.0.0.1:9100"

    @Option(help: "text, markdown, json or mermaid.")
    var format: ReportFormat = .text

    @OptionGroup var color: ColorOption

    var style: Style { Style(isColored: color.isOn) }

    func fetch<Value: Decodable>(_ type: Value.Type, _ path: String, _ query: [URLQueryItem] = []) async throws -> Value {
        let data = try await CollectorClient(base: from).get(path, query)
        do {
            return try ReportJSON.decode(type, from: data)
        } catch {
            throw CommandFailure(message: "what \(from) answers is not from a collector of this version")
        }
    }
}

/// Asks a collector over HTTP.
struct CollectorClient {
    var base: String

    func get(_ path: String, _ query: [URLQueryItem] = []) async throws -> Data {
        guard var parts = URLComponents(string: base), parts.scheme == "http" || parts.scheme == "https", parts.host != nil
        else {
            throw CommandFailure(message: "--from takes a URL such as http://127.0.0.1:9100", code: ExitStatus.usage)
        }
        parts.path = path
        if !query.isEmpty { parts.queryItems = query }
        guard let url = parts.url else {
            throw CommandFailure(message: "--from takes a URL such as http://127.0.0.1:9100", code: ExitStatus.usage)
        }
        let configuration = URLSessionConfiguration.ephemeral
        configuration.timeoutIntervalForRequest = 10
        let answer: (data: Data, response: URLResponse)
        do {
            answer = try await URLSession(configuration: configuration).data(from: url)
        } catch {
            throw CommandFailure(
                message: "no collector answers at \(base). Start one with: sudo ipt-trace collect, or name it with --from")
        }
        guard let status = (answer.response as? HTTPURLResponse)?.statusCode, status == 200 else {
            let status = (answer.response as? HTTPURLResponse)?.statusCode ?? 0
            throw CommandFailure(
                message: "\(base)\(path) answers \(status): \(String(decoding: answer.data.prefix(300), as: UTF8.self))")
        }
        return answer.data
    }
}

struct PathsCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "paths", abstract: "Which ways packets took, with their outcome.",
        discussion: """
              ipt-trace report paths --outcome dropped
              ipt-trace report paths --proto icmp --format mermaid
            """)

    @OptionGroup var options: ReportOptions
    @Option(help: "At most this many paths.") var limit = 100
    @Option(help: "Only paths through this namespace.") var netns: String?
    @Option(help: "Only this protocol: tcp, udp, icmp, a number.") var proto: String?
    @Option(help: "Only this outcome: delivered, sent, dropped, incomplete.") var outcome: String?
    @Option(help: "Only paths on which this address occurred.") var address: String?
    @Option(help: "Only paths on which this port occurred.") var port: Int?

    func run() async throws {
        let query = [
            ("limit", String(limit)), ("netns", netns), ("proto", proto), ("outcome", outcome), ("address", address),
            ("port", port.map(String.init)),
        ].compactMap { name, value in value.map { URLQueryItem(name: name, value: $0) } }
        let report = try await options.fetch(PathsReport.self, "/paths", query)
        switch options.format {
        case .text: Terminal.print(report.text(options.style))
        case .markdown: Terminal.print(report.markdown)
        case .mermaid: Terminal.print(report.mermaid)
        case .json: Terminal.print(String(decoding: try ReportJSON.encode(report, isPretty: true), as: UTF8.self))
        }
    }
}

struct PrecedenceCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "precedence", abstract: "In which order chains ran, by namespace and direction, as packets showed it.",
        discussion: "  ipt-trace report precedence --format markdown")

    @OptionGroup var options: ReportOptions

    func run() async throws {
        let report = try await options.fetch(PrecedenceReport.self, "/precedence")
        switch options.format {
        case .text: Terminal.print(report.text(options.style))
        case .markdown: Terminal.print(report.markdown)
        case .mermaid: Terminal.print(report.mermaid)
        case .json: Terminal.print(String(decoding: try ReportJSON.encode(report, isPretty: true), as: UTF8.self))
        }
    }
}

struct FlowsCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "flows", abstract: "Connections: original and reply, whatever translation did to their addresses.",
        discussion: "  ipt-trace report flows --format json")

    @OptionGroup var options: ReportOptions
    @Option(help: "At most this many flows.") var limit = 100

    func run() async throws {
        let report = try await options.fetch(
            FlowsReport.self, "/flows", [URLQueryItem(name: "limit", value: String(limit))])
        switch options.format {
        case .text: Terminal.print(report.text(options.style))
        case .json: Terminal.print(String(decoding: try ReportJSON.encode(report, isPretty: true), as: UTF8.self))
        case .markdown, .mermaid:
            throw CommandFailure(message: "flows are printed as text or json", code: ExitStatus.usage)
        }
    }
}
