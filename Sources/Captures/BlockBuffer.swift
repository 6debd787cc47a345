private import CLinux
private import Glibc
internal import LinuxSupport
private import WireFormat

/// Gathers a file's bytes, a block of some MiB at a time, and writes whole blocks past the page cache where the file
/// system lets it (`O_DIRECT`): copying a long recording into pages that nobody reads soon costs more than everything else, and
/// pushes others' files out of memory.
@safe struct BlockBuffer: ~Copyable {
    static let size = 4 << 20

    private let system: RecordingSystem
    /// Aligned as `O_DIRECT` asks for on every device there is.
    private let block: UnsafeMutableRawBufferPointer
    /// Position in the file of the block's first byte.
    private var base: UInt64 = 0
    private var filled = 0
    /// Bytes of `filled` that are in the file already.
    private var written = 0
    /// The pcapng block that began before `block` does and ends in it or behind it.
    private var carried: (start: UInt64, isPacket: Bool, rest: Int)?
    /// Cleared once the file system has refused.
    private var mayBeDirect = true
    /// Set while more comes than is written. Where that is for a slow device, the page cache takes the burst.
    var isBehind = false
    /// Milliseconds that the latest block took past the page cache: 40 are 100 MB/s.
    private var latestTime: Int64 = 0
    private static let slow: Int64 = 40

    /// Whether everything is in the file.
    var isEmpty: Bool { written == filled }
    /// Bytes in the file.
    var inFile: UInt64 { base + UInt64(written) }

    init(_ system: RecordingSystem) {
        self.system = system
        unsafe block = .allocate(byteCount: Self.size, alignment: 4096)
    }

    deinit { unsafe block.deallocate() }

    /// A file has been begun: its first byte is a block's first.
    mutating func begin() {
        base = 0
        filled = 0
        written = 0
        carried = nil
        mayBeDirect = true
    }

    /// State of appended bytes.
    struct Appended {
        /// 0, or an `errno`.
        var code: Int32 = 0
        /// Bytes taken.
        var count: Int
        /// Whether all that was gathered before is in the file.
        var hasWritten = false
    }

    /// - Parameter bytes: whole pcapng blocks.
    mutating func append(_ bytes: [UInt8], to descriptor: Int32) -> Appended {
        var appended = Appended(count: 0)
        while appended.count < bytes.count {
            let offset = appended.count
            let count = min(bytes.count - offset, Self.size - filled)
            unsafe bytes.withUnsafeBytes { source in
                unsafe UnsafeMutableRawBufferPointer(rebasing: block[filled..<filled + count]).copyMemory(
                    from: UnsafeRawBufferPointer(rebasing: source[offset..<offset + count]))
            }
            appended.count += count
            filled += count
            guard filled == Self.size else { break }
            appended.code = writeBlock(to: descriptor)
            guard appended.code == 0 else { return appended }
            appended.hasWritten = true
            carry(bytes, upTo: appended.count)
        }
        return appended
    }

    /// Writes the gathered bytes, so that others can read them.
    ///
    /// - Returns: 0, or an `errno`.
    mutating func flush(to descriptor: Int32) -> Int32 { writeRest(to: descriptor) }

    /// A block has been written, and the next one begins with the byte of `bytes` at `offset`.
    private mutating func carry(_ bytes: [UInt8], upTo offset: Int) {
        base += UInt64(Self.size)
        filled = 0
        written = 0
        var start = 0
        var end = 0
        while end < offset {
            start = end
            end += PcapngBlock.length(bytes, start)
        }
        carried =
            end == offset
            ? nil
            : (base - UInt64(offset - start), PcapngBlock.isPacket(bytes, start), end - offset)
    }

    private mutating func writeBlock(to descriptor: Int32) -> Int32 {
        if written == 0, mayBeDirect, !(isBehind && latestTime > Self.slow), ipt_set_direct(descriptor, 1) == 0 {
            // What cannot be done so, or only in part, is done as usual from where it stopped.
            let begun = Clock.monotonic / 1000
            let count = unsafe system.write(descriptor, UnsafeRawBufferPointer(block))
            latestTime = Clock.monotonic / 1000 - begun
            if count > 0 { written = count }
            if count < Self.size { mayBeDirect = false }
            _ = ipt_set_direct(descriptor, 0)
        } else {
            // To be tried again.
            latestTime = 0
        }
        return writeRest(to: descriptor)
    }

    private mutating func writeRest(to descriptor: Int32) -> Int32 {
        while written < filled {
            let count = unsafe system.write(descriptor, UnsafeRawBufferPointer(rebasing: block[written..<filled]))
            if count <= 0 {
                guard -count == Int(EINTR) else { return count == 0 ? EIO : Int32(-count) }
                continue
            }
            written += count
        }
        return 0
    }

    // MARK: Where a file cannot take more

    struct Cut {
        /// Where the file is to end: behind its last whole pcapng block.
        var end: UInt64
        /// Packets that are behind it, in the file or not.
        var packets: UInt64 = 0
    }

    /// - Parameters:
    ///   - rest: bytes behind those taken.
    ///   - room: bytes to be left free before the place where writing stopped.
    func cut(rest: ArraySlice<UInt8>, room: Int) -> Cut {
        let bytes = unsafe Array(UnsafeRawBufferPointer(rebasing: block[..<filled])) + rest
        var blocks: [(start: UInt64, isPacket: Bool)] = carried.map { [($0.start, $0.isPacket)] } ?? []
        var offset = carried?.rest ?? 0
        while offset + 8 <= bytes.count {
            blocks.append((base + UInt64(offset), PcapngBlock.isPacket(bytes, offset)))
            offset += PcapngBlock.length(bytes, offset)
        }
        let limit = inFile - min(inFile, UInt64(room))
        let ends = blocks.map(\.start) + [base + UInt64(bytes.count)]
        var cut = Cut(end: ends.last { $0 <= limit } ?? ends[0])
        cut.packets = UInt64(blocks.count { $0.isPacket && $0.start >= cut.end })
        return cut
    }
}

/// The head of a pcapng block in memory, as `CaptureWriter` wrote it.
private enum PcapngBlock {
    static func isPacket(_ bytes: [UInt8], _ offset: Int) -> Bool {
        bytes.octets.native32(offset) == CaptureFormat.enhancedPacket
    }

    static func length(_ bytes: [UInt8], _ offset: Int) -> Int {
        max(12, Int(bytes.octets.native32(offset + 4)))
    }
}
