internal import HTTPServer
internal import HTTPTypes
internal import Reports

extension EndpointResponse {
    static func json(_ report: some Encodable) throws -> EndpointResponse { .json(Array(try ReportJSON.encode(report))) }

    /// - Parameter bytes: without a line's end, which is appended.
    static func json(_ bytes: [UInt8]) -> EndpointResponse {
        EndpointResponse(status: .ok, contentType: "application/json", body: bytes + [0x0A])
    }

    static func text(_ text: String) -> EndpointResponse {
        EndpointResponse(status: .ok, contentType: "text/plain; charset=utf-8", body: Array(text.utf8))
    }

    /// Answers with one entry of many, or with 404 where there is no such entry.
    static func json(_ report: (some Encodable)?, orNo noun: String) throws -> EndpointResponse {
        guard let report else { return .problem(.notFound, "no such \(noun); the latest and each path's example are kept") }
        return try .json(report)
    }
}
