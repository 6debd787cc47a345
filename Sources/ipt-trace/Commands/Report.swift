import Aggregation
import ArgumentParser
import EventSources
import Foundation
import Reports
import TraceModel

struct Report: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Print a report from a running collector, a recording, a capture or a log.",
        discussion: """
              ipt-trace report paths
              ipt-trace report precedence --format markdown
              ipt-trace report flows --format json --from http://127.0.0.1:9101
              ipt-trace report drops --record trace.pcapng
            """,
        subcommands: [PathsCommand.self, PrecedenceCommand.self, FlowsCommand.self, DropsCommand.self, FindingsCommand.self])
}

struct ReportOptions: ParsableArguments {
    @Option(help: ArgumentHelp("The collector.", valueName: "url"))
    var from = "http://127.0.0.1:9100"

    @Option(
        name: .customLong("record"),
        help: ArgumentHelp(
            "Instead of a collector, a recording, capture or kernel log; may be repeated. See analyze --help.",
            valueName: "file"))
    var records: [String] = []

    @Option(help: "text, markdown, json or mermaid.")
    var format: ReportFormat = .text

    @OptionGroup var color: ColorOption

    func source() async throws -> ReportSource {
        if records.isEmpty { return .collector(CollectorClient(base: from)) }
        return .snapshot(try await AnalysisRun(files: records).finishWithEvents().snapshot)
    }
}

/// Which paths are asked for, on the command line.
struct PathFilterOptions: ParsableArguments {
    @Option(help: "At most this many paths or flows.") var limit = 100
    @Option(help: "Only paths through this namespace.") var netns: String?
    @Option(help: "Only this protocol: tcp, udp, icmp, a number.") var proto: String?
    @Option(help: "Only this outcome: delivered, sent, dropped, incomplete.") var outcome: String?
    @Option(help: "Only paths on which this address occurred.") var address: String?
    @Option(help: "Only paths on which this port occurred.") var port: UInt16?

    func validate() throws {
        _ = try filter()
    }

    func filter() throws -> PathFilter {
        var filter = PathFilter()
        filter.limit = limit
        filter.netns = netns
        filter.address = address
        filter.port = port
        if let proto {
            guard let number = TransportProtocol.number(proto) else {
                throw ValidationError("--proto takes a protocol's name or number, such as tcp or 6.")
            }
            filter.transport = number
        }
        if let outcome {
            guard let known = Outcome(name: outcome) else {
                throw ValidationError("--outcome is one of \(Outcome.allCases.map(\.name).joined(separator: ", ")).")
            }
            filter.outcome = known
        }
        return filter
    }
}

struct PathsCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "paths", abstract: "Print the paths of packets with their outcomes.",
        discussion: """
              ipt-trace report paths --outcome dropped
              ipt-trace report paths --proto icmp --format mermaid
            """)

    @OptionGroup var options: ReportOptions
    @OptionGroup var filter: PathFilterOptions

    func run() async throws { try await ReportKind.paths.print(options, filter.filter()) }
}

struct PrecedenceCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "precedence", abstract: "Print the observed order of chains, by namespace and direction.",
        discussion: "  ipt-trace report precedence --format markdown")

    @OptionGroup var options: ReportOptions

    func run() async throws { try await ReportKind.precedence.print(options) }
}

struct FlowsCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "flows", abstract: "Print connections, original and reply, across address translation.",
        discussion: "  ipt-trace report flows --format json")

    @OptionGroup var options: ReportOptions
    @Option(help: "At most this many flows.") var limit = 100

    func run() async throws {
        var filter = PathFilter()
        filter.limit = limit
        try await ReportKind.flows.print(options, filter)
    }
}

struct DropsCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "drops", abstract: "Print where packets were dropped, between which two probes.",
        discussion: "  ipt-trace report drops --format markdown")

    @OptionGroup var options: ReportOptions
    @Option(help: "At most this many places.") var limit = 100

    func run() async throws {
        var filter = PathFilter()
        filter.limit = limit
        try await ReportKind.drops.print(options, filter)
    }
}

struct FindingsCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "findings", abstract: "Print faults with their reasons and the commands that mend them.",
        discussion: "  ipt-trace report findings --format json")

    @OptionGroup var options: ReportOptions

    func run() async throws { try await ReportKind.findings.print(options) }
}
