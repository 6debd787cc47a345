/// Receiver of journeys as they end.
public protocol JourneyWatcher: AnyObject, Sendable {
    /// Whether journeys are wanted now; while this is false none is described.
    var isWatched: Bool { get }

    /// Called on the thread that correlates; must not block.
    func add(_ journey: JourneyRecord, in context: TraceContext)
}
