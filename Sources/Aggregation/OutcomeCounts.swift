public import TraceModel

/// How often each outcome occurred. Plain numbers, so that counting touches nothing else.
public struct OutcomeCounts: Sendable, BitwiseCopyable {
    private var delivered: UInt64 = 0
    private var sent: UInt64 = 0
    private var dropped: UInt64 = 0
    private var incomplete: UInt64 = 0
    private var open: UInt64 = 0

    public subscript(outcome: Outcome) -> UInt64 {
        switch outcome {
        case .delivered: delivered
        case .sent: sent
        case .dropped: dropped
        case .incomplete: incomplete
        case .open: open
        }
    }

    mutating func count(_ outcome: Outcome) {
        switch outcome {
        case .delivered: delivered += 1
        case .sent: sent += 1
        case .dropped: dropped += 1
        case .incomplete: incomplete += 1
        case .open: open += 1
        }
    }
}
