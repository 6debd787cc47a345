public import Aggregation
private import Synchronization
public import TraceModel

/// Journeys as they end, for those who watch live. Bounded: who reads too slowly loses the oldest, and learns how many.
public final class JourneyFeed: JourneyWatcher {
    private struct State {
        var isWatched = false
        var journeys: [JourneyReport] = []
        var dropped: UInt64 = 0
        var selection: JourneySelection
    }

    private let state: Mutex<State>
    private let capacity = 4096

    /// - Parameters:
    ///   - filter: which journeys are wanted; its namespaces, times and limit are not looked at.
    ///   - expression: chooses packets one by one, of those that the filter chooses.
    public init(_ filter: TraceFilter = TraceFilter(), expression: (@Sendable (Journey) -> Bool)? = nil) {
        state = Mutex(State(selection: JourneySelection(filter, expression: expression)))
    }

    /// Whether anybody watches; only then are journeys described.
    public var isWatched: Bool { state.withLock { $0.isWatched } }

    public func watch() { state.withLock { $0.isWatched = true } }

    public func add(_ journey: Journey, describe: () -> (record: JourneyRecord, context: TraceContext)) {
        guard state.withLock({ $0.selection.takes(journey) }) else { return }
        let (record, context) = describe()
        let journey = context.describe(record)
        state.withLock { state in
            if state.journeys.count >= capacity {
                state.journeys.removeFirst()
                state.dropped += 1
            }
            state.journeys.append(journey)
        }
    }

    /// Takes the journeys since the last call, with the number dropped in between.
    public func take() -> (journeys: [JourneyReport], dropped: UInt64) {
        state.withLock { state in
            defer {
                state.journeys.removeAll()
                state.dropped = 0
            }
            return (state.journeys, state.dropped)
        }
    }
}
