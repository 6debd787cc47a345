public import TraceModel

/// Receiver of journeys as they end.
public protocol JourneyWatcher: AnyObject, Sendable {
    /// Whether journeys are wanted now; while this is false none is handed over.
    var isWatched: Bool { get }

    /// Called on the thread that correlates; must not block.
    ///
    /// - Parameter describe: makes the journey's record: its events from the history, and the context that names its probes. This is
    ///   the most expensive step for a journey, so a watcher calls it only for a journey that it keeps.
    func add(_ journey: Journey, describe: () -> (record: JourneyRecord, context: TraceContext))
}
