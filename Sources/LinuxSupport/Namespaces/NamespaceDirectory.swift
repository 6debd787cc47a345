private import Foundation

/// Finds network namespaces.
public enum NamespaceDirectory {
    private static let namesDirectory = NamespaceName.directory

    /// A namespace that there is, without a descriptor of it.
    public struct Entry: Sendable, Hashable {
        public var name: String
        public var inode: UInt64
        var path: String

        /// Opens it.
        ///
        /// - Throws: `NamespaceError`, `replaced` among them where the path leads to another namespace by now.
        public func open(isHeld: Bool = true) throws(NamespaceError) -> NetworkNamespace {
            let namespace = try NetworkNamespace(name: name, path: path, isHeld: isHeld)
            guard namespace.inode == inode else { throw .replaced(name: name, path: path) }
            return namespace
        }
    }

    /// Descriptors that are kept free for other things than namespaces: programs, sockets of the moment, clients.
    public static let reserve = 48

    /// The namespaces that `selectors` name, each once, in that order; `host` first where `all` is asked for. They are held
    /// open if there are descriptors enough for that and for the sockets and files of each of them.
    ///
    /// - Throws: `NamespaceError` for one that is asked for by name and cannot be opened. With `all`, those that vanish
    ///   meanwhile or belong to others are left out, but none because something has run out.
    public static func resolve(_ selectors: [NamespaceSelector]) throws -> [NetworkNamespace] {
        let all = selectors.contains(.all) ? try list() : []
        let wanted = (all.count + selectors.count) * perNamespace + reserve
        // Descriptors that this process has open already count too.
        DescriptorLimit.raise(to: wanted + 64)
        let isHeld = DescriptorLimit.free(upTo: wanted) >= wanted
        var found: [NetworkNamespace] = []
        var inodes: Set<UInt64> = []
        func add(_ namespace: NetworkNamespace) {
            if inodes.insert(namespace.inode).inserted { found.append(namespace) }
        }
        for selector in selectors {
            switch selector {
            case .host: add(try host(isHeld: isHeld))
            case .named(let name):
                // A name is one component: anything else would reach out of the directory.
                guard !name.contains("/"), name != ".", name != ".." else { throw NamespaceError.invalidSelector(name) }
                let path = "\(namesDirectory)/\(name)"
                guard try inode(of: path) != nil else {
                    throw NamespaceError.unknown(name: name, known: try names())
                }
                add(try NetworkNamespace(name: name, path: path, isHeld: isHeld))
            case .process(let pid):
                guard FileManager.default.fileExists(atPath: "/proc/\(pid)") else { throw NamespaceError.noSuchProcess(pid) }
                add(try NetworkNamespace(name: "pid:\(pid)", path: "/proc/\(pid)/ns/net", isHeld: isHeld))
            case .path(let path): add(try NetworkNamespace(name: path, path: path, isHeld: isHeld))
            case .all:
                for entry in all where !inodes.contains(entry.inode) {
                    do {
                        add(try entry.open(isHeld: isHeld))
                    } catch {
                        guard error.isAbsence || error.isPermission else { throw error }
                    }
                }
            }
        }
        return found
    }

    /// Descriptors that following a namespace takes: itself, and a socket each for NFLOG, ctnetlink, links, routes and nf_tables.
    public static let perNamespace = 6

    /// The namespace of this process.
    public static func host() throws(NamespaceError) -> NetworkNamespace { try host(isHeld: true) }

    private static func host(isHeld: Bool) throws(NamespaceError) -> NetworkNamespace {
        try NetworkNamespace(name: "host", path: "/proc/self/ns/net", isHeld: isHeld)
    }

    /// The namespaces that there are, each once: the one of this process as `host`, those with a name, those that processes are
    /// in. None of them is opened.
    ///
    /// - Throws: `NamespaceError` where the list would not be complete. Processes of others that may not be looked at are no
    ///   part of it.
    public static func list() throws(NamespaceError) -> [Entry] {
        let own = try inode(of: "/proc/self/ns/net")
        guard let own else { throw .cannotOpen(path: "/proc/self/ns/net", code: ENOENT) }
        var entries = [Entry(name: "host", inode: own.inode, path: "/proc/self/ns/net")]
        var seen: Set<UInt64> = [own.inode]
        func add(_ name: String, _ path: String) throws(NamespaceError) {
            // A name that is not mounted (any more) is a plain file, on another device.
            guard let found = try inode(of: path), found.device == own.device, seen.insert(found.inode).inserted else { return }
            entries.append(Entry(name: name, inode: found.inode, path: path))
        }
        for name in try names() { try add(name, "\(namesDirectory)/\(name)") }
        let processes = try children(of: "/proc").compactMap { Int32($0) }.sorted()
        for pid in processes { try add("pid:\(pid)", "/proc/\(pid)/ns/net") }
        return entries
    }

    private static func names() throws(NamespaceError) -> [String] {
        do {
            return try children(of: namesDirectory).sorted()
        } catch {
            guard error.isAbsence else { throw error }
            return []
        }
    }

    /// Whether `name` is that of a process which is there and may not be looked at, so that its namespace is not in the list.
    public static func isHidden(_ name: String) -> Bool {
        guard name.hasPrefix("pid:"), let pid = Int32(name.dropFirst(4)) else { return false }
        var status = stat()
        return unsafe stat("/proc/\(pid)/ns/net", &status) != 0 && (errno == EACCES || errno == EPERM)
    }

    /// Identity of what `path` leads to; `nil` where there is nothing, or nothing that may be looked at.
    private static func inode(of path: String) throws(NamespaceError) -> (inode: UInt64, device: UInt64)? {
        var status = stat()
        if unsafe stat(NamespaceName.path(path), &status) == 0 { return (UInt64(status.st_ino), UInt64(status.st_dev)) }
        guard [ENOENT, ESRCH, EACCES, EPERM].contains(errno) else { throw .cannotOpen(path: path, code: errno) }
        return nil
    }

    private static func children(of path: String) throws(NamespaceError) -> [String] {
        guard let directory = unsafe opendir(path) else { throw .cannotList(path: path, code: errno) }
        defer { unsafe closedir(directory) }
        var names: [String] = []
        while true {
            // The end and an error differ in errno alone (readdir(3)).
            errno = 0
            guard let entry = unsafe readdir(directory) else { break }
            let bytes = unsafe withUnsafeBytes(of: &entry.pointee.d_name) { unsafe Array($0.prefix { $0 != 0 }) }
            let name = NamespaceName.text(of: bytes)
            if name != ".", name != ".." { names.append(name) }
        }
        guard errno == 0 else { throw .cannotList(path: path, code: errno) }
        return names
    }
}
