internal import HTTPServer
internal import Reports

extension Route {
    private struct Version: Encodable {
        var schema = 1
        var version: String
    }

    /// `/version`, without a token.
    static let version = Route(["version"], isOpen: true) { _, services in .now(try .json(Version(version: services.version))) }
}
