private import Glibc

/// A file descriptor that is closed when its owner goes.
package final class OwnedDescriptor: Sendable {
    package let number: Int32

    /// Opens a path (`NamespaceName.path`) for reading, closed on exec.
    init(opening path: String) throws(NamespaceError) {
        number = unsafe open(NamespaceName.path(path), O_RDONLY | O_CLOEXEC)
        if number < 0 { throw .cannotOpen(path: path, code: errno) }
    }

    deinit { close(number) }
}
