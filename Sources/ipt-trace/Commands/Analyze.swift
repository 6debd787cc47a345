import API
import Aggregation
import ArgumentParser
import Captures
import EventSources
import Foundation
import HTTPServer
import Reports
import Ruleset
import TraceModel
import WebPage

struct Analyze: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Analyze NFLOG captures, recordings and kernel logs; needs no root.",
        discussion: """
            Reads pcap and pcapng as tcpdump -i nflog:5 and collect --record write them, and kernel logs as dmesg, \
            journalctl -k, /dev/kmsg and syslog's files have them; gzip and zstd are unpacked. Several files are merged by \
            time.

              ipt-trace analyze trace.pcapng
              ipt-trace analyze guest=guest.pcap host=host.pcap --rules guest=guest.rules --rules host=host.rules
              journalctl -k -o short-precise | ipt-trace analyze - --report precedence
              ipt-trace analyze /var/log/messages --follow --serve

            A recording knows its namespaces, interfaces and rules. Other captures and logs do not: what iptables-save \
            printed there, given with --rules, says which probe a packet had to pass next, and so whether it was dropped; what \
            ip -json -details link printed, given with --links, names the interfaces and says which reach one another.
            """)

    @Argument(help: ArgumentHelp("Captures, recordings or logs; - is standard input.", valueName: "file"))
    var files: [String]

    @Option(
        help: ArgumentHelp(
            "What iptables-save printed, of a namespace or (without one) of the host; may be repeated.",
            valueName: "namespace=file"))
    var rules: [String] = []

    @Option(
        help: ArgumentHelp(
            "What ip -json -details link printed, of a namespace or (without one) of the host; may be repeated.",
            valueName: "namespace=file"))
    var links: [String] = []

    @Option(
        name: .customLong("report"),
        help: ArgumentHelp(
            "One of \(ReportTable.all.map { $0.name }.joined(separator: ", ")); may be repeated. Default: an overview."))
    var names: [String] = []

    @Option(name: .customLong("format"), help: ReportFormat.help, transform: ReportFormat.parse)
    var chosenFormat: ReportFormat = .text

    @Flag(help: "The same as --format json.")
    var json = false

    private var format: ReportFormat { json ? .json : chosenFormat }

    @OptionGroup var filter: FilterOptions

    @Flag(help: "Go on when the end of a file is reached: wait for more, until Ctrl-C.")
    var follow = false

    @Flag(help: "Serve the result over HTTP, as collect does, until Ctrl-C.")
    var serve = false

    @OptionGroup var server: ServerOptions

    @Option(
        help: ArgumentHelp(
            "Milliseconds without an event after which a packet's way is taken as ended. Default: 500 for recordings, 2000 "
                + "for others, whose times are coarser.", valueName: "ms"))
    var linger: Int?

    @Option(
        help: ArgumentHelp("The most packets that are followed at once; past it the oldest is closed early.", valueName: "n"))
    var maxJourneys = 1 << 20

    @OptionGroup var color: ColorOption

    @OptionGroup var log: LogOptions

    func validate() throws {
        guard !files.isEmpty else { throw ValidationError("Name a file, or - for standard input.") }
        guard linger.map({ (10...60_000).contains($0) }) ?? true else {
            throw ValidationError("--linger takes 10 to 60000 milliseconds.")
        }
        guard (100...10_000_000).contains(maxJourneys) else { throw ValidationError("--max-journeys takes 100 to 10000000.") }
        for kind in try kinds() where !format.isOffered(by: kind) {
            throw ValidationError("\(FormatProblem(kind, format)).")
        }
    }

    private func kinds() throws -> [any Report.Type] {
        guard !names.isEmpty else { return ReportTable.all.filter { $0.isInOverview && format.isOffered(by: $0) } }
        let all = ReportTable.all.map { $0.name }
        return try names.map { name in
            guard let kind = ReportTable.report(named: name) else {
                let guess = CommandSuggestion.nearest(to: name, among: all).map { " Did you mean \($0)?" } ?? ""
                throw ValidationError("There is no report \(name).\(guess) Reports are \(all.joined(separator: ", ")).")
            }
            return kind
        }
    }

    func run() async throws {
        let run = try AnalysisRun(
            files: files, rules: rules, links: links, follows: follow, linger: linger.map { Int64($0) * 1000 },
            maximumJourneys: maxJourneys,
            stopsBySignal: true)
        guard serve else { return try await report(try await run.finishWithEvents().snapshot) }
        let server = try makeServer(run)
        defer { server.stop() }
        Terminal.note("serving \(server.addresses.map(\.url).joined(separator: ", "))/paths; Ctrl-C ends it")
        let result = try await run.finish()
        Terminal.note("\(Summary.text(result.snapshot))")
        await run.waitForStop()
    }

    private func makeServer(_ run: AnalysisRun) throws -> Server {
        let addresses = try server.addresses()
        let token = try server.token.token()
        let analysis = run.analysis
        let routes = TraceRoutes(
            TraceServices(
                snapshot: { _ in await analysis.snapshot() },
                probes: { Array(try ReportJSON.encode(ProbeList(probes: await analysis.snapshot().map(Self.rows) ?? []))) },
                version: Program.version, token: token))
        do {
            return try Server(
                addresses, allowedHosts: server.allowedHosts, logger: Log.logger, handler: { routes.answer($0) })
        } catch {
            throw CommandFailure(message: "\(error)")
        }
    }

    /// The probes that the files' prefixes and the rules speak of.
    private static func rows(_ snapshot: TraceSnapshot) -> [ProbeRow] {
        snapshot.layout.probes.indices.map { index in
            let probe = snapshot.layout.probes[index]
            let namespace = snapshot.layout.namespaces[probe.namespace]
            return ProbeRow(
                netns: namespace.name, probe: probe, target: namespace.channel.rawValue,
                state: snapshot.layout.isInForce[index] ? "recorded" : "gone")
        }
    }

    private func report(_ snapshot: TraceSnapshot) async throws {
        let style = Style(isColored: color.isOn)
        let filter = try filter.filter()
        if format.holdsAllReports { return Terminal.write(WebPage.recorded(try RecordedReports(snapshot, filter).json)) }
        let reports = try kinds().map { $0.init(snapshot, filter) }
        if format == .json, reports.count > 1 {
            return Terminal.print(try ReportJSON.text(ReportSet(reports: reports), isPretty: true))
        }
        var texts: [TerminalText] = []
        for report in reports {
            let text = try format.text(of: report, style)
            texts.append(reports.count > 1 && format == .text ? "== \(type(of: report).name) ==\n\(text)" : text)
        }
        Terminal.print(texts.joined(separator: "\n\n"))
    }
}

/// Several reports as one JSON object, each under its name.
private struct ReportSet: Encodable {
    private struct Name: CodingKey {
        var stringValue: String
        var intValue: Int? { nil }

        init(_ text: String) { stringValue = text }
        init?(stringValue: String) { self.init(stringValue) }
        init?(intValue: Int) { nil }
    }

    var reports: [any Report]

    func encode(to encoder: any Encoder) throws {
        var container = encoder.container(keyedBy: Name.self)
        try container.encode(1, forKey: Name("schema"))
        for report in reports { try container.encode(report, forKey: Name(type(of: report).name)) }
    }
}
