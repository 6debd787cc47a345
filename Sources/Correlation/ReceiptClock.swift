/// The receiver's clock in microseconds, which never goes back, and how far receiving has come by it.
struct ReceiptClock {
    private(set) var now: Int64 = 0
    /// Everything reported before is in, from all namespaces.
    private var complete: Int64 = .min / 2
    /// When events were received last, and the time before.
    private var receipt: Int64 = .min / 2
    private var receiptBefore: Int64 = .min / 2
    /// How long an event may be on its way when everything else is in (`Correlator.Limits.delay`).
    let delay: Int64

    init(delay: Int64) { self.delay = delay }

    /// No event that is received from now on happened before: when sockets were read the last time, they were read to their
    /// ends, or `complete` says which was not.
    var horizon: Int64 { min(complete, receiptBefore) - delay }

    /// Events that follow are received at `time`.
    mutating func receive(at time: Int64) {
        now = max(now, time)
        guard time > receipt else { return }
        receiptBefore = receipt
        receipt = time
    }

    /// Notes that all events reported before `time` are in.
    mutating func advance(to time: Int64) {
        now = max(now, time)
        complete = max(complete, time)
    }
}
