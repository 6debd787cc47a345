private import Foundation

/// The sandboxes that `lab up` has left running, by network.
public enum LabRegister {
    private struct Entry: Codable {
        var holder: Int32
        var startTime: UInt64
        var hasUserNamespace: Bool
    }

    /// Root's under /run; an ordinary user's where only he may write.
    private static var directory: String {
        if geteuid() == 0 { return "/run/ipt-trace/labs" }
        if let runtime = ProcessInfo.processInfo.environment["XDG_RUNTIME_DIR"], !runtime.isEmpty {
            return "\(runtime)/ipt-trace/labs"
        }
        return "/tmp/ipt-trace-\(geteuid())/labs"
    }

    private static func path(_ name: String) -> String { "\(directory)/\(name).json" }

    /// The sandbox of a network that is up.
    public static func sandbox(of name: String) -> Sandbox? {
        guard let data = FileManager.default.contents(atPath: path(name)),
            let entry = try? JSONDecoder().decode(Entry.self, from: data)
        else { return nil }
        let sandbox = Sandbox(
            holder: entry.holder, startTime: entry.startTime, hasUserNamespace: entry.hasUserNamespace)
        return sandbox.isAlive ? sandbox : nil
    }

    public static func add(_ name: String, _ sandbox: Sandbox) throws {
        try FileManager.default.createDirectory(
            atPath: directory, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o700])
        let entry = Entry(
            holder: sandbox.holder, startTime: sandbox.startTime, hasUserNamespace: sandbox.hasUserNamespace)
        try JSONEncoder().encode(entry).write(to: URL(fileURLWithPath: path(name)), options: .atomic)
    }

    public static func remove(_ name: String) {
        try? FileManager.default.removeItem(atPath: path(name))
        // The directories go with the last of what was in them: rmdir(2) leaves those alone that are in use.
        unsafe rmdir(directory)
        unsafe rmdir((directory as NSString).deletingLastPathComponent)
    }
}
