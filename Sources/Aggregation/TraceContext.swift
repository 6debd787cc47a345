public import TraceModel

/// Names behind the numbers of journeys and paths: the run, the layout and the steps of each path.
public struct TraceContext: Sendable {
    /// Part of the run's identifiers.
    public var run: UInt64
    public var layout: Layout
    public var stepTrie: StepTrie

    public init(run: UInt64, layout: Layout, stepTrie: StepTrie) {
        self.run = run
        self.layout = layout
        self.stepTrie = stepTrie
    }
}
