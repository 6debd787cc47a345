import Aggregation
import ArgumentParser
import Captures
import EventSources
import Foundation
import LinuxSupport
import Reports
import Ruleset
import Synchronization
import TraceModel

struct TraceCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "trace",
        abstract: "Trace matching packets live, then remove the probes.",
        discussion: """
            The probes go however this ends; even when it is killed, a helper process takes them out. A match that names \
            an address sees one direction only, and may lose the packet where the address is translated. --address, --port, \
            --proto and --outcome choose among the packets that the probes report: in either direction, and through NAT. So does \
            an expression in the language of tcpdump (pcap-filter(7)): a packet is shown if it fits at any of its steps.

              sudo ipt-trace trace --match '-p icmp'
              sudo ipt-trace trace --netns host --netns guest --match '-p tcp --dport 443' --steps
              sudo ipt-trace trace --match '-p udp --dport 53' --count 1 --json
              sudo ipt-trace trace --address 10.0.0.0/8 --port 443 --outcome dropped
              sudo ipt-trace trace 'host 10.0.0.5 and tcp port 443'
              sudo ipt-trace trace 'tcp[tcpflags] & tcp-rst != 0'
            """)

    @Argument(help: ArgumentHelp("Show packets that fit this expression, as tcpdump takes it.", valueName: "expression"))
    var expression: [String] = []

    @OptionGroup var namespaces: NamespaceOption
    @OptionGroup var probes: ProbeFilterOptions
    @OptionGroup var packets: PacketFilterOptions
    @OptionGroup var color: ColorOption

    @Flag(help: "Print a line for each packet on a terminal, too, instead of the live view.")
    var lines = false

    @Flag(help: "Print every step of every packet.")
    var steps = false

    @Flag(help: "Print each packet as one line of JSON.")
    var json = false

    @Option(help: ArgumentHelp("End after this many packets.", valueName: "n"))
    var count: Int?

    @Option(help: ArgumentHelp("End after this time: 90s, 10m, 1h. Default: after a day.", valueName: "time"))
    var duration: Lifetime?

    @Option(help: "The NFLOG group. Default: one that is not in use.")
    var group: UInt16?

    @OptionGroup var log: LogOptions

    func validate() throws {
        if let count, count < 1 { throw ValidationError("--count takes 1 or more.") }
        _ = try packetExpression()
        if group == 0 { throw ValidationError("--group 0 is the kernel's own default group; take one from 1 to 65535.") }
    }

    private func packetExpression() throws -> PacketExpression? {
        guard !expression.isEmpty else { return nil }
        do {
            return try PacketExpression(expression.joined(separator: " "))
        } catch {
            throw ValidationError("\(error)")
        }
    }

    func run() async throws {
        // Far from the groups that others are known to use.
        let group = self.group ?? UInt16.random(in: 20_000...60_000)
        // Should even the helper be killed, the kernel ends them.
        let expires = Int64(Date().timeIntervalSince1970) + (duration?.seconds ?? 86_400) + 60
        let options = try probes.probeOptions(target: .nflog, group: group, expires: expires)
        try await TemporaryProbes.with(options, in: try namespaces.resolve()) { plan, stop in
            try await follow(plan, group: group, stop: stop)
        }
    }

    private func follow(_ plan: ProbeInstaller.Plan, group: UInt16, stop: StopSignal) async throws {
        let filter = try packets.filter()
        let fits = try packetExpression().map { expression -> @Sendable (Journey) -> Bool in { expression.fits($0) } }
        let feed = JourneyFeed(filter, expression: fits)
        var options = Collector.Options(selectors: [], group: group, followsDropReasons: true, ruleTracing: .afterDrops)
        let selection = Mutex(JourneySelection(filter, expression: fits))
        // For a person at a terminal who asks for no packet in particular.
        let isLive = !lines && !steps && !json && count == nil && LiveTerminal.isPossible
        if isLive { options.isWanted = { journey in selection.withLock { $0.takes(journey) } } }
        let collector = try await Collector(
            // Exactly the namespaces that were probed, whatever their names mean by now.
            options, in: plan.places.map(\.namespace), watcher: feed, logger: Log.logger)
        if isLive {
            await view(collector, stop)
            if let last = collector.stop() { Terminal.note("\(Summary.text(last))") }
            return
        }
        feed.watch()
        let places = plan.places.count
        Terminal.note("tracing with \(plan.probeCount) probes in \(places) namespace\(places == 1 ? "" : "s"); Ctrl-C ends it")
        let printer = Task { try await printJourneys(from: feed) }
        // A day without --duration: then the probes end, and a trace that shows nothing must not go on in silence.
        let waiter = Task { await stop.wait(seconds: Double(duration?.seconds ?? 86_400)) }
        await withTaskGroup(of: Void.self) { group in
            group.addTask { _ = try? await printer.value }
            group.addTask { await waiter.value }
            await group.next()
            printer.cancel()
            stop.trigger()
            await group.waitForAll()
        }
        if let last = collector.stop() {
            // Open journeys have ended with the collector.
            if count == nil { try show(feed.take().journeys) }
            Terminal.note("\(Summary.text(last))")
        }
    }

    private func view(_ collector: Collector, _ stop: StopSignal) async {
        let view = LiveTerminal(isColored: color.isOn)
        let shown = Task {
            await view.show("ipt-trace trace") { await collector.snapshot() }
            stop.trigger()
        }
        await stop.wait(seconds: Double(duration?.seconds ?? 86_400))
        view.end()
        await shown.value
    }

    private func printJourneys(from feed: JourneyFeed) async throws {
        var shown = 0
        while !Task.isCancelled {
            let (journeys, dropped) = feed.take()
            if dropped > 0 { Terminal.note("\(dropped) packets not shown: the terminal is too slow") }
            let wanted = count.map { max(0, $0 - shown) } ?? journeys.count
            try show(Array(journeys.prefix(wanted)))
            shown += journeys.count
            if let count, shown >= count { return }
            try await Task.sleep(for: .milliseconds(50))
        }
    }

    private func show(_ journeys: [JourneyReport]) throws {
        let style = Style(isColored: color.isOn)
        for journey in journeys {
            if json {
                Terminal.print(try ReportJSON.text(journey))
            } else {
                Terminal.print(journey.text(style, showsSteps: steps))
            }
        }
    }
}
