internal import HTTPServer
internal import HTTPTypes
internal import Reports

extension Route {
    /// `/metrics`, in Prometheus' text format.
    static let metrics = Route(["metrics"], mediaType: "text/plain") { snapshot, _, services in
        EndpointResponse(
            status: .ok, contentType: "text/plain; version=0.0.4; charset=utf-8",
            body: Array(snapshot.metrics(recording: services.recording()).utf8))
    }
}
