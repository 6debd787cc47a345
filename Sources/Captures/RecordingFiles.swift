private import Foundation
private import Glibc

/// Where a recording goes: one file, or several in turn.
public struct RecordingLimits: Sendable {
    /// Bytes after which the next file is begun; `nil`: never.
    public var fileSize: UInt64?
    /// Seconds after which the next file is begun; `nil`: never.
    public var fileSeconds: Int64?
    /// Bytes of all files together: past it the oldest is deleted, or, with one file, recording ends.
    public var total: UInt64

    public init(fileSize: UInt64? = nil, fileSeconds: Int64? = nil, total: UInt64 = 1 << 30) {
        self.fileSize = fileSize
        self.fileSeconds = fileSeconds
        self.total = total
    }

    var rotates: Bool { fileSize != nil || fileSeconds != nil }
}

/// The files of a recording. With rotation `trace.pcapng` becomes `trace-00001.pcapng`, `trace-00002.pcapng`, ….
struct RecordingFiles: ~Copyable {
    private let path: String
    private let limits: RecordingLimits
    private var descriptor: Int32
    private var number = 1
    private var size: UInt64 = 0
    /// Seconds of the event clock.
    private var begunAt: Int64?
    private var earlier: [(path: String, size: UInt64)] = []
    private var buffer = BlockBuffer()

    init(path: String, limits: RecordingLimits) throws(CaptureError) {
        self.path = path
        self.limits = limits
        // Files of an earlier recording stay as they are: this one's numbers follow theirs.
        while limits.rotates, unsafe access(Self.name(path, number, limits), F_OK) == 0 { number += 1 }
        descriptor = try Self.create(Self.name(path, number, limits))
    }

    deinit { close(descriptor) }

    private static func name(_ path: String, _ number: Int, _ limits: RecordingLimits) -> String {
        guard limits.rotates else { return path }
        let digits = String(number)
        let suffix = "-" + String(repeating: "0", count: max(0, 5 - digits.count)) + digits
        guard let dot = path.lastIndex(of: "."), !path[dot...].contains("/") else { return path + suffix }
        return path[..<dot] + suffix + path[dot...]
    }

    private static func create(_ path: String) throws(CaptureError) -> Int32 {
        // Packets are nobody's business but their owner's.
        let descriptor = unsafe open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0o600)
        guard descriptor >= 0 else { throw .cannotOpen(file: path, code: errno) }
        return descriptor
    }

    /// Whether more comes than is written.
    var isBehind: Bool {
        get { buffer.isBehind }
        set { buffer.isBehind = newValue }
    }

    enum Room {
        case here
        /// The file is full: begin the next with a section of its own.
        case next
        /// The limit on the whole is reached.
        case none
    }

    /// Whether `count` bytes more go into the present file.
    ///
    /// - Parameters:
    ///   - hasPackets: whether it holds any; one that does not is never full.
    ///   - seconds: of the event clock; `nil` for what is no event.
    mutating func room(for count: Int, hasPackets: Bool, at seconds: Int64?) -> Room {
        begunAt = begunAt ?? seconds
        if limits.rotates {
            guard hasPackets else { return .here }
            let isFull = limits.fileSize.map { size + UInt64(count) > $0 } ?? false
            let age = seconds.flatMap { seconds in begunAt.map { seconds - $0 } } ?? 0
            let isOld = limits.fileSeconds.map { age >= $0 } ?? false
            let isMost = earlierSize + size + UInt64(count) > limits.total
            return isFull || isOld || isMost ? .next : .here
        }
        return size + UInt64(count) > limits.total ? .none : .here
    }

    mutating func beginNext(at seconds: Int64?) throws(CaptureError) {
        try flush()
        earlier.append((Self.name(path, number, limits), size))
        number += 1
        let fresh = try Self.create(Self.name(path, number, limits))
        close(descriptor)
        descriptor = fresh
        buffer.begin()
        size = 0
        begunAt = seconds
        dropOldest()
    }

    private mutating func dropOldest() {
        // Room for the present file: its size if it has one, else half of all.
        let present = min(limits.fileSize ?? limits.total / 2, limits.total)
        while earlierSize + present > limits.total, let oldest = earlier.first {
            unsafe unlink(oldest.path)
            earlier.removeFirst()
        }
    }

    private var earlierSize: UInt64 { earlier.reduce(0) { $0 + $1.size } }

    /// Takes bytes; `flush` is what brings the last of them into the file.
    mutating func write(_ bytes: [UInt8]) throws(CaptureError) {
        try check(buffer.append(bytes, to: descriptor))
        size += UInt64(bytes.count)
    }

    mutating func flush() throws(CaptureError) { try check(buffer.flush(to: descriptor)) }

    private func check(_ code: Int32) throws(CaptureError) {
        if code != 0 { throw .cannotWrite(file: Self.name(path, number, limits), code: code) }
    }
}
