internal import Aggregation
internal import HTTPServer
internal import Reports

/// One resource of the endpoint. A new one is a file in `Routes` and a line in `TraceRoutes.all`; a report has one already.
struct Route: Sendable {
    /// `["paths", "{id}"]`; a component in braces stands for any.
    let path: [String]
    /// The parameters that it takes.
    let filters: [TraceFilter.Field]
    /// For the index.
    let note: String
    let answer: @Sendable (RouteRequest, TraceServices) throws -> EndpointAnswer

    init(
        _ path: [String], filters: [TraceFilter.Field] = [], note: String = "",
        answer: @escaping @Sendable (RouteRequest, TraceServices) throws -> EndpointAnswer
    ) {
        self.path = path
        self.filters = filters
        self.note = note
        self.answer = answer
    }

    /// A resource that is made from a snapshot.
    ///
    /// - Parameter scope: the parts that it needs.
    init(
        _ path: [String], scope: TraceSnapshot.Scope = [], note: String = "",
        render: @escaping @Sendable (TraceSnapshot, RouteRequest, TraceServices) throws -> EndpointResponse
    ) {
        self.init(path, note: note) { request, services in
            .later { await services.answer(scope) { try render($0, request, services) } }
        }
    }

    func matches(_ components: [String]) -> Bool {
        path.count == components.count && zip(path, components).allSatisfy { $0 == $1 || $0.hasPrefix("{") }
    }
}
