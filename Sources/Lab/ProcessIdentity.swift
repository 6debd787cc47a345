private import CLinux
private import Foundation

/// A process, told from every other one that has or had its number.
package struct ProcessIdentity: Codable, Equatable, Sendable {
    package var pid: Int32
    /// In clock ticks since boot: field 22 of `/proc/PID/stat`.
    package var startTime: UInt64
    /// Real user id.
    package var user: UInt32
    /// Inode of its network namespace.
    package var networkNamespace: String
    /// `/proc/sys/kernel/random/boot_id`: ticks count from there.
    package var boot: String

    /// `nil` where no process has the number, or it belongs to another user.
    package init?(of pid: Int32) {
        guard pid > 0, let stat = Self.text("/proc/\(pid)/stat"), let status = Self.text("/proc/\(pid)/status"),
            let boot = Self.text("/proc/sys/kernel/random/boot_id"),
            let namespace = try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/\(pid)/ns/net"),
            // The program's name, in parentheses, may hold anything.
            let end = stat.lastIndex(of: ")")
        else { return nil }
        let fields = stat[stat.index(after: end)...].split(separator: " ")
        let users = status.split(separator: "\n").first { $0.hasPrefix("Uid:") }?.split(separator: "\t") ?? []
        guard fields.count > 19, let startTime = UInt64(fields[19]), users.count > 1, let user = UInt32(users[1]) else {
            return nil
        }
        self.pid = pid
        self.startTime = startTime
        self.user = user
        self.boot = boot.trimmingCharacters(in: .whitespacesAndNewlines)
        networkNamespace = namespace
    }

    /// Whether it is this user's and has not ended.
    package var isRunning: Bool { user == getuid() && ProcessIdentity(of: pid) == self }

    /// Sends SIGKILL, to this process only: the descriptor stays with it should the number be given away meanwhile.
    func kill() {
        let descriptor = ipt_pidfd_open(pid)
        guard descriptor >= 0 else {
            // Linux before 5.3 has no such descriptors.
            if errno == ENOSYS, isRunning { _ = Foundation.kill(pid, SIGKILL) }
            return
        }
        defer { close(descriptor) }
        if isRunning { _ = ipt_pidfd_send_signal(descriptor, SIGKILL) }
    }

    private static func text(_ path: String) -> String? { try? String(contentsOfFile: path, encoding: .utf8) }
}
