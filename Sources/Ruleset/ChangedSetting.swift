private import Foundation
private import Glibc
public import LinuxSupport

/// A setting of a namespace (sysctl) that is changed for a while.
///
/// On disk before it is changed, under `/run/ipt-trace/settings`, in a file that its owner keeps locked: one that nobody holds was left
/// by a process that was killed, and whoever comes next puts the setting back (`putBackAbandoned`).
public final class ChangedSetting: Sendable {
    static let directory = "/run/ipt-trace/settings"

    private struct Record: Codable {
        /// `net.netfilter.nf_log.2`
        var name: String
        var before: String
        var ours: String
        var inode: UInt64
        var identity: UInt64?
    }

    private let record: Record
    private let namespace: NetworkNamespace
    private let path: String
    private let lock: FileLock

    /// The value of a setting of a namespace; `nil` where the kernel has no such setting.
    public static func value(of name: String, in namespace: NetworkNamespace) throws -> String? {
        try namespace.enter {
            do {
                return try String(contentsOfFile: file(name), encoding: .utf8).trimmingCharacters(in: .whitespacesAndNewlines)
            } catch let error as CocoaError where error.code == .fileReadNoSuchFile {
                return nil
            }
        }
    }

    /// Sets `name` to `value`, of which it is known to have `before` now.
    ///
    /// - Throws: where it cannot be written down or set; it is as before then.
    public init(_ name: String, from before: String, to value: String, in namespace: NetworkNamespace) async throws {
        try FileManager.default.createDirectory(
            atPath: Self.directory, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o700])
        record = Record(name: name, before: before, ours: value, inode: namespace.inode, identity: namespace.identity)
        self.namespace = namespace
        path = "\(Self.directory)/\(namespace.inode)-\(getpid())-\(name)"
        lock = try await FileLock.acquire(path, seconds: 1)
        do {
            let file = try FileHandle(forWritingTo: URL(fileURLWithPath: path))
            try file.write(contentsOf: JSONEncoder().encode(record))
            try file.synchronize()
            try file.close()
            try Self.set(name, value, in: namespace)
        } catch {
            FileCalls.remove(path)
            throw error
        }
    }

    /// Gives the setting its value back, unless somebody else has changed it meanwhile.
    public func putBack() throws {
        try Self.putBack(record, in: namespace)
        FileCalls.remove(path)
    }

    /// Puts back what processes that were killed have left changed.
    ///
    /// - Returns: a sentence for each.
    public static func putBackAbandoned() throws -> [String] {
        let names: [String]
        do {
            names = try FileManager.default.contentsOfDirectory(atPath: directory)
        } catch let error as CocoaError where error.code == .fileReadNoSuchFile || error.code == .fileReadNoPermission {
            return []
        }
        var done: [String] = []
        for name in names.sorted() {
            let path = "\(directory)/\(name)"
            guard try !FileLock.isHeld(path) else { continue }
            // One that was killed before it had written had not changed anything yet.
            guard let data = FileManager.default.contents(atPath: path),
                let record = try? JSONDecoder().decode(Record.self, from: data)
            else {
                FileCalls.remove(path)
                continue
            }
            // With a namespace its settings go.
            if let entry = try NamespaceDirectory.list().first(where: { $0.inode == record.inode }) {
                let namespace = try entry.open()
                if namespace.isSame(inode: record.inode, identity: record.identity) {
                    try putBack(record, in: namespace)
                    done.append(
                        "\(record.name) of namespace \(namespace.name) is \(record.before) again: an ipt-trace that was killed had left it at \(record.ours)"
                    )
                }
            }
            FileCalls.remove(path)
        }
        return done
    }

    private static func putBack(_ record: Record, in namespace: NetworkNamespace) throws {
        guard try value(of: record.name, in: namespace) == record.ours else { return }
        try set(record.name, record.before, in: namespace)
    }

    private static func set(_ name: String, _ value: String, in namespace: NetworkNamespace) throws {
        try namespace.enter {
            // Not by Foundation, which would put a new file in its place.
            let path = file(name)
            let descriptor = FileCalls.open(path, O_WRONLY)
            guard descriptor >= 0 else { throw NamespaceError.cannotOpen(path: path, code: errno) }
            defer { close(descriptor) }
            let bytes = Array(value.utf8)
            guard FileCalls.write(descriptor, bytes) == bytes.count else {
                throw NamespaceError.cannotOpen(path: path, code: errno)
            }
        }
    }

    /// /proc/sys/net shows the settings of the thread's namespace.
    private static func file(_ name: String) -> String { "/proc/sys/\(name.split(separator: ".").joined(separator: "/"))" }
}
