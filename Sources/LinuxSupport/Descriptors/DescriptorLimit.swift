private import Glibc
private import Synchronization

/// The limit on the file descriptors that this process may have open (`RLIMIT_NOFILE`, getrlimit(2)).
public enum DescriptorLimit {
    public struct Values: Sendable, Equatable {
        /// The limit in force; descriptors are numbered below it.
        public var soft: UInt64
        /// The value up to which the soft limit may be raised without a privilege.
        public var hard: UInt64
    }

    /// Descriptors that starting a program takes: six ends of pipes, the process's own, and once five for watching over
    /// programs (swift-subprocess ends this process where a pipe cannot be made). The rest is for what other threads open
    /// meanwhile.
    public static let perProgram = 16

    /// Descriptors that a command is to find free when it starts: the runtime's own, and one program.
    public static let minimum = 32

    /// The limits as this process got them, which programs that people start from it get back.
    private static let inherited = Mutex<Values?>(nil)

    private static let resource = __rlimit_resource_t(RLIMIT_NOFILE.rawValue)

    public static var current: Values {
        var limit = rlimit()
        guard unsafe getrlimit(resource, &limit) == 0 else { return Values(soft: 0, hard: 0) }
        return Values(soft: UInt64(limit.rlim_cur), hard: UInt64(limit.rlim_max))
    }

    /// Raises the soft limit to the hard one, and both to `count` where this process has the privilege (`CAP_SYS_RESOURCE`)
    /// and the kernel allows as many (`fs.nr_open`).
    ///
    /// - Returns: the limits in force afterwards.
    @discardableResult
    public static func raise(to count: Int = 0) -> Values {
        let before = current
        inherited.withLock { $0 = $0 ?? before }
        let wanted = UInt64(clamping: count)
        if wanted > before.hard, set(Values(soft: wanted, hard: wanted)) { return current }
        // Without the privilege the hard limit stays; that much is everybody's right.
        if before.soft < before.hard { _ = set(Values(soft: before.hard, hard: before.hard)) }
        return current
    }

    /// Gives back the limits that this process began with, for a program that takes its place. One that waits with select(2)
    /// cannot have descriptors from 1,024 on.
    public static func restore() {
        guard let inherited = inherited.withLock({ $0 }) else { return }
        _ = set(inherited)
    }

    private static func set(_ values: Values) -> Bool {
        var limit = rlimit(rlim_cur: rlim_t(values.soft), rlim_max: rlim_t(values.hard))
        return unsafe setrlimit(resource, &limit) == 0
    }

    /// How many more descriptors can be opened, counted up to `most`.
    public static func free(upTo most: Int) -> Int {
        // The lowest free number is given out first, so that the highest are free longest.
        var end = Int(clamping: current.soft)
        var found = 0
        while end > 0, found < most {
            let begin = max(0, end - 256)
            var descriptors = (begin..<end).map { pollfd(fd: Int32(truncatingIfNeeded: $0), events: 0, revents: 0) }
            // Asks for no event: poll(2) only marks numbers that are not open.
            guard SocketCalls.poll(&descriptors, milliseconds: 0) >= 0 else { return found }
            found += descriptors.count { $0.revents & Int16(POLLNVAL) != 0 }
            end = begin
        }
        return min(found, most)
    }

    /// Makes sure that `count` more descriptors can be opened.
    ///
    /// - Parameter operation: what needs them, as a phrase behind "cannot": `start nft`.
    /// - Throws: `NamespaceError.descriptors`.
    public static func require(_ count: Int, to operation: String) throws(NamespaceError) {
        let left = free(upTo: count)
        guard left >= count else {
            throw .descriptors(operation: operation, needed: count, left: left, limit: current)
        }
    }

    /// A limit that leaves room for `missing` more descriptors, and for what comes later.
    public static func recommended(_ missing: Int) -> Int {
        max(1024, (Int(clamping: current.soft) + missing + 255) / 256 * 256)
    }

    /// How the limit is raised to `count`, as a sentence.
    public static func advice(_ count: Int) -> String {
        "Raise the limit: ulimit -n \(count) in the shell that starts it (past the hard limit as root), or LimitNOFILE=\(count) "
            + "in a systemd unit"
    }

    /// Whether an `errno` means that a resource has run out; then it says nothing of the file or socket that was asked for.
    public static func isShortage(_ code: Int32) -> Bool {
        [EMFILE, ENFILE, ENOMEM, ENOBUFS, EAGAIN].contains(code)
    }
}
