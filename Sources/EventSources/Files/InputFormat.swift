internal import Captures
internal import TraceModel
internal import WireFormat

/// A form of file that events are read from. A new one is a `TraceInput` and a line in `all`.
struct InputFormat: Sendable {
    /// Opens a file that has this form; `nil` for any other.
    let open: @Sendable (UnreadFile) throws(CaptureError) -> RecognisedInput?

    /// In the order in which they are tried: what no other form fits is a kernel log.
    static let all = [captures, ruleTraces, kernelLogs]

    /// - Throws: `CaptureError.unknownFormat` where no form fits.
    static func open(_ file: UnreadFile) throws(CaptureError) -> RecognisedInput {
        for format in all { if let input = try format.open(file) { return input } }
        throw .unknownFormat(file: file.stream.name)
    }
}

/// A file of which as much has been read as tells its form.
struct UnreadFile {
    let stream: ByteStream
    let window: InputWindow
    /// What to call the namespace of events that do not say.
    let label: String
    /// Whether more is waited for at its end.
    let isFollowed: Bool
    /// Whether its records may be decoded on a thread of their own.
    let mayBeDecodedAhead: Bool
    /// As `PacketParser` takes it.
    let seed: UInt64

    /// Its first 4096 bytes at most.
    var beginning: ArraySlice<UInt8> { window.buffer[window.range].prefix(4096) }

    var isText: Bool { !beginning.contains(0) }
}

/// A file whose form is known.
struct RecognisedInput {
    var input: any TraceInput
    /// Whether this program recorded it: its times are exact, and its links known.
    var isOwnRecording = false
    /// Whether its beginning is not that of its form, which is recognised behind it.
    var isBeginningDamaged = false
}
