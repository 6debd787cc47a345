internal import Captures
internal import WireFormat

/// The lines of a text file, one after the other.
struct TextLines {
    enum Next {
        /// Without its end; bytes that are not UTF-8 are replaced.
        case line(String)
        /// No whole line now, and more may come, since the file may grow.
        case nothingYet
        case end
    }

    private var window: InputWindow
    /// Longer lines are cut.
    private static let longest = 1 << 16

    init(_ window: InputWindow) { self.window = window }

    mutating func end() { window.end() }

    mutating func next() throws(CaptureError) -> Next {
        while true {
            let range = window.range
            if let end = window.buffer[range].firstIndex(of: 0x0A) {
                defer { window.use(upTo: end + 1) }
                return .line(Self.text(window.buffer[range.lowerBound..<end]))
            }
            if window.isLast || range.count > Self.longest {
                guard !range.isEmpty else { return .end }
                defer { window.use(upTo: range.upperBound) }
                return .line(Self.text(window.buffer[range]))
            }
            if try !window.fill(), !window.isLast { return .nothingYet }
        }
    }

    private static func text(_ bytes: ArraySlice<UInt8>) -> String {
        let text = String(decoding: bytes, as: UTF8.self)
        return text.hasSuffix("\r") ? String(text.dropLast()) : text
    }
}
