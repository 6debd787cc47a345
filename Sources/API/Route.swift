internal import Aggregation
internal import HTTPServer
internal import Reports

/// One resource of the endpoint. A new one is a file in `Routes` and a line in `TraceRoutes.all`; a report has one already.
struct Route: Sendable {
    /// `["paths", "{id}"]`; a component in braces stands for any.
    let path: [String]
    /// The parameters that it takes.
    let filters: [TraceFilter.Field]
    /// Whether it is a list of which pages can be asked for (`cursor`).
    let isPaged: Bool
    /// Whether it is answered without a token.
    let isOpen: Bool
    /// Whether it is a report, whose content has a tag.
    let isReport: Bool
    /// Of the answer.
    let mediaType: String
    /// Whether the answer goes on until its client leaves.
    let isStream: Bool
    let answer: @Sendable (RouteRequest, TraceServices) throws -> EndpointAnswer

    init(
        _ path: [String], filters: [TraceFilter.Field] = [], isPaged: Bool = false, isOpen: Bool = false,
        isReport: Bool = false, mediaType: String = "application/json", isStream: Bool = false,
        answer: @escaping @Sendable (RouteRequest, TraceServices) throws -> EndpointAnswer
    ) {
        self.path = path
        self.filters = filters
        self.isPaged = isPaged
        self.isOpen = isOpen
        self.isReport = isReport
        self.mediaType = mediaType
        self.isStream = isStream
        self.answer = answer
    }

    /// A resource that is made from a snapshot.
    ///
    /// - Parameter scope: the parts that it needs.
    init(
        _ path: [String], scope: TraceSnapshot.Scope = [], mediaType: String = "application/json",
        render: @escaping @Sendable (TraceSnapshot, RouteRequest, TraceServices) throws -> EndpointResponse
    ) {
        self.init(path, mediaType: mediaType) { request, services in
            .later { await services.answer(scope) { try render($0, request, services) } }
        }
    }

    func matches(_ components: [String]) -> Bool {
        path.count == components.count && zip(path, components).allSatisfy { $0 == $1 || $0.hasPrefix("{") }
    }
}
