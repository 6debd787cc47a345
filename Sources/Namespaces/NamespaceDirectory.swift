private import Foundation

/// Finds network namespaces.
public enum NamespaceDirectory {
    private static let namesDirectory = "/run/netns"

    /// The namespaces that `selectors` name, each once, in that order; `host` first where `all` is asked for.
    ///
    /// - Throws: `NamespaceError` for one that is asked for by name and cannot be opened. With `all`, those that vanish
    ///   meanwhile or belong to others are left out.
    public static func resolve(_ selectors: [NamespaceSelector]) throws -> [NetworkNamespace] {
        var found: [NetworkNamespace] = []
        var inodes: Set<UInt64> = []
        func add(_ namespace: NetworkNamespace) {
            if inodes.insert(namespace.inode).inserted { found.append(namespace) }
        }
        for selector in selectors {
            switch selector {
            case .host: add(try host())
            case .named(let name):
                // A name is one component: anything else would reach out of the directory.
                guard !name.contains("/"), name != ".", name != ".." else { throw NamespaceError.invalidSelector(name) }
                let path = "\(namesDirectory)/\(name)"
                guard FileManager.default.fileExists(atPath: path) else {
                    throw NamespaceError.unknown(name: name, known: names())
                }
                add(try NetworkNamespace(name: name, path: path))
            case .process(let pid):
                guard FileManager.default.fileExists(atPath: "/proc/\(pid)") else { throw NamespaceError.noSuchProcess(pid) }
                add(try NetworkNamespace(name: "pid:\(pid)", path: "/proc/\(pid)/ns/net"))
            case .path(let path): add(try NetworkNamespace(name: path, path: path))
            case .all:
                add(try host())
                for name in names() {
                    if let namespace = try? NetworkNamespace(name: name, path: "\(namesDirectory)/\(name)") { add(namespace) }
                }
                for pid in processes() {
                    if let namespace = try? NetworkNamespace(name: "pid:\(pid)", path: "/proc/\(pid)/ns/net") {
                        add(namespace)
                    }
                }
            }
        }
        return found
    }

    /// The namespace of this process.
    public static func host() throws(NamespaceError) -> NetworkNamespace {
        try NetworkNamespace(name: "host", path: "/proc/self/ns/net")
    }

    private static func names() -> [String] {
        ((try? FileManager.default.contentsOfDirectory(atPath: namesDirectory)) ?? []).sorted()
    }

    /// One process per namespace that no earlier one has, by the text of `/proc/PID/ns/net`, so that not thousands of
    /// descriptors are opened.
    private static func processes() -> [Int32] {
        let entries = (try? FileManager.default.contentsOfDirectory(atPath: "/proc")) ?? []
        var seen: Set<String> = []
        return entries.compactMap { Int32($0) }.sorted().filter { pid in
            guard let link = try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/\(pid)/ns/net") else {
                return false
            }
            return seen.insert(link).inserted
        }
    }
}
