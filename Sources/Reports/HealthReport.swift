/// `/healthz`.
public struct HealthReport: Codable, Sendable, Equatable {
    /// `ok`, or `degraded` where something keeps the picture from being complete.
    public var status: String
    /// What does, one sentence each; absent where nothing does.
    public var reasons: [String]?

    public init(troubles: [String]) {
        status = troubles.isEmpty ? "ok" : "degraded"
        reasons = troubles.isEmpty ? nil : troubles
    }
}
