internal import HTTPServer
internal import Reports

extension Route {
    /// `/openapi.json`: these routes for programs that make clients (OpenAPI 3.1).
    static let openAPI = Route(["openapi.json"]) { _, services in .now(.json(Array(description(services.version).utf8))) }

    private static func description(_ version: String) -> String {
        let paths = TraceRoutes.all.map { route in
            "\(quoted("/" + route.path.joined(separator: "/"))):{\"get\":\(operation(route))}"
        }
        return """
            {"components":{"schemas":{"Error":\(error)},"securitySchemes":{"token":{"scheme":"bearer","type":"http"}}},\
            "info":{"title":"ipt-trace","version":\(quoted(version))},"openapi":"3.1.0",\
            "paths":{\(paths.joined(separator: ","))},"security":[{},{"token":[]}]}
            """
    }

    private static let error = """
        {"properties":{"error":{"properties":{"message":{"type":"string"},"status":{"type":"integer"}},\
        "required":["message","status"],"type":"object"}},"required":["error"],"type":"object"}
        """

    private static func operation(_ route: Route) -> String {
        let own = route.path.filter { $0.hasPrefix("{") }.map { component in
            "{\"in\":\"path\",\"name\":\(quoted(String(component.dropFirst().dropLast()))),\"required\":true,"
                + "\"schema\":{\"minLength\":1,\"type\":\"string\"}}"
        }
        var parameters = own + route.filters.map { parameter($0.rawValue, schema($0), isRepeated: $0 != .limit) }
        if route.isPaged {
            parameters.append(
                parameter("cursor", "{\"pattern\":\"^[0-9a-f]{1,16}[.][0-9]{1,6}$\",\"type\":\"string\"}", isRepeated: false))
        }
        // Statuses that a client has to expect beside the answer itself.
        var codes = ["400", "401", "503"]
        if !own.isEmpty || route.isPaged || route.isStream { codes.append("404") }
        if route.path == ["probes"] { codes.append("500") }
        let whole = route.mediaType == "application/json" ? "object" : "string"
        let content = "\(quoted(route.mediaType)):{\"schema\":{\"type\":\"\(whole)\"}}"
        let failures = codes.map { code in
            "\"\(code)\":{\"content\":{\"application/json\":{\"schema\":{\"$ref\":\"#/components/schemas/Error\"}}},"
                + "\"description\":\(quoted(Self.meanings[code] ?? "an error"))}"
        }
        let unchanged = route.isReport ? ["\"304\":{\"description\":\"as If-None-Match says that it is known\"}"] : []
        // Requests that are none of the route's: too long, for another machine, of another method.
        let others =
            "\"default\":{\"content\":{\"application/json\":{\"schema\":{\"$ref\":\"#/components/schemas/Error\"}}},"
            + "\"description\":\"a request that is not taken\"}"
        let answers =
            ["\"200\":{\"content\":{\(content)},\"description\":\"the answer\"}"] + unchanged + failures.sorted() + [others]
        return "{\"operationId\":\(quoted(route.path.isEmpty ? "index" : route.path.joined(separator: "-"))),"
            + "\"parameters\":[\(parameters.joined(separator: ","))],\"responses\":{\(answers.joined(separator: ","))}}"
    }

    private static let meanings = [
        "400": "a parameter that is not taken, or has no such value", "401": "a token is wanted",
        "404": "there is no such thing, or it is no longer kept", "500": "the rules could not be read",
        "503": "no answer came in time; ask again",
    ]

    private static func parameter(_ name: String, _ schema: String, isRepeated: Bool) -> String {
        let whole = isRepeated ? "{\"items\":\(schema),\"minItems\":1,\"type\":\"array\"}" : schema
        let style = isRepeated ? "\"explode\":true," : ""
        return "{\(style)\"in\":\"query\",\"name\":\(quoted(name)),\"schema\":\(whole)}"
    }

    private static func schema(_ field: TraceFilter.Field) -> String {
        switch field {
        case .limit: "{\"maximum\":10000,\"minimum\":0,\"type\":\"integer\"}"
        case .port: "{\"maximum\":65535,\"minimum\":0,\"type\":\"integer\"}"
        case .outcome: "{\"enum\":[\"delivered\",\"sent\",\"dropped\",\"incomplete\",\"open\"],\"type\":\"string\"}"
        case .proto: "{\"enum\":[\"tcp\",\"udp\",\"icmp\",\"icmpv6\",\"sctp\"],\"type\":\"string\"}"
        case .address: "{\"format\":\"ipv4\",\"type\":\"string\"}"
        case .netns: "{\"minLength\":1,\"type\":\"string\"}"
        case .since, .until: "{\"pattern\":\"^[0-9]{1,5}[smhd]$\",\"type\":\"string\"}"
        }
    }

    private static func quoted(_ text: String) -> String {
        "\"" + text.replacing("\\", with: "\\\\").replacing("\"", with: "\\\"") + "\""
    }
}
