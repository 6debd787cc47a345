public import TraceModel

/// A choice of the correlator's among several legs, told to who wants to follow its decisions.
public struct Comparison: Sendable {
    public enum Purpose: String, Sendable {
        case continuation = "an event may continue"
        case departure = "a packet that arrived may have come from"
        case arrival = "a packet that left may have arrived as"
    }

    public var purpose: Purpose
    public var namespace: Int
    public var packet: PacketTuple
    /// How many legs were looked at.
    public var looked: Int
    /// The position in the history of the first event of the one that was taken; `nil` where none fitted.
    public var taken: UInt64?
    /// How many others would have done as well: which of them it was is ambiguous.
    public var tied: Int
}

extension Correlator {
    /// Only where there was something to choose: asked before the call, so that nothing is made for nobody.
    @inline(__always)
    func tell(_ purpose: Comparison.Purpose, _ choice: BestMatch, namespace: UInt16, _ packet: PacketTuple) {
        guard let onComparison, choice.looks > 1 else { return }
        onComparison(
            Comparison(
                purpose: purpose, namespace: Int(namespace), packet: packet, looked: choice.looks,
                taken: choice.best.exists ? state.firstEvent(of: choice.best) : nil, tied: choice.tied.count))
    }
}
