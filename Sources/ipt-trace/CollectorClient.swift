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
        let data = try await get("/\(kind.name)", filter.words)
        do {
            return try ReportJSON.decode(kind, from: data)
        } catch {
            throw CommandFailure(message: "what \(base) answers is not from a collector of this version")
        }
    }

    /// The answer to each of a filter's words.
    func get(_ path: String, _ words: [(field: TraceFilter.Field, value: String)]) async throws -> Data {
        try await get(path, words.map { URLQueryItem(name: $0.field.rawValue, value: $0.value) })
    }

    func get(_ path: String, _ query: [URLQueryItem] = []) async throws -> Data {
        let (data, status) = try await ask(path, query)
        guard status == 200 else {
            throw CommandFailure(
                message: "\(base)\(path) answers \(status): \(String(decoding: data.prefix(300), as: UTF8.self))")
        }
        return data
    }

    /// `nil` where there is no such thing.
    func find(_ path: String) async throws -> Data? {
        let (data, status) = try await ask(path, [])
        return status == 200 ? data : nil
    }

    private func ask(_ path: String, _ query: [URLQueryItem]) async throws -> (data: Data, status: Int) {
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
        return (answer.data, (answer.response as? HTTPURLResponse)?.statusCode ?? 0)
    }
}
