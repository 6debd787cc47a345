public import Aggregation
private import Foundation
public import HTTPServer
public import HTTPTypes
public import Reports
internal import TraceModel

/// What the endpoint serves, and from where.
public struct TraceRoutes: Sendable {
    /// A snapshot of the present state with at least a scope; `nil` where none came in time.
    public typealias SnapshotSource = @Sendable (TraceSnapshot.Scope) async -> TraceSnapshot?
    /// The probes as JSON: read from the rules, which takes a moment.
    public typealias ProbesSource = @Sendable () async throws -> [UInt8]

    /// State of the recording; `nil` where there is none. Must not wait.
    public typealias RecordingSource = @Sendable () -> RecordingStatus?
    /// What else keeps the service from being complete, one sentence each; none where nothing does. Must not wait.
    public typealias TroubleSource = @Sendable () -> [String]

    private let snapshot: SnapshotSource
    private let probes: ProbesSource
    private let recording: RecordingSource
    private let troubles: TroubleSource

    public init(
        snapshot: @escaping SnapshotSource, probes: @escaping ProbesSource, recording: @escaping RecordingSource = { nil },
        troubles: @escaping TroubleSource = { [] }
    ) {
        self.snapshot = snapshot
        self.probes = probes
        self.recording = recording
        self.troubles = troubles
    }

    /// Answers at once what needs no snapshot; the rest is made by the server's workers.
    public func answer(_ request: HTTPRequest) -> EndpointAnswer {
        do {
            let target = try Target(request.path ?? "/")
            switch target.components.first {
            case nil:
                try target.checkAllAreTaken()
                return .now(.text(index))
            // 200 in any case: starting the collector anew, as a probe of Kubernetes would, makes no room on a disk.
            case "healthz" where target.components.count == 1:
                try target.checkAllAreTaken()
                return .now(try .json(HealthReport(recording: recording(), troubles: troubles())))
            case "probes" where target.components.count == 1:
                try target.checkAllAreTaken()
                return .later { await probesAnswer() }
            default: break
            }
            guard let render = try rendering(of: target) else {
                return .now(.problem(.notFound, "no such resource; / lists what there is"))
            }
            try target.checkAllAreTaken()
            let isLarge = try target.limit() > 100
            return .later(isLarge ? .large : .small) { await answer(scope(of: target), render) }
        } catch let problem as QueryProblem {
            return .now(.problem(.badRequest, problem.message))
        } catch {
            return .now(.problem(.internalServerError, "the report could not be made"))
        }
    }

    private func answer(_ scope: TraceSnapshot.Scope, _ render: Rendering) async -> EndpointResponse {
        guard let snapshot = await snapshot(scope) else {
            return .unavailable("no snapshot came in time; ask again in a second")
        }
        // Nobody reads the answer of a connection that has closed.
        guard !Task.isCancelled else { return .unavailable("cancelled") }
        do {
            return try render(snapshot)
        } catch {
            return .problem(.internalServerError, "the report could not be made")
        }
    }

    private typealias Rendering = @Sendable (TraceSnapshot) throws -> EndpointResponse

    /// - Returns: how the resource is made from a snapshot; `nil` for one that does not exist.
    private func rendering(of target: Target) throws -> Rendering? {
        let parts = target.components
        switch (parts[0], parts.count) {
        case ("paths", 1):
            let filter = try target.pathFilter()
            return { .json(try $0.pathsReport(filter).json() + [0x0A]) }
        case ("paths", 2): return { try found($0.pathReport(id: parts[1]), "path") }
        case ("journeys", 1):
            let (limit, outcome) = (try target.limit(), try target.outcome())
            return { try .json($0.journeysReport(limit: limit, outcome: outcome)) }
        case ("journeys", 2): return { try found($0.journeyReport(id: parts[1]), "journey") }
        case ("flows", 1):
            let limit = try target.limit()
            return { try .json($0.flowsReport(limit: limit)) }
        case ("drops", 1):
            let limit = try target.limit()
            return { try .json($0.dropsReport(limit: limit)) }
        case ("findings", 1): return { try .json($0.findingsReport()) }
        case ("precedence", 1): return { try .json($0.precedenceReport()) }
        case ("metrics", 1):
            return { snapshot in
                EndpointResponse(
                    status: .ok, contentType: "text/plain; version=0.0.4; charset=utf-8",
                    body: Array(snapshot.metrics(recording: recording()).utf8))
            }
        case ("namespaces", 1): return { try .json($0.namespacesReport()) }
        default: return nil
        }
    }

    private func scope(of target: Target) -> TraceSnapshot.Scope {
        switch target.components.first {
        case "flows", "findings": .flows
        case "journeys": .journeys
        default: []
        }
    }

    private func found(_ report: (some Encodable)?, _ noun: String) throws -> EndpointResponse {
        guard let report else { return .problem(.notFound, "no such \(noun); the latest and each path's example are kept") }
        return try .json(report)
    }

    private func probesAnswer() async -> EndpointResponse {
        do {
            return .json(try await probes())
        } catch {
            return .problem(.internalServerError, "the rules could not be read: \(error)")
        }
    }

    private var index: String {
        """
        ipt-trace: which way packets take through iptables

        /paths        ?limit= &netns= &proto= &outcome= &address= &port= &since=
        /paths/{id}
        /journeys     ?limit= &outcome=
        /journeys/{id}
        /flows        ?limit=
        /drops        ?limit=
        /findings
        /precedence
        /probes
        /namespaces
        /metrics      for Prometheus
        /healthz

        """
    }
}

/// A query that cannot be answered, with the reason.
struct QueryProblem: Error {
    var message: String
}

/// A request's path and query.
struct Target {
    var components: [String]
    private var query: [String: String] = [:]

    init(_ text: String) throws(QueryProblem) {
        let parts = text.split(separator: "?", maxSplits: 1, omittingEmptySubsequences: false)
        components = parts[0].split(separator: "/").map { $0.removingPercentEncoding ?? String($0) }
        for pair in parts.count > 1 ? parts[1].split(separator: "&") : [] {
            let sides = pair.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
            let name = sides[0].removingPercentEncoding ?? String(sides[0])
            guard query[name] == nil else {
                throw QueryProblem(message: "\(name) is given twice; give it once")
            }
            query[name] = sides.count > 1 ? sides[1].removingPercentEncoding ?? String(sides[1]) : ""
        }
    }

    /// Parameters by the first component of the path.
    private static let parameters: [String: [String]] = [
        "paths": ["limit", "netns", "proto", "outcome", "address", "port", "since"], "journeys": ["limit", "outcome"],
        "flows": ["limit"], "drops": ["limit"],
    ]

    /// - Throws: `QueryProblem` for a parameter that the resource does not take, or one without a value.
    func checkAllAreTaken() throws(QueryProblem) {
        let known = components.count == 1 ? Self.parameters[components[0]] ?? [] : []
        for (name, value) in query.sorted(by: { $0.key < $1.key }) {
            guard known.contains(name) else {
                let names = known.isEmpty ? "it takes none" : "it takes \(known.joined(separator: ", "))"
                throw QueryProblem(message: "/\(components.joined(separator: "/")) has no parameter \(name); \(names)")
            }
            guard !value.isEmpty else { throw QueryProblem(message: "\(name) has no value") }
        }
    }

    func limit() throws -> Int {
        guard let text = query["limit"] else { return 100 }
        guard let limit = Int(text), (0...10_000).contains(limit) else {
            throw QueryProblem(message: "limit is a number from 0 to 10000")
        }
        return limit
    }

    func outcome() throws -> Outcome? {
        try query["outcome"].map { text in
            guard let outcome = Outcome(name: text) else {
                throw QueryProblem(message: "outcome is one of \(Outcome.allCases.map(\.name).joined(separator: ", "))")
            }
            return outcome
        }
    }

    func pathFilter() throws -> PathFilter {
        var filter = PathFilter()
        filter.limit = try limit()
        filter.netns = query["netns"]
        filter.outcome = try outcome()
        filter.address = try query["address"].map { text in
            guard let address = IPAddress(text) else {
                throw QueryProblem(message: "address is one address, such as 10.0.0.5 or 2001:db8::5")
            }
            return "\(address)"
        }
        filter.transport = try query["proto"].map { text in
            guard let number = TransportProtocol.number(text) else {
                throw QueryProblem(message: "proto is a protocol's name or number, such as tcp or 6")
            }
            return number
        }
        filter.port = try query["port"].map { text in
            guard let port = UInt16(text) else { throw QueryProblem(message: "port is a number from 0 to 65535") }
            return port
        }
        filter.since = try query["since"].map { text in
            if let seconds = Double(text) { return try Self.microseconds(seconds) }
            guard
                let date = (try? Date(text, strategy: .iso8601))
                    ?? (try? Date(text, strategy: Date.ISO8601FormatStyle(includingFractionalSeconds: true)))
            else { throw QueryProblem(message: "since is a time such as 2026-01-31T12:00:00Z, or seconds since 1970") }
            return try Self.microseconds(date.timeIntervalSince1970)
        }
        return filter
    }
}

extension Target {
    /// A far-off year or a number like `1e300` has no place in 64 bits.
    private static func microseconds(_ seconds: Double) throws -> Int64 {
        guard let value = Int64(exactly: (seconds * 1_000_000).rounded()) else {
            throw QueryProblem(message: "since is too far away")
        }
        return value
    }
}

extension EndpointResponse {
    static func json(_ report: some Encodable) throws -> EndpointResponse {
        .json(Array(try ReportJSON.encode(report)) + [0x0A])
    }

    static func json(_ bytes: [UInt8]) -> EndpointResponse {
        EndpointResponse(status: .ok, contentType: "application/json", body: bytes)
    }

    static func text(_ text: String) -> EndpointResponse {
        EndpointResponse(status: .ok, contentType: "text/plain; charset=utf-8", body: Array(text.utf8))
    }
}
