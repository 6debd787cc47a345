/// A journey as `export` writes it: one line of NDJSON. `docs/export.md` describes the fields.
public struct JourneyLine: Codable, Sendable, Equatable {
    /// Raised when a field changes its meaning or goes; new fields do not raise it.
    public static let currentSchema = 1

    public var schema: Int
    /// Name and boot identifier of the machine whose kernel reported the packet, where known.
    @ExplicitNull public var host: String?
    @ExplicitNull public var boot: String?
    public var journey: JourneyReport

    public init(_ journey: JourneyReport, host: String?, boot: String?) {
        schema = Self.currentSchema
        self.host = host
        self.boot = boot
        self.journey = journey
    }
}
