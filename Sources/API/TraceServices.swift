public import Aggregation
internal import HTTPServer
internal import HTTPTypes
public import Reports

/// Where the endpoint's resources come from.
public struct TraceServices: Sendable {
    /// A snapshot of the present state with at least a scope; `nil` where none came in time.
    public typealias SnapshotSource = @Sendable (TraceSnapshot.Scope) async -> TraceSnapshot?
    /// The probes as JSON: read from the rules, which takes a moment.
    public typealias ProbesSource = @Sendable () async throws -> [UInt8]
    /// State of the recording; `nil` where there is none. Must not wait.
    public typealias RecordingSource = @Sendable () -> RecordingStatus?
    /// What else keeps the service from being complete, one sentence each; none where nothing does. Must not wait.
    public typealias TroubleSource = @Sendable () -> [String]

    let snapshot: SnapshotSource
    let probes: ProbesSource
    let recording: RecordingSource
    let troubles: TroubleSource
    /// The program's.
    let version: String
    /// `nil`: everybody who reaches the endpoint may ask.
    let token: AccessToken?
    /// `nil`: nothing is followed as it happens.
    let events: EventFeed?
    let shelf = SnapshotShelf()

    public init(
        snapshot: @escaping SnapshotSource, probes: @escaping ProbesSource, recording: @escaping RecordingSource = { nil },
        troubles: @escaping TroubleSource = { [] }, version: String = "", token: AccessToken? = nil, events: EventFeed? = nil
    ) {
        self.events = events
        self.version = version
        self.token = token
        self.snapshot = snapshot
        self.probes = probes
        self.recording = recording
        self.troubles = troubles
    }

    /// An answer that is made from a snapshot.
    func answer(
        _ scope: TraceSnapshot.Scope, _ render: (TraceSnapshot) throws -> EndpointResponse
    ) async -> EndpointResponse {
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
}
