private import Glibc

/// The bytes of a file or of standard input, unpacked where they are compressed with gzip or zstd, which their own first
/// bytes tell.
public final class ByteStream {
    /// As a person named it.
    public let name: String
    private let path: String?
    private var descriptor: Int32
    private var decoder: Decoder
    private var isRegular = false
    /// Whether it is `/dev/kmsg`: one record for each read, and an error where there is none (Documentation/ABI/testing/dev-kmsg).
    private var isKernelLog = false
    /// Whether it is a file rather than a pipe or a terminal.
    public var isFile: Bool { isRegular }
    /// Read to recognise the format, and not handed out yet.
    private var head: [UInt8] = []
    /// Bytes of the file taken so far, and in all where it says so: for showing progress.
    public private(set) var consumed: UInt64 = 0
    public private(set) var size: UInt64?
    /// Whether and how a compressed file broke off.
    public private(set) var problem: String?

    private enum Decoder {
        case none
        case gzip(GzipDecoder)
        case zstd(ZstdDecoder)
    }

    /// Opens a file, or standard input for `-`, of which the first bytes are waited for while `isWanted`.
    public init(path: String, isWanted: () -> Bool = { true }) throws(CaptureError) {
        name = path == "-" ? "standard input" : path
        self.path = path == "-" ? nil : path
        if path == "-" {
            descriptor = dup(STDIN_FILENO)
        } else {
            // Opening a FIFO would wait for its writer, whatever becomes of `isWanted`.
            descriptor = unsafe open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
        }
        guard descriptor >= 0 else { throw .cannotOpen(file: name, code: errno) }
        decoder = .none
        // All properties are set: from here on `deinit` closes the descriptor where this throws.
        var status = stat()
        if unsafe fstat(descriptor, &status) == 0 {
            guard status.st_mode & S_IFMT != S_IFDIR else { throw .cannotOpen(file: name, code: EISDIR) }
            if status.st_mode & S_IFMT == S_IFREG {
                size = UInt64(status.st_size)
                isRegular = true
            }
            // Character device 1, 11 (Documentation/admin-guide/devices.txt).
            isKernelLog = status.st_mode & S_IFMT == S_IFCHR && status.st_rdev == 1 << 8 | 11
        }
        // Compressed it is not, and its first bytes alone cannot be read.
        guard !isKernelLog else { return }
        if path != "-" { _ = fcntl(descriptor, F_SETFL, fcntl(descriptor, F_GETFL) & ~O_NONBLOCK) }
        var first = [UInt8](repeating: 0, count: 4)
        while head.count < 4 {
            guard isReadable(milliseconds: 100) else {
                guard isWanted() else { break }
                continue
            }
            let count = try readRaw(&first, first.count - head.count)
            guard count > 0 else { break }
            head += first[..<count]
        }
        if let format = UnreadFormat.allCases.first(where: { $0.begins(head) }) {
            throw .unsupportedCompression(file: name, format: format.rawValue, unpacker: format.unpacker)
        }
        if head.starts(with: [0x1F, 0x8B]) {
            decoder = .gzip(GzipDecoder())
        } else if head == [0x28, 0xB5, 0x2F, 0xFD] {
            decoder = .zstd(ZstdDecoder())
        }
    }

    deinit { close(descriptor) }

    /// Whether the file may grow: only one that is not compressed.
    public var canGrow: Bool {
        if case .none = decoder { return true }
        return false
    }

    /// Puts the next bytes into `buffer` from `start` on.
    ///
    /// - Returns: how many; 0 at the end.
    public func read(into buffer: inout [UInt8], from start: Int) throws(CaptureError) -> Int {
        switch decoder {
        case .none:
            if !head.isEmpty {
                let count = min(head.count, buffer.count - start)
                for index in 0..<count { buffer[start + index] = head[index] }
                head.removeFirst(count)
                return count
            }
            return try readRaw(&buffer, buffer.count - start, at: start)
        case .gzip(let decoder):
            return try unpack(into: &buffer, from: start, decoder.unpack)
        case .zstd(let decoder):
            return try unpack(into: &buffer, from: start, decoder.unpack)
        }
    }

    /// Whether the file at this path is another one by now, or shorter than the part read.
    public var isRotated: Bool {
        guard let path, !isKernelLog else { return false }
        var now = stat()
        var then = stat()
        guard unsafe stat(path, &now) == 0, unsafe fstat(descriptor, &then) == 0 else { return false }
        let isOther = now.st_ino != then.st_ino || now.st_dev != then.st_dev
        return isOther || UInt64(now.st_size) < consumed
    }

    /// Goes on with the file that is at the path now, from its beginning.
    public func reopen() -> Bool {
        guard let path else { return false }
        let fresh = unsafe open(path, O_RDONLY | O_CLOEXEC)
        guard fresh >= 0 else { return false }
        close(descriptor)
        descriptor = fresh
        consumed = 0
        return true
    }

    /// Waits until something can be read, or the end; always so of files.
    public func isReady(milliseconds: Int32) -> Bool {
        guard head.isEmpty, packedStart == packedEnd else { return true }
        return isReadable(milliseconds: milliseconds)
    }

    private func isReadable(milliseconds: Int32) -> Bool {
        guard !isRegular, !isKernelLog else { return true }
        var request = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
        return unsafe poll(&request, 1, milliseconds) != 0
    }

    private func readRaw(_ buffer: inout [UInt8], _ count: Int, at start: Int = 0) throws(CaptureError) -> Int {
        while true {
            let received = unsafe buffer.withUnsafeMutableBytes { bytes in
                unsafe Glibc.read(descriptor, bytes.baseAddress?.advanced(by: start), min(count, bytes.count - start))
            }
            if received >= 0 {
                consumed += UInt64(received)
                return received
            }
            if isKernelLog {
                // The end of what there is; or records have been overwritten, and the next read has the oldest that is left.
                if errno == EAGAIN { return 0 }
                if errno == EPIPE { continue }
            }
            guard errno == EINTR else { throw .cannotRead(file: name, code: errno) }
        }
    }

    // MARK: Compressed bytes

    private var packed = [UInt8](repeating: 0, count: 1 << 18)
    private var packedStart = 0
    private var packedEnd = 0
    private var isAtEnd = false

    /// Outcome of one call of a decoder.
    struct Progress {
        var consumed: Int
        var produced: Int
    }

    private func unpack(
        into buffer: inout [UInt8], from start: Int,
        _ body: ([UInt8], Range<Int>, inout [UInt8], Int) throws(UnpackError) -> Progress
    ) throws(CaptureError) -> Int {
        guard problem == nil else { return 0 }
        while true {
            if packedStart == packedEnd, !isAtEnd {
                packedStart = 0
                if head.isEmpty {
                    packedEnd = try readRaw(&packed, packed.count)
                } else {
                    for (index, byte) in head.enumerated() { packed[index] = byte }
                    packedEnd = head.count
                    head = []
                }
                isAtEnd = packedEnd == 0
            }
            do {
                let progress = try body(packed, packedStart..<packedEnd, &buffer, start)
                packedStart += progress.consumed
                if progress.produced > 0 { return progress.produced }
                if isAtEnd {
                    problem = unfinished
                    return 0
                }
            } catch {
                problem = error.message
                return 0
            }
        }
    }

    private var unfinished: String? {
        let isComplete =
            switch decoder {
            case .none: true
            case .gzip(let decoder): decoder.isComplete
            case .zstd(let decoder): decoder.isComplete
            }
        return isComplete ? nil : "the compressed data is cut short"
    }
}

/// Compressed data that is broken.
struct UnpackError: Error {
    var message: String
}
