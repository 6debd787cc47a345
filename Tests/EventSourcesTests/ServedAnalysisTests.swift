import API
import Aggregation
import EventSources
import Foundation
import Glibc
import HTTPServer
import HTTPTypes
import Reports
import Testing

/// The routes of an analysis in every phase of its reading.
@Suite struct ServedAnalysisTests {
    enum Phase: String, CaseIterable, Sendable {
        case silentPipe = "a pipe into which nothing is written"
        case followedFile = "a file that is followed, at its end"
        case endedFile = "a file that was read to its end"
    }

    @Test("every route is answered", arguments: Phase.allCases)
    func routes(_ phase: Phase) async throws {
        let folder = "\(NSTemporaryDirectory())ipt-trace-test-\(UUID().uuidString)"
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(atPath: folder) }
        let pipe = "\(folder)/pipe"
        let made = unsafe mkfifo(pipe, 0o600)
        try #require(made == 0)
        // With a writer it has no end.
        let writer = unsafe open(pipe, O_RDWR | O_CLOEXEC)
        defer { close(writer) }
        let file =
            phase == .silentPipe ? pipe : "\(Files.fixtures)/ping/\(phase == .endedFile ? "recording.pcapng" : "kernel.log")"
        let analysis = Analysis()
        async let result: Analysis.Result? = withCheckedContinuation { continuation in
            Thread.detachNewThread {
                continuation.resume(
                    returning: try? analysis.run(Analysis.Options(files: [file], follows: phase == .followedFile)))
            }
        }
        if phase == .endedFile { _ = try #require(await result) }
        let routes = TraceRoutes(
            TraceServices(
                snapshot: { _ in await analysis.snapshot() },
                probes: { Array("\(await analysis.snapshot()?.completeness.events ?? 0)".utf8) }))
        for path in [
            "/", "/paths", "/journeys", "/flows", "/drops", "/findings", "/precedence", "/probes", "/namespaces", "/metrics",
            "/healthz", "/paths?limit=10000",
        ] {
            let request = HTTPRequest(method: .get, scheme: "http", authority: "localhost", path: path)
            // Beside many other tests a snapshot may come too late for one request; that says so, and is asked again.
            var response: EndpointResponse
            var attempts = 0
            repeat {
                switch routes.answer(request) {
                case .now(let answer): response = answer
                case .later(_, let make): response = await make()
                case .stream: response = EndpointResponse(status: .ok)
                }
                attempts += 1
            } while response.head.status == .serviceUnavailable && attempts < 10
            #expect(response.head.status == .ok, "\(path)")
        }
        analysis.stop()
        _ = try #require(await result)
    }

    @Test(
        "a query that cannot be answered, or a resource that does not exist, needs no snapshot",
        arguments: [
            "/paths?limit=x": 400, "/journeys?outcome=x": 400, "/drops?limit=-1": 400, "/nothing": 404, "/paths/1/2": 404,
        ])
    func refused(_ path: String, _ status: Int) {
        let routes = TraceRoutes(TraceServices(snapshot: { _ in nil }, probes: { [] }))
        let request = HTTPRequest(method: .get, scheme: "http", authority: "localhost", path: path)
        guard case .now(let response) = routes.answer(request) else {
            Issue.record("made by a worker")
            return
        }
        #expect(response.head.status.code == status)
    }

    @Test("without a snapshot the answer is a 503 that asks to come back")
    func noSnapshot() async {
        let routes = TraceRoutes(TraceServices(snapshot: { _ in nil }, probes: { [] }))
        let request = HTTPRequest(method: .get, scheme: "http", authority: "localhost", path: "/paths")
        guard case .later(_, let make) = routes.answer(request) else {
            Issue.record("not made by a worker")
            return
        }
        let response = await make()
        #expect(response.head.status.code == 503 && response.head.headerFields[.retryAfter] == "1")
    }
}
