internal import Captures

/// The part of a file that is looked at: read in large pieces, moved on as it is used up.
struct InputWindow {
    private let stream: ByteStream
    private(set) var buffer: [UInt8]
    /// Bytes of the buffer not used up yet.
    private(set) var range = 0..<0
    /// Where in the (unpacked) file the buffer begins.
    private var base: UInt64 = 0
    /// Whether `range` reaches to the end of the file, which will not grow.
    private(set) var isLast = false
    private var isFollowing: Bool

    /// Bytes that are read at once, at first; more where a record takes more.
    private static let size = 1 << 18

    init(_ stream: ByteStream, isFollowing: Bool) {
        self.stream = stream
        self.isFollowing = isFollowing && stream.canGrow
        buffer = [UInt8](repeating: 0, count: Self.size)
    }

    /// Position in the (unpacked) file.
    func position(of offset: Int) -> UInt64 { base + UInt64(offset) }

    mutating func use(upTo offset: Int) { range = offset..<range.upperBound }

    /// Reads more bytes behind `range`.
    ///
    /// - Returns: false where nothing came: at the end (`isLast`), or, of a file that may grow, for now.
    mutating func fill() throws(CaptureError) -> Bool {
        // A pipe may have nothing for now; whoever waits must be able to be stopped.
        guard !isLast, stream.isReady(milliseconds: 100) else { return false }
        if range.lowerBound > 0 {
            // Only the unused rest is moved: part of one record.
            for index in 0..<range.count { buffer[index] = buffer[range.lowerBound + index] }
            base += UInt64(range.lowerBound)
            range = 0..<range.count
        }
        if buffer.count - range.count < Self.size / 4 { buffer += [UInt8](repeating: 0, count: buffer.count) }
        let count = try stream.read(into: &buffer, from: range.count)
        range = 0..<range.count + count
        if count == 0, !isFollowing { isLast = true }
        return count > 0
    }

    /// At the end of a file that is followed: goes on with the one that took its place, if one did.
    ///
    /// - Returns: whether there is more to read.
    mutating func continueRotated() throws(CaptureError) -> Bool {
        guard isFollowing, stream.isRotated else { return false }
        // Bytes written between the last look and the rotation are in the old file.
        if try fill() { return true }
        guard stream.reopen() else { return false }
        // The rest of the old file is no whole record.
        base = 0
        range = 0..<0
        return true
    }

    /// The file will not grow any more; its rest is still read.
    mutating func end() { isFollowing = false }
}
