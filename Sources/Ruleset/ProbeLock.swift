private import Foundation
internal import LinuxSupport

/// The right to change probes on this machine: one installation or removal at a time.
public enum ProbeLock {
    static let path = "/run/ipt-trace/lock"

    /// Runs `body` with the lock held.
    ///
    /// - Parameter onWait: called once when another process has held the lock for a second.
    /// - Throws: `RulesetError.permission` where the lock may not be taken, `NamespaceError.lockHeld` after a minute, and the errors
    ///   of `body`.
    public static func whileHeld<Result: Sendable>(
        onWait: @Sendable () -> Void = {}, _ body: () async throws -> Result
    ) async throws -> Result {
        do {
            try FileManager.default.createDirectory(
                atPath: "/run/ipt-trace", withIntermediateDirectories: true, attributes: [.posixPermissions: 0o755])
        } catch let error as CocoaError where error.code == .fileWriteNoPermission {
            throw RulesetError.permission("cannot make /run/ipt-trace")
        } catch {
            throw RulesetError.journal(path: "/run/ipt-trace", message: error.localizedDescription)
        }
        let lock: FileLock
        do {
            lock = try await FileLock.acquire(path, onWait: onWait)
        } catch let error as NamespaceError where error.isPermission {
            throw RulesetError.permission("cannot lock \(path)")
        }
        defer { withExtendedLifetime(lock) {} }
        return try await body()
    }

    /// Whether an installation or removal is under way. Where that cannot be told, one may be.
    public static var isHeld: Bool {
        do { return try FileLock.isHeld(path) } catch { return true }
    }
}
