private import Glibc

/// An exclusive lock on a file (flock(2)), held until the value goes or the process ends.
public final class FileLock: Sendable {
    private let descriptor: Int32

    private init(descriptor: Int32) { self.descriptor = descriptor }

    deinit { close(descriptor) }

    /// Waits for the lock of the file at `path`, which is made where it does not exist.
    ///
    /// - Parameters:
    ///   - seconds: how long to wait at most.
    ///   - onWait: called once when somebody else has held the lock for a second.
    /// - Throws: `NamespaceError.cannotOpen` where the file cannot be opened, `NamespaceError.lockHeld` after `seconds`,
    ///   `CancellationError`.
    public static func acquire(
        _ path: String, seconds: Double = 60, onWait: @Sendable () -> Void = {}
    ) async throws -> FileLock {
        let descriptor = FileCalls.open(path, O_RDWR | O_CREAT | O_NOFOLLOW, mode: 0o600)
        guard descriptor >= 0 else { throw NamespaceError.cannotOpen(path: path, code: errno) }
        let lock = FileLock(descriptor: descriptor)
        let interval = 0.02
        var waited = 0.0
        while flock(descriptor, LOCK_EX | LOCK_NB) != 0 {
            guard errno == EWOULDBLOCK || errno == EINTR else { throw NamespaceError.cannotOpen(path: path, code: errno) }
            guard waited < seconds else { throw NamespaceError.lockHeld(path: path, seconds: Int(seconds)) }
            if waited < 1, waited + interval >= 1 { onWait() }
            try await Task.sleep(for: .seconds(interval))
            waited += interval
        }
        return lock
    }

    /// Whether a process holds the lock of the file at `path` now. A file that does not exist is not locked.
    public static func isHeld(_ path: String) throws(NamespaceError) -> Bool {
        let descriptor = FileCalls.open(path, O_RDONLY | O_NOFOLLOW)
        guard descriptor >= 0 else {
            if errno == ENOENT { return false }
            throw .cannotOpen(path: path, code: errno)
        }
        defer { close(descriptor) }
        // Shared, and given back at once: one who waits for the lock tries again within milliseconds.
        guard flock(descriptor, LOCK_SH | LOCK_NB) != 0 else { return false }
        guard errno == EWOULDBLOCK else { throw .cannotOpen(path: path, code: errno) }
        return true
    }
}
