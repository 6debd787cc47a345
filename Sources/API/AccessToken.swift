internal import HTTPServer
internal import HTTPTypes

/// What clients have to show where not everybody may ask (RFC 6750).
public struct AccessToken: Sendable {
    private let bytes: [UInt8]

    /// - Returns: `nil` for text that is too short to keep anybody out, or that no header field can hold.
    public init?(_ text: String) {
        guard text.utf8.count >= 16, text.utf8.allSatisfy({ $0 > 0x20 && $0 < 0x7F }) else { return nil }
        bytes = Array(text.utf8)
    }

    /// Whether an Authorization field has it. Takes as long for a wrong one as for another of the same length.
    func isNamed(in field: String?) -> Bool {
        let scheme = "bearer "
        guard let field, field.prefix(scheme.count).lowercased() == scheme else { return false }
        let given = Array(field.dropFirst(scheme.count).utf8)
        guard given.count == bytes.count else { return false }
        return zip(given, bytes).reduce(0) { $0 | ($1.0 ^ $1.1) } == 0
    }
}

extension EndpointResponse {
    static var unauthorized: EndpointResponse {
        var response = problem(.unauthorized, "a token is wanted: Authorization: Bearer TOKEN")
        response.head.headerFields[.wwwAuthenticate] = "Bearer"
        return response
    }
}
