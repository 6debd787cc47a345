public import HTTPTypes

/// A handler's answer.
public struct EndpointResponse: Sendable {
    public var head: HTTPResponse
    public var body: [UInt8]

    /// Without content.
    public init(status: HTTPResponse.Status) {
        head = HTTPResponse(status: status)
        body = []
    }

    public init(status: HTTPResponse.Status, contentType: String, body: [UInt8]) {
        head = HTTPResponse(status: status)
        head.headerFields[.contentType] = contentType
        self.body = body
    }
}

/// An answer to a request.
public enum EndpointAnswer: Sendable {
    /// Made on the server's thread: in microseconds, and without waiting.
    case now(EndpointResponse)
    /// Made by the server's workers, while the server goes on. It is cancelled when its connection closes.
    case later(AnswerSize = .small, @Sendable () async -> EndpointResponse)
    /// Goes on until its client leaves, or the server stops.
    case stream(contentType: String, any StreamSource)
}

/// Where the content of a stream comes from.
public protocol StreamSource: Sendable {
    /// What there is to send now: called several times a second on the server's thread, and only when the client has taken all before,
    /// so that a source has to bound its waiting content. Must not wait.
    func next() -> [UInt8]
}

/// Size of an answer: large ones have workers of their own, so that small ones do not wait for them.
public enum AnswerSize: Sendable {
    /// Some 10 ms of work, 1 MB at most.
    case small
    case large
}

/// The bytes of a response with `Content-Length`, `Date` left out (RFC 9110 asks for it only of servers with a clock that
/// they vouch for).
func serialize(_ response: EndpointResponse, isHead: Bool, keepsAlive: Bool) -> [UInt8] {
    var text = "HTTP/1.1 \(response.head.status.code) \(response.head.status.reasonPhrase)\r\n"
    for field in response.head.headerFields { text += "\(field.name.rawName): \(field.value)\r\n" }
    // With 304 the field would give the length of the content that is not sent (RFC 9110, section 8.6).
    if response.head.status != .notModified { text += "Content-Length: \(response.body.count)\r\n" }
    text += "X-Content-Type-Options: nosniff\r\n"
    if response.head.headerFields[.cacheControl] == nil { text += "Cache-Control: no-store\r\n" }
    text += keepsAlive ? "\r\n" : "Connection: close\r\n\r\n"
    return Array(text.utf8) + (isHead ? [] : response.body)
}

/// The head of a stream, whose end is that of its connection.
func serialize(streamOf contentType: String) -> [UInt8] {
    Array(
        """
        HTTP/1.1 200 OK\r
        Content-Type: \(contentType)\r
        X-Content-Type-Options: nosniff\r
        Cache-Control: no-store\r
        Connection: close\r
        \r

        """.utf8)
}

extension EndpointResponse {
    /// An error as JSON: `{"error": {"status": 404, "message": "…"}}`.
    public static func problem(_ status: HTTPResponse.Status, _ message: String) -> EndpointResponse {
        var escaped = ""
        for unit in message.utf16 {
            switch unit {
            case 0x22, 0x5C: escaped += "\\\(Unicode.Scalar(UInt8(unit)))"
            case 0x20..<0x7F: escaped.unicodeScalars.append(Unicode.Scalar(UInt8(unit)))
            default: escaped += "\\u" + String(0x10000 | UInt32(unit), radix: 16).dropFirst()
            }
        }
        return EndpointResponse(
            status: status, contentType: "application/json",
            body: Array("{\"error\":{\"message\":\"\(escaped)\",\"status\":\(status.code)}}\n".utf8))
    }

    /// A 503 that asks the client to come back in a second.
    public static func unavailable(_ message: String) -> EndpointResponse {
        var response = problem(.serviceUnavailable, message)
        response.head.headerFields[.retryAfter] = "1"
        return response
    }
}
