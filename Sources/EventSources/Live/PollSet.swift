private import Glibc
private import LinuxSupport

/// Descriptors that are waited for together: `poll(2)`.
struct PollSet {
    /// One descriptor's place, valid until `removeAll`.
    struct Entry {
        fileprivate let index: Int
    }

    private var descriptors: [pollfd] = []

    mutating func removeAll() { descriptors.removeAll(keepingCapacity: true) }

    /// - Parameter descriptor: `nil` for one that there is not: it is never readable.
    mutating func add(_ descriptor: Int32?) -> Entry {
        descriptors.append(pollfd(fd: descriptor ?? -1, events: Int16(POLLIN), revents: 0))
        return Entry(index: descriptors.count - 1)
    }

    /// Waits until one of them is readable, at most this long.
    mutating func wait(milliseconds: Int32) { SocketCalls.poll(&descriptors, milliseconds: milliseconds) }

    /// Waits until the one that was added first is readable, at most this long.
    mutating func waitForFirst(milliseconds: Int32) {
        guard let first = descriptors.first else { return }
        var one = [first]
        SocketCalls.poll(&one, milliseconds: milliseconds)
        descriptors[0] = one[0]
    }

    /// Whether something was to be read, or wrong, when the last wait ended.
    func isReady(_ entry: Entry) -> Bool { descriptors[entry.index].revents != 0 }
}
