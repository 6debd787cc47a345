import API
import Aggregation
import HTTPServer
import HTTPTypes
import Testing
import TraceModel

/// Parameters of the routes: met or refused, never ignored.
@Suite struct RouteParameterTests {
    private static let routes = TraceRoutes(
        TraceServices(
            snapshot: { _ in
                TraceSnapshot(
                    generatedAt: 0, since: 0, context: TraceContext(run: 1, layout: Layout(), stepTrie: StepTrie(capacity: 1)),
                    completeness: Completeness(), paths: PathTable(), flows: [], journeys: [])
            }, probes: { [] }))

    private func answer(_ path: String) async -> EndpointResponse {
        let request = HTTPRequest(method: .get, scheme: "http", authority: "localhost", path: path)
        switch Self.routes.answer(request) {
        case .now(let response): return response
        case .later(_, let make): return await make()
        case .stream: return EndpointResponse(status: .ok)
        }
    }

    @Test(
        "a parameter that is unknown, repeated, empty or impossible is refused with the way out",
        arguments: [
            ("/journeys?adress=10.0.0.1", "it takes limit, netns, proto, outcome, address, port, since, until"),
            ("/flows?proto=tpc", "proto is a protocol's name or number"), ("/findings?limit=3", "it takes netns"),
            ("/paths?limt=3", "has no parameter limt"), ("/paths?limit=3&limit=4", "limit is given twice"),
            ("/paths?limit=10001", "limit is a number from 0 to 10000"), ("/paths?netns=", "netns has no value"),
            ("/drops?address=host", "address is an address or a prefix"), ("/paths?outcome=gone", "outcome is one of"),
            ("/paths?since=yesterday", "since is a time such as"), ("/flows?until=99999999999999d", "until is too far away"),
            ("/journeys?port=65536", "port is a number"),
            ("/journeys?address=10.0.0.0/33", "address is an address or a prefix"),
            ("/paths/abc?limit=1", "it takes none"), ("/metrics?netns=host", "it takes none"),
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
        arguments: [
            "/paths?limit=3&proto=tcp&address=::1", "/journeys?outcome=dropped&outcome=sent", "/flows?limit=0&proto=6",
            "/drops?address=10.0.0.0/8&address=2001:db8::/32&port=53&since=5m&until=2026-01-31T12:00:00Z",
            "/findings?netns=host&netns=guest", "/precedence?netns=host", "/namespaces?netns=host", "/journeys?address=::1",
        ])
    func met(_ path: String) async { #expect(await answer(path).head.status == .ok) }

    @Test("a path below a resource that has none is not found", arguments: ["/healthz/x", "/findings/x", "/nothing"])
    func notFound(_ path: String) async { #expect(await answer(path).head.status == .notFound) }
}
