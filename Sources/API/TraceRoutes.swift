public import HTTPServer
public import HTTPTypes
internal import Reports

/// Which request is answered by what.
public struct TraceRoutes: Sendable {
    static let all: [Route] =
        [.index] + ReportTable.all.map(Route.report) + [
            .path, .journey, .probes, .metrics, .health, .events, .version, .openAPI,
        ]

    private let services: TraceServices

    public init(_ services: TraceServices) { self.services = services }

    /// Answers at once what needs no snapshot; the rest is made by the server's workers.
    public func answer(_ request: HTTPRequest) -> EndpointAnswer {
        let request = RouteRequest(request)
        let found = Self.all.first { $0.matches(request.components) }
        if let token = services.token, found?.isOpen != true, !token.isNamed(in: request.authorization) {
            return .now(.unauthorized)
        }
        guard let route = found else {
            return .now(.problem(.notFound, "no such resource; /openapi.json lists what there is"))
        }
        do {
            // Before anything is made: a parameter that is not taken is refused, never ignored.
            _ = try request.filter(route.filters, isPaged: route.isPaged)
            return try route.answer(request, services)
        } catch let problem as QueryProblem {
            return .now(.problem(.badRequest, problem.message))
        } catch {
            return .now(.problem(.internalServerError, "the report could not be made"))
        }
    }
}
