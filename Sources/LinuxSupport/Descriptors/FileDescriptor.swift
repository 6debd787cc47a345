private import Glibc

/// A file descriptor that is closed when its owner goes.
final class OwnedDescriptor: Sendable {
    let number: Int32

    /// Opens `path` for reading, closed on exec.
    init(opening path: String) throws(NamespaceError) {
        number = unsafe open(path, O_RDONLY | O_CLOEXEC)
        if number < 0 { throw .cannotOpen(path: path, code: errno) }
    }

    deinit { close(number) }
}
