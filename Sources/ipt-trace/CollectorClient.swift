import Aggregation
import Foundation
import FoundationNetworking
import Reports

/// Asks a collector over HTTP.
struct CollectorClient {
    var base: String
    /// Shown with each request; `nil`: none.
    var token: String?

    func report<Kind: Report>(_ kind: Kind.Type, _ filter: TraceFilter) async throws -> Kind {
        let query = filter.words.map { URLQueryItem(name: $0.field.rawValue, value: $0.value) }
        let data = try await get("/\(kind.name)", query)
        do {
            return try ReportJSON.decode(kind, from: data)
        } catch {
            throw CommandFailure(message: "what \(base) answers is not from a collector of this version")
        }
    }

    func get(_ path: String, _ query: [URLQueryItem] = []) async throws -> Data {
        guard var parts = URLComponents(string: base), parts.scheme == "http" || parts.scheme == "https", parts.host != nil
        else {
            throw CommandFailure(
                message: "\(base) is not a URL such as http://127.0.0.1:9100; --url or IPT_TRACE_URL names the collector",
                code: ExitStatus.usage)
        }
        parts.path = path
        if !query.isEmpty { parts.queryItems = query }
        guard let url = parts.url else {
            throw CommandFailure(
                message: "\(base) is not a URL such as http://127.0.0.1:9100; --url or IPT_TRACE_URL names the collector",
                code: ExitStatus.usage)
        }
        let configuration = URLSessionConfiguration.ephemeral
        configuration.timeoutIntervalForRequest = 10
        let answer: (data: Data, response: URLResponse)
        do {
            var request = URLRequest(url: url)
            if let token { request.setValue("Bearer \(token)", forHTTPHeaderField: "Authorization") }
            answer = try await URLSession(configuration: configuration).data(for: request)
        } catch {
            throw CommandFailure(
                message: "no collector answers at \(base). Start one with: sudo ipt-trace collect, or name it with --url")
        }
        guard let status = (answer.response as? HTTPURLResponse)?.statusCode, status == 200 else {
            let status = (answer.response as? HTTPURLResponse)?.statusCode ?? 0
            throw CommandFailure(
                message: "\(base)\(path) answers \(status): \(String(decoding: answer.data.prefix(300), as: UTF8.self))")
        }
        return answer.data
    }
}
