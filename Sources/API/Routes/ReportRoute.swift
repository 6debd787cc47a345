internal import HTTPServer
internal import Reports

extension Route {
    /// `/paths`, `/flows`, …: a report under its name.
    static func report(_ kind: any Report.Type) -> Route {
        Route([kind.name], filters: kind.filters) { request, services in
            let filter = try request.filter(kind.filters)
            return .later(filter.limit > 100 ? .large : .small) {
                await services.answer(kind.scope(filter)) { .json(try kind.init($0, filter).json()) }
            }
        }
    }
}
