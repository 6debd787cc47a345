import Aggregation
import Captures
import Engine
import EventSources
import Foundation
import Glibc
import Reports
import TraceModel

/// An analysis on a thread of its own: with progress on a terminal, and ended by Ctrl-C with its result so far.
struct AnalysisRun {
    let analysis: Analysis
    private let thread: AnalysisThread
    private let hasRules: Bool
    private let watcher: Task<Void, Never>?

    /// - Parameter stopsBySignal: whether a signal ends it early, with its result so far.
    init(
        files: [String], rules: [String] = [], links: [String] = [], follows: Bool = false, linger: Int64? = nil,
        maximumJourneys: Int = 1 << 20, analysis: Analysis = Analysis(), watcher consumer: (any JourneyWatcher)? = nil,
        stopsBySignal: Bool = false
    ) throws {
        hasRules = !rules.isEmpty
        // A signal ends everything while rules are read from a pipe that nobody writes to.
        let options = Analysis.Options(
            files: files, rules: try OfflineRules(arguments: rules), links: try OfflineLinks(arguments: links),
            follows: follows,
            linger: linger, maximumJourneys: maximumJourneys)
        self.analysis = analysis
        thread = AnalysisThread(analysis, options, consumer)
        watcher =
            stopsBySignal
            ? Task {
                await StopSignal().wait()
                analysis.stop()
            } : nil
    }

    /// Waits for the end.
    ///
    /// - Returns: what came of it; what could not be read has been said on stderr.
    func finish() async throws -> Analysis.Result {
        let progress = Task { [analysis] in
            guard isatty(STDERR_FILENO) != 0 else { return }
            // An input that is read in a moment needs no progress.
            try await Task.sleep(for: .seconds(1))
            defer { Terminal.progress(nil) }
            while true {
                Terminal.progress("\(Self.text(analysis.progress))")
                try await Task.sleep(for: .milliseconds(250))
            }
        }
        let result: Swift.Result<Analysis.Result, CaptureError>? = await thread.result
        progress.cancel()
        _ = await progress.result
        guard let result else { throw CommandFailure(message: "the analysis ended without a result") }
        let found = try result.get()
        report(found)
        return found
    }

    /// As `finish`, for a command that has nothing to show without an event.
    ///
    /// - Throws: `CommandFailure` with `ExitStatus.nothingSeen` where the files held none; why has been said on stderr.
    func finishWithEvents() async throws -> Analysis.Result {
        let found = try await finish()
        guard found.snapshot.completeness.events > 0 else {
            throw CommandFailure(message: "nothing to report: the input has no event of a probe", code: ExitStatus.nothingSeen)
        }
        return found
    }

    /// Waits for the signal that ends it, if it has not come.
    func waitForStop() async { await watcher?.value }

    private static func text(_ progress: Analysis.Progress) -> String {
        let read = ByteCountFormatter.string(fromByteCount: Int64(progress.bytes), countStyle: .binary)
        guard let size = progress.size, size > 0 else { return "\(progress.events) events, \(read)" }
        return "\(progress.events) events, \(progress.bytes * 100 / max(1, size)) % of "
            + ByteCountFormatter.string(fromByteCount: Int64(size), countStyle: .binary)
    }

    private func report(_ result: Analysis.Result) {
        for message in result.problems.messages { Terminal.complain("\(message)") }
        let unsaid = result.problems.count - UInt64(result.problems.messages.count)
        if unsaid > 0 { Terminal.complain("and \(unsaid) places more that could not be read") }
        if result.snapshot.completeness.events == 0 {
            Terminal.complain(
                result.otherLines > 0
                    ? "no line was written by a LOG or TRACE rule" : "no packet of NFLOG's and no line of LOG's was found")
        }
        let isUndecided = result.snapshot.paths.indices.contains {
            result.snapshot.paths[$0].incompleteReason == .probesMissing
        }
        if isUndecided, !hasRules {
            Terminal.note(
                "How journeys ended cannot be told without the rules that were in force: give what iptables-save printed "
                    + "with --rules NAMESPACE=FILE")
        }
    }
}

/// The thread of an analysis. Its result is waited for without holding up a thread that others need.
private final class AnalysisThread: Sendable {
    private let results: AsyncStream<Swift.Result<Analysis.Result, CaptureError>>

    init(_ analysis: Analysis, _ options: Analysis.Options, _ consumer: (any JourneyWatcher)?) {
        let (stream, continuation) = AsyncStream.makeStream(of: Swift.Result<Analysis.Result, CaptureError>.self)
        results = stream
        let thread = Thread {
            do throws(CaptureError) {
                continuation.yield(.success(try analysis.run(options, watcher: consumer)))
            } catch {
                continuation.yield(.failure(error))
            }
            continuation.finish()
        }
        thread.name = "analysis"
        thread.stackSize = 4 << 20
        thread.start()
    }

    var result: Swift.Result<Analysis.Result, CaptureError>? {
        get async {
            for await result in results { return result }
            return nil
        }
    }
}
