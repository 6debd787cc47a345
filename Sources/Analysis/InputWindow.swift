internal import Captures

/// The part of a file that is looked at: read in large pieces, moved on as it is used up.
struct InputWindow {
    private let stream: ByteStream
    private(set) var buffer: [UInt8]
    /// What is not used up yet.
    private(set) var range = 0..<0
    /// Where in the (unpacked) file the buffer begins.
    private var base: UInt64 = 0
    /// Whether `range` reaches to the end of the file, which will not grow.
    private(set) var isLast = false
    private let isFollowing: Bool

    init(_ stream: ByteStream, isFollowing: Bool) {
        self.stream = stream
        self.isFollowing = isFollowing && stream.canGrow
        buffer = [UInt8](repeating: 0, count: 1 << 20)
    }

    /// Position in the (unpacked) file.
    func position(of offset: Int) -> UInt64 { base + UInt64(offset) }

    mutating func use(upTo offset: Int) { range = offset..<range.upperBound }

    /// Reads more behind what is there.
    ///
    /// - Returns: false where nothing came: at the end (`isLast`), or, of a file that may grow, for now.
    mutating func fill() throws(CaptureError) -> Bool {
        guard !isLast else { return false }
        if range.lowerBound > 0 {
            // Only what is left over is moved: part of one record.
            for index in 0..<range.count { buffer[index] = buffer[range.lowerBound + index] }
            base += UInt64(range.lowerBound)
            range = 0..<range.count
        }
        if buffer.count - range.count < 1 << 18 { buffer += [UInt8](repeating: 0, count: buffer.count) }
        let count = try stream.read(into: &buffer, from: range.count)
        range = 0..<range.count + count
        if count == 0, !isFollowing { isLast = true }
        return count > 0
    }

    /// What follows belongs to another file; what is left of this one is no record.
    mutating func startOver() {
        base = 0
        range = 0..<0
    }

    /// The file will not grow any more.
    mutating func end() { isLast = true }
}
