public import TraceModel

/// Names behind the numbers of journeys and paths: the run, the layout and the steps of each path.
public struct TraceContext: Sendable {
    /// Part of the run's identifiers.
    public var run: UInt64
    public var layout: Layout
    public var stepTrie: StepTrie
    /// The counter that has counted all packets that vanished where a namespace routes them, by its kernel's own counters; absent where
    /// none or several may have.
    public var routingDrops: [RoutingKey: DropCounters.Counter] = [:]

    /// Namespaces whose connection tracking has counted all packets that vanished where it stands.
    public var trackingDrops: Set<Int> = []
    /// Namespaces whose connection tracking has counted all packets that vanished where their connections are put into its table, behind
    /// all chains, and no others.
    public var insertionDrops: Set<Int> = []
    /// By how much each namespace's counters have risen since it began to be followed, by its index; absent where they are not known.
    public var dropCounters: [Int: DropCounters] = [:]

    public init(run: UInt64, layout: Layout, stepTrie: StepTrie) {
        self.run = run
        self.layout = layout
        self.stepTrie = stepTrie
    }
}
