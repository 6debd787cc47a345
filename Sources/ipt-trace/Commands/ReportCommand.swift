import ArgumentParser
import EventSources
import Glibc
import Reports
import Synchronization
import WebPage

struct ReportCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "report",
        abstract: "Print a report from a running collector, a recording, a capture or a log.",
        discussion: """
              ipt-trace report paths
              ipt-trace report precedence --format markdown
              ipt-trace report flows --format json --url http://127.0.0.1:9101
              ipt-trace report drops --since 1m --watch
              ipt-trace report drops trace.pcapng
              ipt-trace report paths trace.pcapng --format html > trace.html
            """,
        subcommands: ReportTable.all.map { command($0) })

    /// Two commands, since the parser offers the same options to all values of a type.
    private static func command<Kind: Report>(_ kind: Kind.Type) -> any ParsableCommand.Type {
        kind.filters.count == TraceFilter.Field.allCases.count ? ListCommand<Kind>.self : PlaceCommand<Kind>.self
    }
}

/// A report on all of the trace, or on one namespace.
struct PlaceCommand<Kind: Report>: AsyncParsableCommand {
    static var configuration: CommandConfiguration {
        CommandConfiguration(
            commandName: Kind.name, abstract: Kind.summary, discussion: "  ipt-trace report \(Kind.name) --format json")
    }

    @OptionGroup var options: ReportOptions
    @Option(help: "Only this namespace; may be repeated.") var netns: [String] = []

    @OptionGroup var log: LogOptions

    func run() async throws {
        var filter = TraceFilter()
        for name in netns { try filter.add(.netns, name) }
        try await options.print(Kind.self, filter)
    }
}

/// A report that is a list, of which filters choose entries.
struct ListCommand<Kind: Report>: AsyncParsableCommand {
    static var configuration: CommandConfiguration {
        CommandConfiguration(
            commandName: Kind.name, abstract: Kind.summary,
            discussion: """
                  ipt-trace report \(Kind.name) --outcome dropped --since 5m
                  ipt-trace report \(Kind.name) --address 10.0.0.0/8 --port 443 --format json
                """)
    }

    @OptionGroup var options: ReportOptions
    @OptionGroup var filter: FilterOptions

    @OptionGroup var log: LogOptions

    func run() async throws { try await options.print(Kind.self, filter.filter()) }
}

struct ReportOptions: ParsableArguments {
    @Argument(help: ArgumentHelp("Recordings, captures or logs instead of a collector.", valueName: "file"))
    var files: [String] = []

    @OptionGroup var collector: CollectorOption

    @Option(
        name: .customLong("record"),
        help: ArgumentHelp(
            "As a file's name alone; may be repeated. See analyze --help.",
            valueName: "file"))
    var records: [String] = []

    @Option(name: .customLong("format"), help: ReportFormat.help, transform: ReportFormat.parse)
    var chosenFormat: ReportFormat = .text

    @Flag(help: "The same as --format json.")
    var json = false

    var format: ReportFormat { json ? .json : chosenFormat }

    @Flag(help: "Print it again every two seconds, until Ctrl-C; from a collector only.")
    var watch = false

    func validate() throws {
        guard !watch || (files + records).isEmpty else {
            throw ValidationError("--watch asks a collector again and again; files do not change.")
        }
        guard !watch || !format.holdsAllReports else { throw ValidationError("--watch prints text; the page asks by itself.") }
    }

    @OptionGroup var color: ColorOption

    func print<Kind: Report>(_ kind: Kind.Type, _ filter: TraceFilter) async throws {
        guard format.isOffered(by: kind) else {
            throw CommandFailure(message: "\(FormatProblem(kind, format))", code: ExitStatus.usage)
        }
        guard !format.holdsAllReports else { return try await printPage(filter) }
        guard watch else { return try await printOnce(kind, filter) }
        let stop = StopSignal()
        let stopped = Task { await stop.wait() }
        defer { stopped.cancel() }
        let hasEnded = Mutex(false)
        Task {
            await stopped.value
            hasEnded.withLock { $0 = true }
        }
        while !hasEnded.withLock({ $0 }) {
            // From the upper left corner, the rest cleared; where nobody watches, one below the other.
            if isatty(STDOUT_FILENO) == 1 { Terminal.write(Array("\u{1B}[H\u{1B}[2J".utf8)) }
            try await printOnce(kind, filter)
            for _ in 0..<20 where !hasEnded.withLock({ $0 }) { try? await Task.sleep(for: .milliseconds(100)) }
        }
    }

    private func printOnce<Kind: Report>(_ kind: Kind.Type, _ filter: TraceFilter) async throws {
        let report =
            (files + records).isEmpty
            ? try await collector.client().report(kind, filter)
            : Kind(try await AnalysisRun(files: files + records).finishWithEvents().snapshot, filter)
        Terminal.print(try format.text(of: report, Style(isColored: color.isOn)))
    }
}

extension ReportOptions {
    /// Prints the page with all reports inside.
    private func printPage(_ filter: TraceFilter) async throws {
        guard (files + records).isEmpty else {
            let snapshot = try await AnalysisRun(files: files + records).finishWithEvents().snapshot
            return Terminal.write(WebPage.recorded(try RecordedReports(snapshot, filter).json))
        }
        let client = try collector.client()
        let paths = try await client.report(PathsReport.self, filter)
        var reports = RecordedReports()
        for kind in ReportTable.all where RecordedReports.names.contains(kind.name) {
            // Filters that a report does not take leave it whole.
            let query = filter.words.filter { kind.filters.contains($0.field) }
            reports.add(kind.name, Array(try await client.get("/\(kind.name)", query)))
        }
        for path in paths.paths.prefix(RecordedReports.mostJourneys) {
            // One that is no longer kept is left out.
            guard let journey = try await client.find("/journeys/\(path.example.journey)") else { continue }
            reports.add(journey: path.example.journey, Array(journey))
        }
        Terminal.write(WebPage.recorded(reports.json))
    }
}

extension ReportFormat {
    static var help: ArgumentHelp { "One of \(all.map(\.name).joined(separator: ", "))." }

    @Sendable static func parse(_ name: String) throws -> ReportFormat {
        guard let format = all.first(where: { $0.name == name }) else {
            throw ValidationError("There is no format \(name). Formats are \(all.map(\.name).joined(separator: ", ")).")
        }
        return format
    }
}
