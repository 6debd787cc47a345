/// A prefix that no known rule has, so that the chain of its events is unknown.
public struct UnresolvedPrefix: Sendable, Equatable {
    /// The namespace whose events have it; `nil` for the kernel log, whose lines name no namespace.
    public var netns: String?
    public var prefix: String
    public var events: UInt64

    public init(netns: String?, prefix: String, events: UInt64) {
        self.netns = netns
        self.prefix = prefix
        self.events = events
    }
}
