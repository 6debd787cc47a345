internal import Captures
internal import Engine
internal import TraceModel

/// A file that events come from, in the order of their times.
protocol TraceInput: AnyObject {
    var stream: ByteStream { get }
    /// The channel by which the kernel reported its events.
    var channel: EventChannel { get }
    /// Bytes of the file, as it is on the disk, that have been read so far.
    var consumed: UInt64 { get }
    /// When the next record was made, in microseconds since 1970; `nil` where there is none, or none yet.
    func nextTime(_ problems: inout Problems) throws(CaptureError) -> Int64?
    /// Takes records up to `limit`, at most `count`.
    func deliver(upTo limit: Int64, count: Int, into state: inout AnalysisState) throws(CaptureError)
    /// Whether all has been taken and nothing more can come.
    var isExhausted: Bool { get }
    /// Reading begins, or ends before the end.
    func begin()
    func end()
    /// All has been taken (`isExhausted`). Further calls do nothing.
    func close(into state: inout AnalysisState)
    /// A file that was followed will not grow any more.
    func stopFollowing()
}

extension TraceInput {
    var channel: EventChannel { .nflog }
    func close(into state: inout AnalysisState) {}
}
