internal import TraceModel

/// A probe's facts for the hot path.
struct ProbePlace {
    var namespace: UInt16
    var priority: Int16
    var condition: UInt32
    var hook: Hook
    var backend: Backend
    /// A packet passes it once: the head probe of a built-in chain.
    var isPassedOnce: Bool
    var isNAT: Bool
    var isLastOnTheWayOut: Bool
    /// A probe may stand behind the source translation of this hook.
    var leadsBehindTranslation: Bool
    /// Its events may be no steps of their own (`LiveState.isStep`).
    var mayReportNoStep: Bool
}
