import API
import Aggregation
import ArgumentParser
import Captures
import EventSources
import Foundation
import HTTPServer
import LinuxSupport
import Logging
import Reports
import Ruleset

struct Collect: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Receive the probes' events, join them into journeys, serve the results over HTTP.",
        discussion: """
            Binds the NFLOG group in every namespace. Ctrl-C ends it with a summary; the probes stay, but for those that \
            --follow-netns has put in.

              sudo ipt-trace collect
              sudo ipt-trace collect --netns host --netns guest --listen 127.0.0.1:9101
              sudo ipt-trace collect --listen 0.0.0.0:9100 --token-file /etc/ipt-trace.token --allow-host node1
              curl localhost:9100/paths
              sudo ipt-trace collect --record trace.pcapng --duration 10m
              sudo ipt-trace collect --follow-netns      # for containers that start later
              sudo ipt-trace collect --kernel-log        # for probes of install-probes --target log
            """)

    @OptionGroup var namespaces: NamespaceOption

    @OptionGroup var server: ServerOptions

    @Option(help: "The NFLOG group, as given to install-probes.")
    var group: UInt16 = 5

    @Option(
        help: ArgumentHelp(
            "Bytes of each packet to copy, from the IP header on. 128 tell packets apart; more is for what --record writes.",
            valueName: "bytes"))
    var snapLength: UInt32 = 128

    @Option(help: ArgumentHelp("End after this time: 90s, 10m, 1h. Default: when told to.", valueName: "time"))
    var duration: Lifetime?

    @Option(help: ArgumentHelp("Milliseconds without an event after which a packet's way is taken as ended.", valueName: "ms"))
    var linger = 500

    @Option(
        help: ArgumentHelp("The most packets that are followed at once; past it the oldest is closed early.", valueName: "n"))
    var maxJourneys = 131_072

    @Flag(help: "Follow the kernel log (/dev/kmsg) too, for what LOG rules write.")
    var kernelLog = false

    @Flag(
        name: .customLong("follow-netns"),
        help: """
            Put probes into namespaces that appear: one in each chain of both families. They go when this ends, whatever ends \
            it; were even the process killed that sees to that, they would go inert after 30 days.
            """)
    var followsNamespaces = false

    @Option(
        name: .customLong("rule-traces"),
        help: ArgumentHelp(
            """
            auto: packets like one that was dropped are traced through the rules for 30 s, at most 100 a second, so that the next \
            one names the rule (takes nft and a table of its own, which goes when this ends). A number: besides, one flow in so \
            many from its first packet on, at most 2000 packets a second. off: nothing.
            """, valueName: "auto|off|n"))
    var ruleTraces = RuleTraces(tracing: .afterDrops)

    @Option(
        name: .customLong("drop-reasons"),
        help: ArgumentHelp(
            """
            auto: the kernel is asked why it drops packets outside all tables, where it can be (tracefs, which takes root of the \
            machine's first user namespace). off: its counters alone tell.
            """, valueName: "auto|off"))
    var dropReasons = DropReasons.auto

    @Flag(help: "Show no live view on a terminal.")
    var lines = false

    @OptionGroup var color: ColorOption

    @OptionGroup var recording: RecordingOptions

    @OptionGroup var log: LogOptions

    func validate() throws {
        guard (128...65_531).contains(snapLength) else { throw ValidationError("--snap-length takes 128 to 65531 bytes.") }
        guard (10...60_000).contains(linger) else { throw ValidationError("--linger takes 10 to 60000 milliseconds.") }
        guard !followsNamespaces || namespaces.selectors.contains("all") else {
            throw ValidationError("--follow-netns is for all namespaces; leave --netns out.")
        }
        guard (100...10_000_000).contains(maxJourneys) else { throw ValidationError("--max-journeys takes 100 to 10000000.") }
    }

    func run() async throws {
        let logger = Log.logger
        AbandonedSettings.putBack()
        let addresses = try server.addresses()
        let token = try server.token.token()
        // A FIFO is waited for until somebody reads it; until then a signal ends everything, as there is nothing to put back.
        let recorder = try recording.open()
        let stop = StopSignal()
        defer { recorder?.close() }
        let prober =
            followsNamespaces ? try await NamespaceProber(group: group, lifetime: duration?.seconds, logger: logger) : nil
        do {
            try await collect(addresses, token, prober, recorder, stop, logger)
        } catch {
            await prober?.finish()
            throw error
        }
        await prober?.finish()
    }

    private func collect(
        _ addresses: [ListenAddress], _ token: AccessToken?, _ prober: NamespaceProber?, _ recorder: Recorder?,
        _ stop: StopSignal, _ logger: Logger
    ) async throws {
        // Logs journeys whose end is not known; all of them at level trace.
        let feed = logger.logLevel <= .debug ? JourneyFeed(try Self.logged(logger.logLevel)) : nil
        feed?.watch()
        let journeys = feed.map { feed in Task { await Self.log(feed, logger) } }
        defer { journeys?.cancel() }
        let events = EventFeed()
        var onUnprobed: (@Sendable (NetworkNamespace) -> Void)?
        if let prober { onUnprobed = { prober.take($0) } }
        let collector = try await Collector(
            Collector.Options(
                selectors: try namespaces.selectors.map { try NamespaceSelector($0) }, group: group, snapLength: snapLength,
                linger: Int64(linger) * 1000, maximumJourneys: maxJourneys,
                ownPort: addresses.first { !$0.isLocalSocket }?.port, followsKernelLog: kernelLog,
                followsDropReasons: dropReasons == .auto, recorder: recorder, ruleTracing: ruleTraces.tracing,
                onUnprobed: onUnprobed),
            watcher: JourneyWatchers([events] + (feed.map { [$0] } ?? [])), logger: logger)
        let looking = Task {
            while !Task.isCancelled {
                try? await Task.sleep(for: .seconds(1))
                guard events.isWatched, let snapshot = await collector.snapshot(.flows) else { continue }
                events.look(at: snapshot)
            }
        }
        defer { looking.cancel() }
        let server: Server
        do {
            server = try Server(
                addresses, limits: Self.limits(), allowedHosts: self.server.allowedHosts, logger: logger,
                handler: Self.handler(collector, recorder, token, events))
        } catch {
            _ = collector.stop()
            throw CommandFailure(message: "\(error)")
        }
        do {
            try recorder?.begin { change in
                logger.log(level: change.isTrouble ? .warning : .info, "\(change)")
            }
        } catch {
            server.stop()
            _ = collector.stop()
            throw error
        }
        let names = collector.namespaceNames
        Terminal.note(
            "collecting group \(group) in \(names.count) namespace\(names.count == 1 ? "" : "s") "
                + "(\(Self.shortened(names))), \(collector.probeCount) probes")
        if collector.probeCount == 0 {
            Terminal.note(
                kernelLog
                    ? "No probes report yet. Put some in with: sudo ipt-trace install-probes --target log"
                    : "No probes report to group \(group) yet. Put some in with: sudo ipt-trace install-probes")
        }
        if kernelLog, let advice = KernelLogAdvice.text(namespaces: names) { Terminal.note("\(advice)") }
        if let recorder { Terminal.note("recording to \(recorder.path)") }
        Terminal.note("serving \(server.addresses.map(\.url).joined(separator: ", "))/paths; Ctrl-C ends it")
        await watch(collector, server, stop)
        server.stop()
        if let last = collector.stop() {
            Terminal.note("\(Summary.text(last))")
        }
        if let recorder {
            recorder.close()
            Terminal.note("\(Summary.text(recorder))")
        }
    }

    /// Until the end: with the live view on a terminal, else in silence.
    private func watch(_ collector: Collector, _ server: Server, _ stop: StopSignal) async {
        guard !lines, LiveTerminal.isPossible else {
            await stop.wait(seconds: duration?.seconds.map(Double.init))
            return
        }
        let view = LiveTerminal(isColored: color.isOn)
        let shown = Task {
            await view.show("ipt-trace \(server.addresses.first?.url ?? "")") { await collector.snapshot() }
            stop.trigger()
        }
        await stop.wait(seconds: duration?.seconds.map(Double.init))
        view.end()
        await shown.value
    }

    /// Which packets are logged.
    private static func logged(_ level: Logger.Level) throws -> TraceFilter {
        var filter = TraceFilter()
        if level > .trace { try filter.add(.outcome, "incomplete") }
        return filter
    }

    /// Logs what ends, until it is cancelled.
    private static func log(_ feed: JourneyFeed, _ logger: Logger) async {
        while !Task.isCancelled {
            let (journeys, dropped) = feed.take()
            for journey in journeys { logger.debug("\(journey.text(Style(isColored: false), showsSteps: true))") }
            if dropped > 0 { logger.debug("\(dropped) packets more") }
            // Cancelled: the loop ends.
            try? await Task.sleep(for: .milliseconds(200))
        }
    }

    /// Clients leave the descriptors alone that reading rules takes.
    private static func limits() -> Server.Limits {
        var limits = Server.Limits()
        let reserve = DescriptorLimit.perProgram + 6
        limits.connections = max(4, DescriptorLimit.free(upTo: limits.connections + reserve) - reserve)
        limits.connectionsPerAddress = min(limits.connectionsPerAddress, limits.connections)
        return limits
    }

    private static func handler(
        _ collector: Collector, _ recorder: Recorder?, _ token: AccessToken?, _ events: EventFeed
    ) -> Server.Handler {
        let listing = ProbeListing(collector)
        let routes = TraceRoutes(
            TraceServices(
                snapshot: { await collector.snapshot($0) }, probes: { try await listing.json() },
                recording: { recorder.map { RecordingStatus($0.status) } }, troubles: { collector.troubles },
                version: Program.version, token: token, events: events))
        return { routes.answer($0) }
    }

    private static func shortened(_ names: [String]) -> String {
        names.count <= 8 ? names.joined(separator: ", ") : names.prefix(8).joined(separator: ", ") + ", …"
    }
}

/// Reads the rules for `/probes`, once for all who ask within a second: each reading starts programs in every namespace.
private actor ProbeListing {
    private let collector: Collector
    private var reading: (task: Task<[UInt8], any Error>, begun: ContinuousClock.Instant)?

    init(_ collector: Collector) { self.collector = collector }

    func json() async throws -> [UInt8] {
        if let reading, ContinuousClock.now - reading.begun < .seconds(1) { return try await reading.task.value }
        // One that takes longer than a second is waited for rather than doubled.
        if let reading, !isDone { return try await reading.task.value }
        isDone = false
        let task = Task { [collector] in
            let rows = try await collector.probeRows()
            let completeness = await collector.snapshot([])?.completeness
            return Array(try ReportJSON.encode(ProbeList(probes: rows, cost: WatchingCost(completeness))))
        }
        reading = (task, .now)
        defer { isDone = true }
        return try await task.value
    }

    private var isDone = true
}

/// `/probes` and `ipt-trace probes --json`.
struct ProbeList: Encodable {
    var schema = 1
    var probes: [ProbeRow]
    /// Of a running collector.
    var cost: WatchingCost?
}

/// What a collector takes of the machine. What the kernel spends on the probes themselves is in no figure of a process.
struct WatchingCost: Encodable {
    /// Of all its threads since it began.
    var processorSeconds: Double
    var uptimeSeconds: Double
    var memoryBytes: UInt64
    var events: UInt64
    /// Packets.
    var journeys: UInt64

    /// - Returns: `nil` where the process's own figures cannot be read.
    init?(_ completeness: Completeness?) {
        guard let completeness, let figures = ProcessFigures.current() else { return nil }
        processorSeconds = figures.processorSeconds
        uptimeSeconds = max(0, Date().timeIntervalSince1970 - figures.startedAt)
        memoryBytes = figures.residentMemory
        events = completeness.events
        journeys = completeness.journeys
    }
}

/// What stands in the way of LOG rules in namespaces.
enum KernelLogAdvice {
    /// - Parameter namespaces: those that are traced.
    static func text(namespaces: [String]) -> String? {
        guard namespaces.contains(where: { $0 != "host" }) else { return nil }
        let cure = "To switch it on: sudo sysctl net.netfilter.nf_log_all_netns=1"
        // Only the machine's first namespace has the file (nf_log_net_init in the kernel's nf_log.c).
        guard let value = try? String(contentsOfFile: "/proc/sys/net/netfilter/nf_log_all_netns", encoding: .utf8) else {
            return "LOG rules write nothing in namespaces other than the machine's first unless "
                + "net.netfilter.nf_log_all_netns is 1 there. \(cure)"
        }
        guard value.hasPrefix("0") else { return nil }
        return "LOG rules write nothing in namespaces other than the first while net.netfilter.nf_log_all_netns is 0. \(cure)"
    }
}

extension RecordingStatus {
    init(_ status: Recorder.Status) {
        self.init(
            state: status.state.rawValue, states: RecordingState.allCases.map(\.rawValue), problem: status.problem,
            events: status.counters.written, bytes: status.counters.bytes,
            leftOut: RecordingDrop.allCases.map { ($0.rawValue, status.counters.drops[$0]) })
    }
}

/// The last words of a collection.
enum Summary {
    static func text(_ recorder: Recorder) -> String {
        let status = recorder.status
        let counters = status.counters
        let kept = counters.written - min(counters.written, counters.drops[.fileRemoved])
        var text = "\(kept) events recorded"
        if !status.files.isEmpty { text += " in \(status.files.joined(separator: ", "))" }
        if counters.dropped > 0 { text += ", \(counters.dropped) left out" }
        if counters.withoutPath > 0 { text += ", \(counters.withoutPath) without their path's id" }
        if let problem = status.problem { text += "; \(problem)" }
        return text
    }

    static func text(_ last: TraceSnapshot) -> String {
        let report = last.pathsReport(TraceFilter(limit: .max))
        let seen = report.completeness
        var outcomes: [String: UInt64] = [:]
        for path in report.paths { outcomes[path.outcome, default: 0] += path.packets }
        let parts = outcomes.sorted { $0.key < $1.key }.map { "\($0.value) \($0.key)" }
        var text = "\(seen.events) events, \(seen.journeys) journeys"
        if !parts.isEmpty { text += " (\(parts.joined(separator: ", ")))" }
        text += ", \(seen.lost) events lost"
        if let gaps = seen.gaps { text += ", \(gaps) gap\(gaps == 1 ? "" : "s") in the recording" }
        if seen.overflows > 0 { text += " (\(seen.overflows) receive buffer overflows)" }
        if let thinned = seen.thinned { text += ", \(thinned) events of flows that were not followed" }
        if let count = seen.namespacesLeftOut { text += "; \(count) namespaces were not followed" }
        if let count = seen.namespacesUnread { text += "; the rules of \(count) namespaces could not be read" }
        if seen.own > 0 { text += "; \(seen.own) journeys were our own" }
        if seen.evicted > 0 { text += ", \(seen.evicted) journeys closed early" }
        if seen.malformed > 0 { text += ", \(seen.malformed) messages not understood" }
        if seen.unplaced > 0 { text += ", \(seen.unplaced) events with a prefix that no rule has" }
        return text
    }
}

/// Whether the kernel is asked why it drops packets, on the command line.
enum DropReasons: String, ExpressibleByArgument, CaseIterable {
    case auto, off
}

/// Which packets are traced through the rules, on the command line.
struct RuleTraces: ExpressibleByArgument {
    var tracing: Collector.Options.RuleTracing

    init(tracing: Collector.Options.RuleTracing) { self.tracing = tracing }

    init?(argument: String) {
        switch argument {
        case "auto": tracing = .afterDrops
        case "off": tracing = .off
        default:
            guard let number = UInt32(argument), (1...65_535).contains(number) else { return nil }
            tracing = .oneIn(number)
        }
    }

    var defaultValueDescription: String { "auto" }
}
