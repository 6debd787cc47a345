private import Glibc
private import LinuxSupport

/// A directory that this user alone can write, held open: its files were written by this user.
struct PrivateDirectory: ~Copyable {
    let path: String
    private let descriptor: Int32

    /// Why a directory or a file in it is not used.
    enum Refusal: Error, Equatable {
        /// Somebody else may have written it.
        case untrusted(path: String, reason: String)
        /// Somebody else may replace its entries.
        case shared(path: String)
        case failed(operation: String, path: String, code: Int32)
    }

    private init(path: String, descriptor: Int32) {
        self.path = path
        self.descriptor = descriptor
    }

    deinit { close(descriptor) }

    /// Whether `path` is a directory that this user alone can write.
    static func isPrivate(_ path: String) -> Bool {
        var status = stat()
        return unsafe lstat(path, &status) == 0 && objection(to: status, S_IFDIR) == nil
    }

    /// Opens `parent/component/…`. Every component must be this user's; of `parent` nobody else may be able to replace what is
    /// in it, as in `/tmp` with its sticky bit.
    ///
    /// - Parameter creating: makes the components that are missing, with mode 0700.
    /// - Returns: `nil` where a component is missing.
    static func open(_ parent: String, _ components: [String], creating: Bool) throws(Refusal) -> PrivateDirectory? {
        let flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC
        let descriptor = unsafe Glibc.open(parent, flags)
        guard descriptor >= 0 else {
            if errno == ENOENT, !creating { return nil }
            throw .failed(operation: "open", path: parent, code: errno)
        }
        var directory = PrivateDirectory(path: parent, descriptor: descriptor)
        var status = stat()
        guard unsafe fstat(descriptor, &status) == 0 else { throw .failed(operation: "look at", path: parent, code: errno) }
        let isShared = status.st_mode & (S_IWGRP | S_IWOTH) != 0 && status.st_mode & S_ISVTX == 0
        if isShared || (status.st_uid != geteuid() && status.st_uid != 0) {
            throw .shared(path: parent)
        }
        for component in components {
            let path = "\(directory.path)/\(component)"
            if creating, unsafe mkdirat(directory.descriptor, component, 0o700) != 0, errno != EEXIST {
                throw .failed(operation: "make", path: path, code: errno)
            }
            let descriptor = unsafe openat(directory.descriptor, component, flags)
            guard descriptor >= 0 else {
                switch errno {
                case ENOENT where !creating: return nil
                case ELOOP, ENOTDIR: throw .untrusted(path: path, reason: "is not a directory")
                case let code: throw .failed(operation: "open", path: path, code: code)
                }
            }
            directory = PrivateDirectory(path: path, descriptor: descriptor)
            guard unsafe fstat(descriptor, &status) == 0 else { throw .failed(operation: "look at", path: path, code: errno) }
            if let reason = objection(to: status, S_IFDIR) { throw .untrusted(path: path, reason: reason) }
        }
        return directory
    }

    /// Reads a file, of at most 64 KiB.
    ///
    /// - Returns: `nil` where there is none.
    func read(_ name: String) throws(Refusal) -> [UInt8]? {
        let path = "\(self.path)/\(name)"
        // O_NONBLOCK: a FIFO is refused, not waited for.
        let file = unsafe openat(descriptor, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC)
        guard file >= 0 else {
            switch errno {
            case ENOENT: return nil
            case ELOOP: throw .untrusted(path: path, reason: "is a symbolic link")
            case let code: throw .failed(operation: "open", path: path, code: code)
            }
        }
        defer { close(file) }
        var status = stat()
        guard unsafe fstat(file, &status) == 0 else { throw .failed(operation: "look at", path: path, code: errno) }
        if let reason = Self.objection(to: status, S_IFREG) { throw .untrusted(path: path, reason: reason) }
        var bytes = [UInt8](repeating: 0, count: 1 << 16)
        var count = 0
        while count < bytes.count {
            let got = unsafe bytes.withUnsafeMutableBytes { buffer in
                unsafe Glibc.read(file, buffer.baseAddress?.advanced(by: count), buffer.count - count)
            }
            if got < 0, errno == EINTR { continue }
            guard got >= 0 else { throw .failed(operation: "read", path: path, code: errno) }
            if got == 0 { break }
            count += got
        }
        return Array(bytes.prefix(count))
    }

    /// Writes a file, which appears whole or not at all.
    func write(_ bytes: [UInt8], to name: String) throws(Refusal) {
        let temporary = ".\(name).\(getpid())"
        let path = "\(self.path)/\(temporary)"
        let file = unsafe openat(descriptor, temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0o600)
        guard file >= 0 else { throw .failed(operation: "write", path: path, code: errno) }
        defer { close(file) }
        let written = unsafe bytes.withUnsafeBytes { unsafe Glibc.write(file, $0.baseAddress, $0.count) }
        guard written == bytes.count, unsafe renameat(descriptor, temporary, descriptor, name) == 0 else {
            let code = written >= 0 && written < bytes.count ? ENOSPC : errno
            _ = unsafe unlinkat(descriptor, temporary, 0)
            throw .failed(operation: "write", path: path, code: code)
        }
    }

    /// Removes a file; one that is not there is no failure.
    func remove(_ name: String) throws(Refusal) {
        guard unsafe unlinkat(descriptor, name, 0) != 0, errno != ENOENT else { return }
        throw .failed(operation: "remove", path: "\(path)/\(name)", code: errno)
    }

    /// Fault of a directory or file; `nil` where it is of the kind wanted and this user's alone.
    private static func objection(to status: stat, _ kind: mode_t) -> String? {
        let isDirectory = kind == S_IFDIR
        if status.st_mode & S_IFMT != kind { return isDirectory ? "is not a directory" : "is not a regular file" }
        if status.st_uid != geteuid() { return "belongs to user \(status.st_uid), not to \(geteuid())" }
        if status.st_mode & (S_IWGRP | S_IWOTH) != 0 { return "can be written by other users" }
        return nil
    }
}

extension PrivateDirectory.Refusal: CustomStringConvertible {
    var description: String {
        switch self {
        case .untrusted(let path, let reason): "\(path) \(reason)"
        case .shared(let path): "\(path) lets other users replace what is in it"
        case .failed(let operation, let path, let code):
            "cannot \(operation) \(path): \(ErrorNumber.text(code))"
        }
    }
}
