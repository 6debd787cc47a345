/// State of a collector's recording, for `/metrics` and `/healthz`.
public struct RecordingStatus: Sendable {
    /// The present state, one of `states`.
    public var state: String
    public var states: [String]
    /// Why events are left out at present; `nil` where none are.
    public var problem: String?
    /// Events and bytes written.
    public var events: UInt64
    public var bytes: UInt64
    /// Events that are in no file, by reason: always all reasons.
    public var leftOut: [(reason: String, events: UInt64)]

    public init(
        state: String, states: [String], problem: String?, events: UInt64, bytes: UInt64,
        leftOut: [(reason: String, events: UInt64)]
    ) {
        self.state = state
        self.states = states
        self.problem = problem
        self.events = events
        self.bytes = bytes
        self.leftOut = leftOut
    }
}

/// `/healthz`: whether everything that was asked for is done.
public struct HealthReport: Codable, Sendable {
    /// `ok` or `degraded`.
    public var status: String
    /// Tasks that are not done, one sentence each; absent where there are none.
    public var reasons: [String]?

    /// - Parameter troubles: what else is not done, one sentence each.
    public init(recording: RecordingStatus?, troubles: [String] = []) {
        let reasons = [recording?.problem].compactMap { $0 } + troubles
        status = reasons.isEmpty ? "ok" : "degraded"
        self.reasons = reasons.isEmpty ? nil : reasons
    }
}
