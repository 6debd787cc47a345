import API
import Aggregation
import HTTPServer
import HTTPTypes
import Testing
import TraceModel

/// Parameters of the routes: met or refused, never ignored.
@Suite struct RouteParameterTests {
    private static let routes = TraceRoutes(
        snapshot: { _ in
            TraceSnapshot(
                generatedAt: 0, since: 0, context: TraceContext(run: 1, layout: Layout(), routes: StepTrie(capacity: 1)),
                completeness: Completeness(), paths: PathTable(), flows: [], journeys: [])
        }, probes: { [] })

    private func answer(_ path: String) async -> EndpointResponse {
        let request = HTTPRequest(method: .get, scheme: "http", authority: "localhost", path: path)
        switch Self.routes.answer(request) {
        case .now(let response): return response
        case .later(_, let make): return await make()
        }
    }

    @Test(
        "a parameter that is unknown, repeated, empty or impossible is refused with the way out",
        arguments: [
            ("/journeys?address=10.0.0.1", "it takes limit, outcome"), ("/flows?proto=tcp", "it takes limit"),
            ("/findings?limit=3", "it takes none"), ("/paths?limt=3", "has no parameter limt"),
            ("/paths?limit=3&limit=4", "limit is given twice"), ("/paths?netns=", "netns has no value"),
            ("/paths?address=host", "address is one address"), ("/paths?outcome=gone", "outcome is one of"),
            ("/paths/abc?limit=1", "it takes none"), ("/namespaces?netns=host", "it takes none"),
            ("/?limit=1", "it takes none"),
            ("/healthz?verbose=1", "it takes none"), ("/probes?netns=host", "it takes none"),
        ])
    func refused(_ path: String, _ message: String) async {
        let answer = await answer(path)
        #expect(answer.head.status == .badRequest)
        #expect(String(decoding: answer.body, as: UTF8.self).contains(message))
    }

    @Test(
        "known parameters are met",
        arguments: ["/paths?limit=3&proto=tcp&address=::1", "/journeys?outcome=dropped", "/flows?limit=0"])
    func met(_ path: String) async { #expect(await answer(path).head.status == .ok) }

    @Test("a path below a resource that has none is not found", arguments: ["/healthz/x", "/findings/x", "/nothing"])
    func notFound(_ path: String) async { #expect(await answer(path).head.status == .notFound) }
}
