public import TraceModel

/// What the kernel has answered about routes, and for which time each answer holds: routes change, and an answer explains no packet of
/// another time.
public struct RouteIndex: Sendable {
    private struct Answer: Sendable {
        var decision: RoutingDecision
        /// Nothing had changed since.
        var since: Int64
        var asked: Int64
        /// Nothing had changed up to then; `nil`: nothing has.
        var until: Int64?
    }

    /// Oldest first; empty where the kernel has been asked and has not answered.
    private var answers: [RouteLookup: [Answer]] = [:]
    private static let mostLookups = 1 << 12
    private static let mostAnswers = 4

    /// Whether connections may be asked about: a part of the room is kept for new paths.
    package var hasRoomForFlows: Bool { answers.count < Self.mostLookups * 3 / 4 }

    public init() {}

    /// Whether the kernel is to be asked, which it then counts as.
    package mutating func isNew(_ lookup: RouteLookup) -> Bool {
        guard answers.count < Self.mostLookups, answers[lookup] == nil else { return false }
        answers[lookup] = []
        return true
    }

    /// - Parameters:
    ///   - since: when the namespace's routes changed last before it was asked, in microseconds since 1970.
    ///   - asked: when.
    package mutating func note(_ decision: RoutingDecision, of lookup: RouteLookup, since: Int64, asked: Int64) {
        guard answers.count < Self.mostLookups || answers[lookup] != nil else { return }
        var known = answers[lookup] ?? []
        known.append(Answer(decision: decision, since: since, asked: asked))
        if known.count > Self.mostAnswers { known.removeFirst() }
        answers[lookup] = known
    }

    /// Routes of a namespace have changed.
    ///
    /// - Parameter time: not before then, in microseconds since 1970.
    package mutating func noteChange(namespace: Int, after time: Int64) {
        for (lookup, known) in answers where lookup.namespace == namespace && !known.isEmpty {
            // Who was asked behind that may have told of the time after, or before.
            var kept = known.filter { $0.until != nil || $0.asked <= time }
            for index in kept.indices where kept[index].until == nil { kept[index].until = time }
            answers[lookup] = kept
        }
    }

    /// - Parameter times: when the packet was seen, in microseconds since 1970.
    /// - Returns: `nil` where nothing is known that holds for all of that time.
    public func decision(of lookup: RouteLookup, during times: ClosedRange<Int64>) -> RoutingDecision? {
        answers[lookup]?.last { answer in
            answer.since <= times.lowerBound && answer.until.map { $0 >= times.upperBound } != false
        }?.decision
    }
}
