internal import Captures
internal import Engine

/// A capture file: pcap or pcapng.
final class CaptureInput: TraceInput {
    let stream: ByteStream
    private let source: CaptureSource
    private var taker: CaptureTaker

    init(_ stream: ByteStream, source: CaptureSource, label: String, isOfOneNamespace: Bool, isFollowed: Bool) {
        self.stream = stream
        self.source = source
        taker = CaptureTaker(
            source, name: stream.name, label: label, isOfOneNamespace: isOfOneNamespace, isFollowed: isFollowed)
    }

    var consumed: UInt64 { taker.consumed }
    var isExhausted: Bool { taker.isExhausted }

    func begin() { source.begin() }
    func end() { source.end() }
    func stopFollowing() { source.stopFollowing() }

    func close(into state: inout AnalysisState) { taker.close(into: &state) }

    func nextTime(_ problems: inout Problems) throws(CaptureError) -> Int64? { try taker.nextTime() }

    func deliver(upTo limit: Int64, count: Int, into state: inout AnalysisState) throws(CaptureError) {
        try taker.deliver(upTo: limit, count: count, into: &state)
    }
}
