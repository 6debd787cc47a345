internal import TraceModel

/// Bridges that hand the packets of their frames to the IP chains of their namespace (br_netfilter), by link domain.
///
/// Only links with one bridge count: of several, frames may pass those that hand nothing on.
struct FilteringBridges: Sendable {
    struct Place: Hashable {
        var namespace: Int
        var family: AddressFamily
    }

    private struct Key: Hashable {
        var link: UInt32
        var family: AddressFamily
    }

    private var namespaces: [Key: Int] = [:]

    /// - Parameter watched: where probes report every packet that is forwarded.
    init(_ layout: Layout, watched: Set<Place>) {
        var bridges: [UInt32: [(namespace: Int, bridge: Bridge)]] = [:]
        for (index, namespace) in layout.namespaces.enumerated() {
            for interface in namespace.interfaces.values where interface.linkDomain != 0 {
                if let bridge = interface.bridge { bridges[interface.linkDomain, default: []].append((index, bridge)) }
            }
        }
        for (link, found) in bridges where found.count == 1 {
            let facts = layout.namespaces[found[0].namespace].facts
            for family in AddressFamily.allCases {
                let filters =
                    family == .ipv4
                    ? found[0].bridge.filtersIPv4 || facts?.filtersBridgedIPv4 == true
                    : found[0].bridge.filtersIPv6 || facts?.filtersBridgedIPv6 == true
                if filters, watched.contains(Place(namespace: found[0].namespace, family: family)) {
                    namespaces[Key(link: link, family: family)] = found[0].namespace
                }
            }
        }
    }

    /// The namespace of the bridge on a link; `nil` where there is none, or it hands nothing on.
    subscript(link: UInt32, family: AddressFamily) -> Int? {
        namespaces.isEmpty ? nil : namespaces[Key(link: link, family: family)]
    }
}
