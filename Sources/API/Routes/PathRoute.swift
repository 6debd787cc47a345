internal import HTTPServer
internal import Reports

extension Route {
    /// `/paths/{id}`.
    static let path = Route(["paths", "{id}"]) { snapshot, request, _ in
        try .json(snapshot.pathReport(id: request.components[1]), orNo: "path")
    }
}
