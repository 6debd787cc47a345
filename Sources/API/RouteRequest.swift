internal import HTTPTypes
internal import Reports
private import Foundation

/// A request's path and query.
struct RouteRequest: Sendable {
    let components: [String]
    /// As they were given, in order.
    private let parameters: [(name: String, value: String)]
    let authorization: String?
    let ifNoneMatch: String?
    let lastEventID: String?

    init(_ request: HTTPRequest) {
        authorization = request.headerFields[.authorization]
        ifNoneMatch = request.headerFields[.ifNoneMatch]
        lastEventID = HTTPField.Name("Last-Event-ID").flatMap { request.headerFields[$0] }
        let target = request.path ?? "/"
        let parts = target.split(separator: "?", maxSplits: 1, omittingEmptySubsequences: false)
        components = parts[0].split(separator: "/").map(Self.decoded)
        parameters = (parts.count > 1 ? parts[1].split(separator: "&") : []).map { pair in
            let sides = pair.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false).map(Self.decoded)
            return (sides[0], sides.count > 1 ? sides[1] : "")
        }
    }

    private static func decoded(_ text: Substring) -> String { text.removingPercentEncoding ?? String(text) }

    /// The parameters as a filter.
    ///
    /// - Throws: `QueryProblem` for a parameter that the resource does not take, or with a value that it cannot have.
    ///
    /// - Parameter isPaged: whether it takes a cursor.
    func filter(_ taken: [TraceFilter.Field], isPaged: Bool = false) throws(QueryProblem) -> TraceFilter {
        var filter = TraceFilter()
        for (name, value) in parameters {
            if isPaged, name == "cursor" {
                guard filter.cursor == nil, let cursor = ListCursor(value) else {
                    throw QueryProblem(message: "cursor is the next_cursor of an answer, once")
                }
                filter.cursor = cursor
                continue
            }
            guard let field = taken.first(where: { $0.rawValue == name }) else {
                let names =
                    taken.isEmpty
                    ? "it takes none"
                    : "it takes \((taken.map(\.rawValue) + (isPaged ? ["cursor"] : [])).joined(separator: ", "))"
                throw QueryProblem(message: "/\(components.joined(separator: "/")) has no parameter \(name); \(names)")
            }
            guard !value.isEmpty else { throw QueryProblem(message: "\(name) has no value") }
            do { try filter.add(field, value) } catch { throw QueryProblem(message: "\(error)") }
        }
        guard filter.limit <= Self.largestLimit else {
            throw QueryProblem(message: "limit is a number from 0 to \(Self.largestLimit)")
        }
        return filter
    }

    private static let largestLimit = 10_000
}

/// A query that cannot be answered, with the reason.
struct QueryProblem: Error {
    var message: String
}
