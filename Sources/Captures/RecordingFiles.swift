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

/// The files of a recording. With rotation `trace.pcapng` becomes `trace-00001.pcapng`, `trace-00002.pcapng`, …; without, files
/// past the first have such names.
///
/// Every file is made anew (`O_EXCL`), with mode 0600. A FIFO or a device is written to as it is.
struct RecordingFiles: ~Copyable {
    private let path: String
    private let limits: RecordingLimits
    private let system: RecordingSystem
    /// Descriptor of the present file; -1 while there is none.
    private var descriptor: Int32 = -1
    private(set) var name: String
    /// Identity of the present file; `nil` for a FIFO or a device.
    private var identity: FileIdentity?
    /// The present file's name until `commit`, where it is to replace another.
    private var provisionalName: String?
    private var number = 1
    /// Files begun so far.
    private(set) var count = 1
    private var size: UInt64 = 0
    /// Seconds of the event clock.
    private var begunAt: Int64?
    /// Files that are full or were left, and are still this recording's, the oldest first.
    private var earlier: [(path: String, size: UInt64, identity: FileIdentity)] = []
    private var buffer: BlockBuffer
    /// When the oldest of the bytes that are only in memory came, in milliseconds of the monotonic clock; `nil` for none.
    private(set) var gatheredSince: Int64?

    /// - Parameter overwrites: whether a file that is there already is replaced, at `commit`.
    init(
        path: String, limits: RecordingLimits, overwrites: Bool, system: RecordingSystem
    ) throws(CaptureError) {
        self.path = path
        self.limits = limits
        self.system = system
        buffer = BlockBuffer(system)
        // Files of an earlier recording stay as they are: this one's numbers follow theirs.
        while limits.rotates, FileStatus(at: Self.name(path, number)) != nil { number += 1 }
        name = limits.rotates ? Self.name(path, number) : path
        switch FileStatus(at: name)?.kind {
        case nil: try create(name)
        case .regular where overwrites:
            let provisional = "\(path).new-\(getpid())"
            try create(provisional)
            provisionalName = provisional
        case .regular: throw .exists(file: name)
        case .link: throw .isLink(file: name)
        case .other: try openSpecial(name)
        }
    }

    deinit { if descriptor >= 0 { close(descriptor) } }

    /// Puts the first file where the one is that it replaces, if there is one.
    mutating func commit() throws(CaptureError) {
        guard let provisionalName else { return }
        guard unsafe rename(provisionalName, name) == 0 else { throw .cannotOpen(file: name, code: errno) }
        self.provisionalName = nil
    }

    /// Takes the first file away, of a recording that was not begun.
    mutating func abandon() { remove(provisionalName ?? name) }

    static func name(_ path: String, _ number: Int) -> String {
        let digits = String(number)
        let suffix = "-" + String(repeating: "0", count: max(0, 5 - digits.count)) + digits
        guard let dot = path.lastIndex(of: "."), !path[dot...].contains("/") else { return path + suffix }
        return path[..<dot] + suffix + path[dot...]
    }

    /// Packets are nobody's business but their owner's.
    private mutating func create(_ name: String) throws(CaptureError) {
        // Appending, so that a file that somebody has cut short stays short until that is noticed.
        let fresh = unsafe open(name, O_WRONLY | O_CREAT | O_EXCL | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0o600)
        guard fresh >= 0 else { throw errno == EEXIST ? .exists(file: name) : .cannotOpen(file: name, code: errno) }
        // The umask may have taken the owner's rights.
        fchmod(fresh, 0o600)
        take(fresh)
    }

    private mutating func openSpecial(_ name: String) throws(CaptureError) {
        let fresh = unsafe open(name, O_WRONLY | O_CLOEXEC | O_NOFOLLOW)
        guard fresh >= 0 else { throw .cannotOpen(file: name, code: errno) }
        guard FileStatus(of: fresh)?.kind == .other else {
            close(fresh)
            throw .exists(file: name)
        }
        take(fresh)
    }

    private mutating func take(_ fresh: Int32) {
        descriptor = fresh
        let status = FileStatus(of: fresh)
        identity = status?.kind == .regular ? status?.identity : nil
        size = 0
        begunAt = nil
        gatheredSince = nil
        buffer.begin()
    }

    /// Whether the present file is one that another can follow.
    var isRegular: Bool { identity != nil }

    /// Whether more comes than is written.
    var isBehind: Bool {
        get { buffer.isBehind }
        set { buffer.isBehind = newValue }
    }

    // MARK: Limits

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
    ///   - seconds: of the event clock; `nil` for a block that is no event.
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
        return earlierSize + size + UInt64(count) > limits.total ? .none : .here
    }

    /// Bytes that a new file may have before its first packet.
    var headLimit: UInt64 { min(limits.fileSize ?? .max, limits.total - min(limits.total, earlierSize)) / 4 }

    private mutating func dropOldest() {
        guard limits.rotates else { return }
        // Room for the present file: its size if it has one, else half of all.
        let present = min(limits.fileSize ?? limits.total / 2, limits.total)
        while earlierSize + present > limits.total, let oldest = earlier.first {
            // Somebody may have put another file there.
            if FileStatus(at: oldest.path)?.identity == oldest.identity { unsafe unlink(oldest.path) }
            earlier.removeFirst()
        }
    }

    private var earlierSize: UInt64 { earlier.reduce(0) { $0 + $1.size } }

    // MARK: The next file

    /// Begins a file with the next number that is free, after the present one was left.
    mutating func beginNext(at seconds: Int64?) throws(CaptureError) {
        var next = number
        repeat { next += 1 } while FileStatus(at: Self.name(path, next)) != nil
        try begin(Self.name(path, next), at: seconds)
        number = next
    }

    /// Begins a file at the recording's path if nothing is there, else, or with rotation, as `beginNext` does.
    ///
    /// - Parameter isWorthless: whether the file before was cut short by somebody, so that its rest has no beginning.
    mutating func beginAgain(at seconds: Int64?, isWorthless: Bool = false) throws(CaptureError) {
        if isWorthless { remove(name) }
        guard !limits.rotates else { return try beginNext(at: seconds) }
        if let status = FileStatus(at: path) {
            // logrotate leaves an empty file where the old one was.
            guard status.kind == .regular, status.size == 0, unsafe unlink(path) == 0 else { return try beginNext(at: seconds) }
        }
        try begin(path, at: seconds)
    }

    private mutating func begin(_ name: String, at seconds: Int64?) throws(CaptureError) {
        try create(name)
        self.name = name
        count += 1
        begunAt = seconds
        dropOldest()
    }

    /// Closes the present file, which has everything that was written. It stays one of this recording's.
    mutating func leave() throws(CaptureError) {
        if let identity { earlier.append((name, size, identity)) }
        try closeDescriptor()
    }

    /// Closes the present file, which is not where it was any more.
    mutating func forget() { try? closeDescriptor() }

    /// Takes the present file away, into which nothing could be written.
    mutating func discard() {
        remove(name)
        if name == Self.name(path, number) { number -= 1 }
        count -= 1
        try? closeDescriptor()
    }

    private func remove(_ name: String) {
        if let identity, FileStatus(at: name)?.identity == identity { unsafe unlink(name) }
    }

    private mutating func closeDescriptor() throws(CaptureError) {
        guard descriptor >= 0 else { return }
        defer { descriptor = -1 }
        gatheredSince = nil
        // Some file systems say only now that there was no room.
        if close(descriptor) != 0, errno != EINTR { throw .cannotWrite(file: name, code: errno) }
    }

    // MARK: Writing

    /// - Parameters:
    ///   - bytes: whole pcapng blocks.
    ///   - now: milliseconds of the monotonic clock.
    mutating func write(_ bytes: [UInt8], now: Int64) -> BlockBuffer.Appended {
        let appended = buffer.append(bytes, to: descriptor)
        size += UInt64(appended.count)
        if appended.hasWritten || gatheredSince == nil { gatheredSince = buffer.isEmpty ? nil : now }
        return appended
    }

    /// Brings everything into the file.
    mutating func flush() throws(CaptureError) {
        let code = buffer.flush(to: descriptor)
        guard code == 0 else { throw .cannotWrite(file: name, code: code) }
        gatheredSince = nil
    }

    /// Ends a file that cannot take more behind its last whole block, and closes it. One in which nothing is left is removed.
    ///
    /// - Parameters:
    ///   - rest: bytes behind those taken.
    ///   - note: written at the end if there is room.
    /// - Returns: bytes given to `write` that are not in the file.
    mutating func cut(rest: ArraySlice<UInt8>, note: [UInt8]) -> Lost {
        let cut = buffer.cut(rest: rest, room: note.count)
        let given = size + UInt64(rest.count)
        if isRegular, ftruncate(descriptor, Int(cut.end)) == 0, lseek(descriptor, Int(cut.end), SEEK_SET) >= 0 {
            size = cut.end
            let written = unsafe note.withUnsafeBytes { unsafe system.write(descriptor, $0) }
            if written == note.count {
                size += UInt64(note.count)
            } else {
                ftruncate(descriptor, Int(cut.end))
            }
        }
        if cut.end == 0 {
            discard()
        } else {
            try? leave()
        }
        return Lost(packets: cut.packets, bytes: given - min(given, size), isWhole: cut.end == 0)
    }

    /// What of a file could not be written.
    struct Lost {
        var packets: UInt64
        var bytes: UInt64
        /// Whether nothing is left, and the file is gone.
        var isWhole: Bool
    }

    /// Whether there is enough room to go on: a sixteenth of the file system, 256 KiB at least and 16 MiB at most.
    ///
    /// - Parameter count: bytes that a new file begins with.
    func hasRoom(for count: Int) -> Bool {
        let folder = (path as NSString).deletingLastPathComponent
        guard let space = system.space(folder.isEmpty ? "." : folder) else { return true }
        return space.free >= UInt64(count) + min(16 << 20, max(256 << 10, space.size / 16))
    }

    // MARK: What others do

    enum Place: Equatable {
        case same
        /// Deleted or cut short: its content is gone.
        case gone
        /// Renamed, or replaced by another file: its content still exists somewhere.
        case elsewhere
    }

    /// Whether the present file is still at its path, with its length.
    func place() -> Place {
        guard let identity, descriptor >= 0, let status = FileStatus(of: descriptor) else { return .same }
        guard status.links > 0, status.size >= buffer.inFile else { return .gone }
        return FileStatus(at: name)?.identity == identity ? .same : .elsewhere
    }
}

/// Tells a file from another one, whatever they are called.
private struct FileIdentity: Equatable {
    var device: UInt64
    var inode: UInt64
}

private struct FileStatus {
    enum Kind { case regular, link, other }

    var kind: Kind
    var identity: FileIdentity
    var links: UInt64
    var size: UInt64

    /// Looks at the file with a name, not following a symbolic link; `nil` where nothing has the name.
    init?(at path: String) {
        var status = stat()
        guard unsafe lstat(path, &status) == 0 else { return nil }
        self.init(status)
    }

    init?(of descriptor: Int32) {
        var status = stat()
        guard unsafe fstat(descriptor, &status) == 0 else { return nil }
        self.init(status)
    }

    private init(_ status: stat) {
        switch status.st_mode & S_IFMT {
        case S_IFREG: kind = .regular
        case S_IFLNK: kind = .link
        default: kind = .other
        }
        identity = FileIdentity(device: UInt64(status.st_dev), inode: UInt64(status.st_ino))
        links = UInt64(status.st_nlink)
        size = UInt64(status.st_size)
    }
}
