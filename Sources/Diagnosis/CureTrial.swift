/// What came of a cure on a copy of the namespace's rules.
public struct CureTrial: Codable, Sendable, Equatable {
    public enum Result: String, Codable, Sendable {
        /// Without it the packet was dropped there, with it the packet got past the rules.
        case mends
        /// The packet was dropped with it, too.
        case fails
        /// The command was refused.
        case refused
        /// It could not be tried.
        case untried
    }

    public var result: Result
    /// Why it was refused or not tried; `nil` for the others.
    public var detail: String?

    public init(_ result: Result, _ detail: String? = nil) {
        self.result = result
        self.detail = detail
    }
}
