internal import HTTPServer
internal import HTTPTypes

extension Route {
    /// `/probes`: those that the namespaces' rules hold.
    static let probes = Route(["probes"]) { _, services in
        .later {
            do {
                return .json(try await services.probes())
            } catch {
                return .problem(.internalServerError, "the rules could not be read: \(error)")
            }
        }
    }
}
