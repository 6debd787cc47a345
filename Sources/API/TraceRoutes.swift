public import HTTPServer
public import HTTPTypes
internal import Reports

/// Which request is answered by what.
public struct TraceRoutes: Sendable {
    static let all: [Route] =
        [.index] + ReportTable.all.map(Route.report) + [.path, .journey, .probes, .metrics, .health]

    private let services: TraceServices

    public init(_ services: TraceServices) { self.services = services }

    /// Answers at once what needs no snapshot; the rest is made by the server's workers.
    public func answer(_ request: HTTPRequest) -> EndpointAnswer {
        let request = RouteRequest(request.path ?? "/")
        guard let route = Self.all.first(where: { $0.matches(request.components) }) else {
            return .now(.problem(.notFound, "no such resource; / lists what there is"))
        }
        do {
            // Before anything is made: a parameter that is not taken is refused, never ignored.
            _ = try request.filter(route.filters)
            return try route.answer(request, services)
        } catch let problem as QueryProblem {
            return .now(.problem(.badRequest, problem.message))
        } catch {
            return .now(.problem(.internalServerError, "the report could not be made"))
        }
    }
}
