public import TraceModel

/// Receiver of journeys as they end.
public protocol JourneyWatcher: AnyObject, Sendable {
    /// Whether journeys are wanted now; while this is false none is handed over.
    var isWatched: Bool { get }

    /// Called on the thread that correlates; must not block.
    ///
    /// - Parameter describe: looks up the journey's events and what its numbers mean. It costs more than all else that is done about a
    ///   journey, so that a watcher calls it only for one that it keeps.
    func add(_ journey: Journey, describe: () -> (record: JourneyRecord, context: TraceContext))
}
