private import Foundation

/// The sandboxes that `lab up` has left running, by network, in a directory of the user's own.
public struct LabRegistry: Sendable {
    private struct Entry: Codable {
        var process: ProcessIdentity
        var hasUserNamespace: Bool
    }

    /// An existing directory, and the directories below it that are the register's own.
    private let parent: String
    private let components: [String]

    /// The register of this user: in `/run` (root), else in `$XDG_RUNTIME_DIR` or `/run/user/UID` where these are the user's
    /// alone, else in `/tmp/ipt-trace-UID`.
    public init() {
        let user = geteuid()
        var parents = user == 0 ? ["/run"] : []
        parents += [ProcessInfo.processInfo.environment["XDG_RUNTIME_DIR"] ?? "", "/run/user/\(user)"]
        self.init(parents: parents.filter { $0.hasPrefix("/") }, fallback: "/tmp")
    }

    /// - Parameters:
    ///   - parents: of these the first that this user alone can write is taken.
    ///   - fallback: where others may write too.
    package init(parents: [String], fallback: String) {
        if let parent = parents.first(where: PrivateDirectory.isPrivate) {
            self.parent = parent
            components = ["ipt-trace", "labs"]
        } else {
            parent = fallback
            components = ["ipt-trace-\(geteuid())", "labs"]
        }
    }

    /// The sandbox of a network that is up.
    ///
    /// - Throws: `LabRegistryError` where the entry may be another user's, or cannot be read.
    public func sandbox(of name: String) throws -> Sandbox? {
        try access {
            guard let directory = try PrivateDirectory.open(parent, components, creating: false),
                let bytes = try directory.read(Self.file(name))
            else { return nil }
            guard let entry = try? JSONDecoder().decode(Entry.self, from: Data(bytes)) else {
                let path = "\(directory.path)/\(Self.file(name))"
                throw LabRegistryError(
                    description: "\(path) is damaged or of another version, so that no process is known from it. "
                        + "Remove it: rm \(path)")
            }
            let sandbox = Sandbox(process: entry.process, hasUserNamespace: entry.hasUserNamespace)
            return sandbox.isAlive ? sandbox : nil
        }
    }

    public func add(_ name: String, _ sandbox: Sandbox) throws {
        let entry = Entry(process: sandbox.process, hasUserNamespace: sandbox.hasUserNamespace)
        let bytes = Array(try JSONEncoder().encode(entry))
        try access {
            guard let directory = try PrivateDirectory.open(parent, components, creating: true) else { return }
            try directory.write(bytes, to: Self.file(name))
        }
    }

    public func remove(_ name: String) throws {
        try access {
            try PrivateDirectory.open(parent, components, creating: false)?.remove(Self.file(name))
        }
        // The directories go with the last entry: rmdir(2) leaves those alone that are in use.
        for count in stride(from: components.count, to: 0, by: -1) {
            unsafe rmdir(([parent] + components.prefix(count)).joined(separator: "/"))
        }
    }

    private static func file(_ name: String) -> String { "\(name).json" }

    /// Says what to do about a directory or file that is refused.
    private func access<Result>(_ body: () throws -> Result) throws -> Result {
        do {
            return try body()
        } catch let refusal as PrivateDirectory.Refusal {
            let doubt = ": what it says of running networks may be another user's word, so that no process is ended."
            let elsewhere = "et XDG_RUNTIME_DIR to a directory that only you can write."
            switch refusal {
            case .untrusted(let path, _):
                let cure = " Remove \(path)" + (geteuid() == 0 ? "." : ", or s" + elsewhere)
                throw LabRegistryError(description: "\(refusal)\(doubt)\(cure)")
            case .shared: throw LabRegistryError(description: "\(refusal)\(doubt) S\(elsewhere)")
            case .failed: throw LabRegistryError(description: "\(refusal)")
            }
        }
    }
}

/// The register of running networks cannot be used.
public struct LabRegistryError: Error, CustomStringConvertible {
    public var description: String
}
