internal import Aggregation
internal import HTTPServer
internal import Reports

extension Route {
    /// `/journeys/{id}`.
    static let journey = Route(["journeys", "{id}"], scope: .journeys) { snapshot, request, _ in
        try .json(snapshot.journeyReport(id: request.components[1]), orNo: "journey")
    }
}
