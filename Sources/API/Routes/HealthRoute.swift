internal import HTTPServer
internal import Reports

extension Route {
    /// `/healthz`: 200 in any case, since starting the collector anew, as a probe of Kubernetes would, makes no room on a disk.
    static let health = Route(["healthz"], isOpen: true) { _, services in
        .now(try .json(HealthReport(recording: services.recording(), troubles: services.troubles())))
    }
}
