import Aggregation
import ArgumentParser
import Captures
import Engine
import EventSources
import Foundation
import Reports
import Synchronization
import TraceModel

struct Export: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Write journeys as NDJSON, one per line, for other programs.",
        discussion: """
            From files every journey, as it ends; from a collector the latest that it keeps. docs/export.md has the schema.

              ipt-trace export trace.pcapng > journeys.ndjson
              ipt-trace export --url http://127.0.0.1:9100 | jq -c 'select(.journey.outcome == "dropped")'
            """)

    @Argument(help: ArgumentHelp("Captures, recordings or logs. Default: a running collector's.", valueName: "file"))
    var files: [String] = []

    @OptionGroup var collector: CollectorOption

    @Option(
        help: ArgumentHelp("What iptables-save printed, as analyze takes it; may be repeated.", valueName: "namespace=file"))
    var rules: [String] = []

    @OptionGroup var log: LogOptions

    func run() async throws {
        if files.isEmpty {
            var filter = TraceFilter()
            try filter.add(.limit, "10000")
            let report = try await collector.client().report(JourneysReport.self, filter)
            let machine = MachineIdentity.current
            // A collector elsewhere saw another machine's packets: this machine's name would be wrong.
            let isHere =
                URLComponents(string: try collector.client().base)?.host.map {
                    ["127.0.0.1", "localhost", "::1", "[::1]"].contains($0)
                } ?? false
            let writer = JourneyLines { isHere ? machine : MachineIdentity() }
            for journey in report.journeys.reversed() where journey.outcome != "open" {
                writer.add(journey)
            }
            return try writer.finish()
        }
        let analysis = Analysis()
        let writer = JourneyLines { analysis.machine }
        let run = try AnalysisRun(
            files: files, rules: rules, analysis: analysis, watcher: writer, stopsBySignal: true)
        _ = try await run.finish()
        try writer.finish()
    }
}

/// Writes lines to stdout, in large pieces.
private final class JourneyLines: JourneyWatcher {
    private struct State {
        var pending = Data()
        var failure: (any Error)?
    }

    private let state = Mutex(State())

    /// The machine that reported the journeys.
    private let machine: @Sendable () -> MachineIdentity

    init(machine: @escaping @Sendable () -> MachineIdentity) { self.machine = machine }

    let isWatched = true

    func add(_: Journey, describe: () -> (record: JourneyRecord, context: TraceContext)) {
        let (record, context) = describe()
        add(context.describe(record))
    }

    func add(_ journey: JourneyReport) {
        let machine = machine()
        let line = JourneyLine(journey, host: machine.host, boot: machine.boot)
        state.withLock { state in
            guard state.failure == nil else { return }
            do {
                state.pending += try ReportJSON.encode(line)
                state.pending.append(0x0A)
                if state.pending.count > 1 << 16 {
                    try FileHandle.standardOutput.write(contentsOf: state.pending)
                    state.pending.removeAll(keepingCapacity: true)
                }
            } catch {
                state.failure = error
            }
        }
    }

    func finish() throws {
        let failure = state.withLock { state in
            if state.failure == nil {
                do { try FileHandle.standardOutput.write(contentsOf: state.pending) } catch { state.failure = error }
            }
            return state.failure
        }
        if let failure { throw CommandFailure(message: "cannot write: \(failure.localizedDescription)") }
    }
}
