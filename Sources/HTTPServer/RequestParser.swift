public import HTTPTypes

/// Reads the head of an HTTP/1.1 request (RFC 9112) as its bytes arrive. It accepts what the endpoint serves, GET and
/// HEAD without a body, and names the status for everything else.
public struct RequestParser: Sendable {
    public static let maximumRequestLine = 8 << 10
    public static let maximumFields = 100
    public static let maximumFieldBytes = 32 << 10

    public struct Request: Sendable, Equatable {
        public var request: HTTPRequest
        /// Whether the connection is to stay open.
        public var keepsAlive: Bool
    }

    public enum Result: Sendable, Equatable {
        case needsMore
        case request(Request)
        /// The connection has to be closed behind the answer.
        case refused(HTTPResponse.Status, String)
    }

    private var bytes: [UInt8] = []
    /// Everything before was searched for the end of the line already: each byte is looked at once.
    private var searched = 0
    private var lineStart = 0
    private var requestLine: (method: String, target: String, isVersion11: Bool)?
    private var fields: [(name: String, value: String)] = []
    private var fieldBytes = 0
    private var blankLines = 0

    public init() {}

    public var isEmpty: Bool { bytes.isEmpty }

    /// Whether a request has begun to arrive.
    public var hasBegun: Bool { requestLine != nil || !bytes.isEmpty }

    public mutating func append(_ new: some Sequence<UInt8>) { bytes += new }

    /// The next request, as far as it has arrived. Call again after each request: more may be there already.
    public mutating func next() -> Result {
        while let end = bytes[searched...].firstIndex(of: 0x0A) {
            searched = end + 1
            var line = bytes[lineStart..<end]
            lineStart = end + 1
            if line.last == 0x0D { line.removeLast() }
            if let result = take(line) {
                bytes.removeFirst(lineStart)
                searched = 0
                lineStart = 0
                requestLine = nil
                fields = []
                fieldBytes = 0
                blankLines = 0
                return result
            }
        }
        searched = bytes.count
        let pending = bytes.count - lineStart
        if requestLine == nil, pending > Self.maximumRequestLine {
            return .refused(.uriTooLong, "the request line is longer than \(Self.maximumRequestLine) bytes")
        }
        if requestLine != nil, fieldBytes + pending > Self.maximumFieldBytes { return tooManyFields }
        return .needsMore
    }

    private var tooManyFields: Result {
        .refused(
            .requestHeaderFieldsTooLarge,
            "more than \(Self.maximumFields) header fields or \(Self.maximumFieldBytes) bytes of them")
    }

    /// Takes one line without its end; a result ends the head.
    private mutating func take(_ line: ArraySlice<UInt8>) -> Result? {
        if requestLine == nil {
            // Empty lines before a request are skipped (RFC 9112, section 2.2), a few.
            if line.isEmpty {
                blankLines += 1
                return blankLines > 4 ? .refused(.badRequest, "no request line") : nil
            }
            return takeRequestLine(line)
        }
        if line.isEmpty { return finish() }
        fieldBytes += line.count
        guard fields.count < Self.maximumFields, fieldBytes <= Self.maximumFieldBytes else { return tooManyFields }
        guard let colon = line.firstIndex(of: 0x3A), colon > line.startIndex, line.first != 0x20, line.first != 0x09 else {
            return .refused(.badRequest, "a header field without a name")
        }
        let name = line[..<colon]
        guard name.allSatisfy(Self.isTokenCharacter) else {
            return .refused(.badRequest, "a header field with an invalid name")
        }
        let value = line[(colon + 1)...]
        guard value.allSatisfy({ $0 >= 0x20 && $0 != 0x7F || $0 == 0x09 }) else {
            return .refused(.badRequest, "a header field with control characters")
        }
        fields.append((String(decoding: name, as: UTF8.self).lowercased(), Self.trimmed(value)))
        return nil
    }

    private mutating func takeRequestLine(_ line: ArraySlice<UInt8>) -> Result? {
        guard line.count <= Self.maximumRequestLine else {
            return .refused(.uriTooLong, "the request line is longer than \(Self.maximumRequestLine) bytes")
        }
        let parts = line.split(separator: 0x20, omittingEmptySubsequences: false)
        guard parts.count == 3, !parts[0].isEmpty, parts[0].allSatisfy(Self.isTokenCharacter), !parts[1].isEmpty,
            parts[1].allSatisfy({ $0 > 0x20 && $0 < 0x7F })
        else { return .refused(.badRequest, "not an HTTP request line") }
        let version = String(decoding: parts[2], as: UTF8.self)
        guard version == "HTTP/1.1" || version == "HTTP/1.0" else {
            return version.hasPrefix("HTTP/")
                ? .refused(.httpVersionNotSupported, "only HTTP/1.0 and HTTP/1.1 are served")
                : .refused(.badRequest, "not an HTTP request line")
        }
        let method = String(decoding: parts[0], as: UTF8.self)
        requestLine = (method, String(decoding: parts[1], as: UTF8.self), version == "HTTP/1.1")
        return nil
    }

    private func finish() -> Result {
        guard let requestLine else { return .refused(.badRequest, "no request line") }
        func values(_ name: String) -> [String] { fields.filter { $0.name == name }.map(\.value) }
        guard let method = HTTPRequest.Method(requestLine.method) else {
            return .refused(.badRequest, "an invalid method")
        }
        if !values("transfer-encoding").isEmpty {
            return .refused(.badRequest, "a request with a body is not served")
        }
        let lengths = values("content-length")
        if lengths.count > 1 { return .refused(.badRequest, "more than one Content-Length") }
        if let length = lengths.first {
            guard !length.isEmpty, length.utf8.allSatisfy({ $0 >= 0x30 && $0 <= 0x39 }) else {
                return .refused(.badRequest, "an invalid Content-Length")
            }
            guard length.allSatisfy({ $0 == "0" }) else { return .refused(.contentTooLarge, "a body is not served") }
        }
        let hosts = values("host")
        guard hosts.count == 1 || hosts.isEmpty && !requestLine.isVersion11 else {
            return .refused(.badRequest, "exactly one Host field is needed")
        }
        guard let (authority, path) = Self.parts(ofTarget: requestLine.target) else {
            return .refused(.badRequest, "only targets that begin with / or http:// are served")
        }
        // The authority of an absolute target replaces that of the Host field (RFC 9112, section 3.2.2).
        var request = HTTPRequest(method: method, scheme: "http", authority: authority ?? hosts.first, path: path)
        for field in fields {
            if let name = HTTPField.Name(field.name) { request.headerFields.append(HTTPField(name: name, value: field.value)) }
        }
        let options: [String] = values("connection").flatMap { value in
            value.lowercased().split(separator: ",").map { option in String(option.filter { $0 != " " }) }
        }
        let keepsAlive = requestLine.isVersion11 ? !options.contains("close") : options.contains("keep-alive")
        return .request(Request(request: request, keepsAlive: keepsAlive))
    }

    /// - Returns: path and query of a target in origin form or absolute form (RFC 9112, section 3.2), with the authority that
    ///   the latter names; `nil` for other forms.
    private static func parts(ofTarget target: String) -> (authority: String?, path: String)? {
        if target.hasPrefix("/") { return (nil, target) }
        let scheme = "http://"
        guard target.prefix(scheme.count).lowercased() == scheme else { return nil }
        let rest = target.dropFirst(scheme.count)
        let authority = rest.prefix { $0 != "/" && $0 != "?" }
        let path = rest[authority.endIndex...]
        return (String(authority), path.hasPrefix("/") ? String(path) : "/" + path)
    }

    /// RFC 9110, section 5.6.2.
    private static func isTokenCharacter(_ byte: UInt8) -> Bool {
        switch byte {
        case 0x30...0x39, 0x41...0x5A, 0x61...0x7A: true
        default: "!#$%&'*+-.^_`|~".utf8.contains(byte)
        }
    }

    private static func trimmed(_ bytes: ArraySlice<UInt8>) -> String {
        var bytes = bytes
        while let first = bytes.first, first == 0x20 || first == 0x09 { bytes.removeFirst() }
        while let last = bytes.last, last == 0x20 || last == 0x09 { bytes.removeLast() }
        return String(decoding: bytes, as: UTF8.self)
    }
}
