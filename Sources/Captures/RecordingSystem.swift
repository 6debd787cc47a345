private import Glibc

/// System calls that a recorder makes. Tests give answers of their own: a full disk, an I/O error, a short write.
@safe package struct RecordingSystem: Sendable {
    /// As write(2): the number of bytes written, or a negative `errno`.
    package var write: @Sendable (_ descriptor: Int32, _ bytes: UnsafeRawBufferPointer) -> Int
    /// Bytes that may still be written to the file system of a path, and its size; `nil` where that cannot be told.
    package var space: @Sendable (_ path: String) -> (free: UInt64, size: UInt64)?

    package init(
        write: @escaping @Sendable (Int32, UnsafeRawBufferPointer) -> Int,
        space: @escaping @Sendable (String) -> (free: UInt64, size: UInt64)?
    ) {
        unsafe self.write = write
        self.space = space
    }

    package static let kernel = unsafe RecordingSystem { descriptor, bytes in
        let count = unsafe Glibc.write(descriptor, bytes.baseAddress, bytes.count)
        return count >= 0 ? count : -Int(errno)
    } space: { path in
        var status = statvfs()
        guard unsafe statvfs(path, &status) == 0 else { return nil }
        let blocks = geteuid() == 0 ? status.f_bfree : status.f_bavail
        return (UInt64(blocks) * UInt64(status.f_frsize), UInt64(status.f_blocks) * UInt64(status.f_frsize))
    }
}

/// How long a recorder waits, in milliseconds. An event received is in the file after `hold` and `flush` together.
package struct RecordingPace: Sendable {
    /// How long a packet waits at most for the path of its journey. A journey that ends for want of events takes some 600.
    package var hold: Int64 = 700
    /// How long bytes are gathered at most before they are written.
    package var flush: Int64 = 100
    /// Between two looks at whether the file is still where it was.
    package var look: Int64 = 1000
    /// Until the next try to go on after an error, at first and at most: it doubles as long as a try writes little.
    package var retry: Int64 = 1000
    package var longestRetry: Int64 = 30_000
    /// Without events left out after which writing is said to keep up again.
    package var calm: Int64 = 5000
    /// After which a write that has not returned is said, and how long one is waited for at the end.
    package var longestWrite: Int64 = 3000
    package var longestClose: Int64 = 5000

    package init() {}
}
