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
    /// Set while more comes than is written. Where that is for a slow device, the page cache takes the burst.
    var isBehind = false
    /// What the latest block took past the page cache, in milliseconds: 40 are 100 MB/s.
    private var latestTime: Int64 = 0
    private static let slow: Int64 = 40

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
        if written == 0, mayBeDirect, !(isBehind && latestTime > Self.slow), ipt_set_direct(descriptor, 1) == 0 {
            // What cannot be done so, or only in part, is done as usual from where it stopped.
            let begun = Self.milliseconds()
            let count = unsafe write(descriptor, block.baseAddress, Self.size)
            latestTime = Self.milliseconds() - begun
            if count > 0 { written = count }
            if count < Self.size { mayBeDirect = false }
            _ = ipt_set_direct(descriptor, 0)
        } else {
            // To be tried again.
            latestTime = 0
        }
        let code = writeRest(to: descriptor)
        filled = 0
        written = 0
        return code
    }

    private static func milliseconds() -> Int64 {
        var time = timespec()
        unsafe clock_gettime(CLOCK_MONOTONIC, &time)
        return Int64(time.tv_sec) * 1000 + Int64(time.tv_nsec) / 1_000_000
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
