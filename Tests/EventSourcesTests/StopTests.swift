import Aggregation
import EventSources
import Foundation
import Glibc
import Testing

/// An analysis that waits for a pipe, and is asked to stop.
@Suite struct StopTests {
    enum Writer: CaseIterable, Sendable {
        case none, silent, inTheMiddleOfALine
    }

    @Test("a pipe that brings nothing holds nobody up", .timeLimit(.minutes(1)), arguments: Writer.allCases, [false, true])
    func stops(_ writer: Writer, follows: Bool) async throws {
        let folder = "\(NSTemporaryDirectory())ipt-trace-test-\(UUID().uuidString)"
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(atPath: folder) }
        let pipe = "\(folder)/pipe"
        try #require(unsafe mkfifo(pipe, 0o600) == 0)
        let descriptor = writer == .none ? -1 : unsafe open(pipe, O_RDWR | O_CLOEXEC)
        defer { if descriptor >= 0 { close(descriptor) } }
        if writer == .inTheMiddleOfALine { try #require(unsafe write(descriptor, "Nov 21 10:59:20 host ker", 24) == 24) }
        let analysis = Analysis()
        async let result: Analysis.Result? = withCheckedContinuation { continuation in
            Thread.detachNewThread {
                continuation.resume(returning: try? analysis.run(Analysis.Options(files: [pipe], follows: follows)))
            }
        }
        try await Task.sleep(for: .milliseconds(200))
        analysis.stop()
        let ended = try #require(await result)
        #expect(ended.snapshot.completeness.events == 0)
    }
}
