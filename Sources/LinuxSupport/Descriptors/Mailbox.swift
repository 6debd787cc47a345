private import CLinux
private import Glibc
private import Synchronization

/// Messages to a thread that waits in poll(2), which a descriptor wakes.
public final class Mailbox<Message: Sendable>: Sendable {
    private let messages = Mutex<[Message]>([])
    /// Readable while there are messages.
    public let descriptor: Int32

    public init() { descriptor = eventfd(0, Int32(EFD_CLOEXEC) | Int32(EFD_NONBLOCK)) }

    deinit { close(descriptor) }

    public func send(_ message: Message) {
        messages.withLock { $0.append(message) }
        _ = eventfd_write(descriptor, 1)
    }

    /// Takes all messages.
    public func receive() -> [Message] {
        var count: UInt64 = 0
        _ = unsafe eventfd_read(descriptor, &count)
        return messages.withLock { messages in
            defer { messages.removeAll() }
            return messages
        }
    }
}
