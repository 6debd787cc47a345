internal import Aggregation
internal import HTTPServer
internal import HTTPTypes
internal import Reports

extension Route {
    /// `/paths`, `/flows`, …: a report under its name.
    static func report(_ kind: any Report.Type) -> Route {
        Route([kind.name], filters: kind.filters, isPaged: kind.isPaged, isReport: true) { request, services in
            let filter = try request.filter(kind.filters, isPaged: kind.isPaged)
            return .later(filter.limit > 100 ? .large : .small) { await answer(kind, filter, request, services) }
        }
    }

    private static func answer(
        _ kind: any Report.Type, _ filter: TraceFilter, _ request: RouteRequest, _ services: TraceServices
    ) async -> EndpointResponse {
        if let cursor = filter.cursor {
            guard let snapshot = services.shelf.take(cursor.list) else {
                return .problem(.notFound, "that list is no longer kept; begin again without a cursor")
            }
            do {
                return try response(kind.init(snapshot, filter), request)
            } catch {
                return .problem(.internalServerError, "the report could not be made")
            }
        }
        return await services.answer(kind.scope(filter)) { snapshot in
            var filter = filter
            let list = UInt64.random(in: 1...UInt64.max)
            if kind.isPaged { filter.cursor = ListCursor(list: list, offset: 0) }
            let report = kind.init(snapshot, filter)
            if report.nextCursor != nil { services.shelf.put(snapshot, as: list) }
            return try response(report, request)
        }
    }

    private static func response(_ report: any Report, _ request: RouteRequest) throws -> EndpointResponse {
        let json = try report.json()
        let tag = ContentTag.of(json)
        let isKnown = ContentTag.isNamed(tag, in: request.ifNoneMatch)
        var response = isKnown ? EndpointResponse(status: .notModified) : EndpointResponse.json(json)
        response.head.headerFields[.eTag] = tag
        response.head.headerFields[.cacheControl] = "no-cache"
        return response
    }
}
