internal import Captures
internal import Engine
internal import WireFormat

extension InputFormat {
    /// pcap and pcapng, also behind a damaged beginning.
    static let captures = InputFormat { (file) throws(CaptureError) in
        let range = file.window.range
        let bytes = file.window.buffer.octets.extracting(0..<range.upperBound)
        guard let decoder = CaptureDecoder(beginning: bytes) else { return nil }
        let stage = CaptureDecodeStage(
            file.stream, window: file.window, framing: decoder, parser: PacketParser(seed: file.seed))
        return RecognisedInput(
            input: CaptureInput(
                file.stream, source: CaptureSource(stage, isAhead: file.mayBeDecodedAhead), label: file.label,
                isOfOneNamespace: decoder.isOfOneInterface, isFollowed: file.isFollowed),
            isOwnRecording: isRecording(bytes, decoder), isBeginningDamaged: decoder.isBeginningDamaged)
    }

    /// Whether the first block that is neither damaged nor a section header is ours.
    private static func isRecording(_ bytes: RawSpan, _ decoder: CaptureDecoder) -> Bool {
        var decoder = decoder
        var offset = 0
        while let item = decoder.next(in: bytes, at: &offset, isLast: true) {
            switch item {
            case .trace: return true
            case .damage: continue
            case .other where decoder.interfaces.isEmpty: continue
            default: return false
            }
        }
        return false
    }
}

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
