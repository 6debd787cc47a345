public import TraceModel

/// A journey with the details of its events that are still kept.
public struct JourneyRecord: Sendable {
    public var journey: Journey
    /// By leg; empty or shortened at the front where the history has been overwritten.
    public var details: [[StepDetail]]
    public var direction: Direction
    /// The rules that it met, where it was traced through them.
    public var walks: [RuleWalk]

    public init(journey: Journey, details: [[StepDetail]], direction: Direction, walks: [RuleWalk] = []) {
        self.walks = walks
        self.journey = journey
        self.details = details
        self.direction = direction
    }
}
