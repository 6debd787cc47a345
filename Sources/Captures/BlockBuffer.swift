private import CLinux
private import Glibc

/// Gathers what is written to a file, a block of some MiB at a time, and writes whole blocks past the page cache where the file
/// system lets it (`O_DIRECT`): copying a long recording into pages that nobody reads soon costs more than everything else, and
/// pushes others' files out of memory.
@safe struct BlockBuffer: ~Copyable {
    static let size = 4 << 20

    /// Aligned as `O_DIRECT` asks for on every device there is.
    private let block: UnsafeMutableRawBufferPointer
    private var filled = 0
    /// Of `filled`, what is in the file already.
    private var written = 0
    /// Cleared once the file system has refused.
    private var mayBeDirect = true
    /// Set while the device is slower than what comes: the page cache takes a burst that the device does not.
    var usesPageCache = false

    init() { unsafe block = .allocate(byteCount: Self.size, alignment: 4096) }

    deinit { unsafe block.deallocate() }

    /// A file has been begun: its first byte is a block's first.
    mutating func begin() {
        filled = 0
        written = 0
        mayBeDirect = true
    }

    /// - Returns: 0, or an `errno`.
    mutating func append(_ bytes: [UInt8], to descriptor: Int32) -> Int32 {
        var offset = 0
        while offset < bytes.count {
            let count = min(bytes.count - offset, Self.size - filled)
            unsafe bytes.withUnsafeBytes { source in
                unsafe UnsafeMutableRawBufferPointer(rebasing: block[filled..<filled + count]).copyMemory(
                    from: UnsafeRawBufferPointer(rebasing: source[offset..<offset + count]))
            }
            offset += count
            filled += count
            guard filled == Self.size else { break }
            let code = writeBlock(to: descriptor)
            guard code == 0 else { return code }
        }
        return 0
    }

    /// Writes what is gathered, so that others can read it.
    mutating func flush(to descriptor: Int32) -> Int32 { writeRest(to: descriptor) }

    private mutating func writeBlock(to descriptor: Int32) -> Int32 {
        if written == 0, mayBeDirect, !usesPageCache, ipt_set_direct(descriptor, 1) == 0 {
            // What cannot be done so, or only in part, is done as usual from where it stopped.
            let count = unsafe write(descriptor, block.baseAddress, Self.size)
            if count > 0 { written = count }
            if count < Self.size { mayBeDirect = false }
            _ = ipt_set_direct(descriptor, 0)
        }
        let code = writeRest(to: descriptor)
        filled = 0
        written = 0
        return code
    }

    private mutating func writeRest(to descriptor: Int32) -> Int32 {
        while written < filled {
            let count = unsafe write(descriptor, block.baseAddress?.advanced(by: written), filled - written)
            if count < 0 {
                guard errno == EINTR else { return errno }
                continue
            }
            written += count
        }
        return 0
    }
}
