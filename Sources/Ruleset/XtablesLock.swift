internal import LinuxSupport

/// The lock under which x_tables' rules are changed. Held from reading the rules to committing the changes planned on them, so that
/// no other iptables comes between.
enum XtablesLock {
    /// `XT_LOCK_NAME` of iptables' xshared.h; the variable names another file (iptables 1.8.6 and later).
    private static let path = "/run/xtables.lock"

    /// The environment for an iptables that is started while the lock is held: its own lock is another file.
    static let variablesOfHolder: [String: String] = ["XTABLES_LOCKFILE": "/run/ipt-trace/xtables.lock"]

    /// Runs `body` with the lock held.
    static func whileHeld<Result>(_ body: () async throws -> Result) async throws -> Result {
        let lock = try await FileLock.acquire(path, seconds: 10)
        defer { withExtendedLifetime(lock) {} }
        return try await body()
    }
}
