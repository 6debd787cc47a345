package import Ruleset
package import TraceModel

/// Which number a namespace has in the layout for each way in which its packets are reported.
///
/// With the kernel log followed, every namespace is there twice: what the two say of a packet cannot be compared, and rules
/// for the one must not be waited for by packets that the other reported.
package struct NamespaceIndexing: Sendable {
    package let hasKernelLog: Bool

    package init(hasKernelLog: Bool) { self.hasKernelLog = hasKernelLog }

    private var channels: [EventChannel] { hasKernelLog ? [.nflog, .kernelLog] : [.nflog] }

    /// Distance between the link domains of the two channels.
    private static let linkDomainOffset: UInt32 = 1 << 28

    /// The number of the namespace at `place` for NFLOG.
    package func index(of place: Int) -> Int { place * channels.count }

    /// All numbers of the namespace that has `index` for NFLOG.
    package func indices(of index: Int) -> [Int] { channels.indices.map { index + $0 } }

    /// The number for the rules of `target`; `nil` where nobody listens to them.
    package func index(of place: Int, _ target: ProbeRule.Target) -> Int? {
        switch target {
        case .nflog: index(of: place)
        case .log: hasKernelLog ? index(of: place) + 1 : nil
        }
    }

    /// A namespace's entries in the layout, in the order of their numbers.
    package func layouts(name: String, inode: UInt64) -> [NamespaceLayout] {
        channels.map { NamespaceLayout(name: name, inode: inode, channel: $0) }
    }

    /// The interfaces of the entry at `index`; link domains of the two channels never meet.
    package func interfaces(_ byPlace: [[UInt32: Interface]], of index: Int) -> [UInt32: Interface] {
        let interfaces = byPlace[index / channels.count]
        guard channels[index % channels.count] == .kernelLog else { return interfaces }
        return interfaces.mapValues {
            var interface = $0
            if interface.linkDomain != 0 { interface.linkDomain += Self.linkDomainOffset }
            interface.isTunnel = false
            return interface
        }
    }

    package func open(_ linkDomains: Set<UInt32>) -> Set<UInt32> {
        hasKernelLog ? linkDomains.union(linkDomains.map { $0 + Self.linkDomainOffset }) : linkDomains
    }
}
