internal import LinuxSupport
package import TraceModel

/// The namespaces that should be followed and are not.
package struct LeftOut {
    /// By inode.
    private var entries: [UInt64: LeftOutNamespace] = [:]
    /// Whether a person has been told that there are some.
    private var hasTold = false

    package init() {}

    /// Sorted by name.
    package var namespaces: [LeftOutNamespace] { entries.values.sorted { ($0.name, $0.inode) < ($1.name, $1.inode) } }

    /// - Returns: whether it was not among them.
    package mutating func insert(name: String, inode: UInt64, reason: String) -> Bool {
        guard entries[inode] == nil else { return false }
        entries[inode] = LeftOutNamespace(name: name, inode: inode, reason: reason)
        return true
    }

    /// - Returns: whether it was among them.
    package mutating func remove(inode: UInt64) -> Bool { entries.removeValue(forKey: inode) != nil }

    /// Removes those that are gone.
    ///
    /// - Returns: whether there were any.
    package mutating func keep(_ present: Set<UInt64>) -> Bool {
        let before = entries.count
        entries = entries.filter { present.contains($0.key) }
        return entries.count < before
    }

    /// A sentence for a person when there begin to be some, and when there are none any more; else `nil`.
    ///
    /// - Parameter followed: how many namespaces are followed.
    package mutating func news(followed: Int) -> String? {
        guard !entries.isEmpty else {
            defer { hasTold = false }
            return hasTold ? "all namespaces are followed" : nil
        }
        guard !hasTold else { return nil }
        hasTold = true
        return "\(followed) of \(followed + entries.count) namespaces are followed. " + Self.text(namespaces)
            + " What packets do there is not reported, and those that go there are shown as incomplete."
    }

    /// Why a namespace cannot be followed for want of descriptors; the same for all, so that it is said once.
    package static func descriptorReason(namespaces: Int, reserve: Int) -> String {
        let limit = DescriptorLimit.current
        let needed = DescriptorLimit.recommended(namespaces * NamespaceDirectory.perNamespace + reserve)
        return "too few file descriptors: the limit is \(limit.soft) (RLIMIT_NOFILE, hard limit \(limit.hard)), each namespace "
            + "takes \(NamespaceDirectory.perNamespace), and \(reserve) are kept for reading rules and for clients. "
            + "\(DescriptorLimit.advice(needed)), or name fewer namespaces with --netns."
    }

    /// Which are not followed, and why, with a bounded number of names.
    package static func text(_ namespaces: [LeftOutNamespace]) -> String {
        Dictionary(grouping: namespaces, by: \.reason).sorted { $0.key < $1.key }.map { reason, group in
            let names = group.prefix(8).map(\.name.printable).joined(separator: ", ")
            let more = group.count > 8 ? " and \(group.count - 8) more (/namespaces has all)" : ""
            return "Not followed: \(names)\(more): \(reason)" + (reason.hasSuffix(".") ? "" : ".")
        }
        .joined(separator: " ")
    }
}
