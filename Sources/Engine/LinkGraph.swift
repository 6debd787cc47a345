package import TraceModel
package import WireFormat

/// Which interfaces of which namespaces reach one another without routing, worked out from their links.
package enum LinkGraph {
    /// The interfaces of one namespace, and how it numbers the others.
    package struct Reading: Sendable {
        package var links: [LinkMessage] = []
        /// By `nsid`: index of the namespace.
        package var peers: [Int32: Int] = [:]

        package init() {}
    }

    /// `IFLA_INFO_KIND` of interfaces that put packets into others.
    private static let tunnelKinds: Set<String> = [
        "ipip", "sit", "ip6tnl", "gre", "gretap", "ip6gre", "ip6gretap", "erspan", "ip6erspan", "vxlan", "geneve", "vti",
        "vti6", "wireguard", "tun",
    ]

    package struct Segments: Sendable {
        /// By namespace and index.
        package var interfaces: [[UInt32: Interface]] = []
        /// Link domains that reach beyond the namespaces that were read.
        package var open: Set<UInt32> = []
        /// Link domains in `open` that reach, or may reach, other namespaces of this machine.
        package var toOthers: Set<UInt32> = []
    }

    /// Joins the readings of all namespaces: equal link domains reach one another, open ones reach outside.
    package static func linkDomains(_ readings: [Reading]) -> Segments {
        struct Place: Hashable {
            var namespace: Int
            var link: UInt32
        }
        struct Tag: Hashable {
            var below: Int
            /// `nil`: whichever.
            var id: UInt16?
        }
        var numbers: [Place: Int] = [:]
        var parents: [Int] = []
        func number(_ place: Place) -> Int {
            if let known = numbers[place] { return known }
            numbers[place] = parents.count
            parents.append(parents.count)
            return parents.count - 1
        }
        func root(_ number: Int) -> Int {
            var number = number
            while parents[number] != number { number = parents[number] }
            return number
        }
        var open: Set<Int> = []
        var toOthers: Set<Int> = []
        var tagged: [(own: Int, below: Int, id: UInt16)] = []
        var filtering: [Int] = []
        var tunnels: [String: Int] = [:]
        var tunnelPorts: Set<Place> = []
        for (namespace, reading) in readings.enumerated() {
            for link in reading.links {
                let own = number(Place(namespace: namespace, link: link.index))
                if let master = link.master {
                    parents[root(own)] = root(number(Place(namespace: namespace, link: master)))
                }
                switch link.kind {
                case "bridge" where link.filtersVLANs: filtering.append(own)
                case "bridge": break
                case "" where link.name == "lo": break
                case "veth", "macvlan", "ipvlan", "vlan", "macvtap":
                    let other = link.peerNamespace.map { reading.peers[$0] } ?? namespace
                    if let peer = link.peer, let other, let id = link.vlan {
                        tagged.append((own, number(Place(namespace: other, link: peer)), id))
                    } else if let peer = link.peer, let other {
                        parents[root(own)] = root(number(Place(namespace: other, link: peer)))
                    } else {
                        open.insert(own)
                        toOthers.insert(own)
                    }
                case _ where tunnelKinds.contains(link.kind):
                    // Through whatever lies between they may reach all others of their kind, and outside.
                    open.insert(own)
                    toOthers.insert(own)
                    parents[root(own)] = root(tunnels[link.kind] ?? own)
                    tunnels[link.kind] = own
                    if let master = link.master { tunnelPorts.insert(Place(namespace: namespace, link: master)) }
                default: open.insert(own)
                }
            }
        }
        // VLANs with one id on one link reach one another. Each join may make two links one, and so other VLANs too.
        var isStable = false
        while !isStable {
            isStable = true
            var known: [Tag: Int] = [:]
            let mixing = Set(filtering.map(root))
            for link in tagged {
                // A bridge with VLANs of its own may hand frames of any of them on untagged.
                let tag = Tag(below: root(link.below), id: mixing.contains(root(link.below)) ? nil : link.id)
                let other = tag.id == nil ? link.below : known[tag] ?? link.own
                if root(other) != root(link.own) {
                    parents[root(link.own)] = root(other)
                    isStable = false
                }
                known[tag] = link.own
            }
        }
        for _ in tagged {
            let outside = Set(open.map(root))
            for link in tagged where outside.contains(root(link.below)) { open.insert(link.own) }
            let others = Set(toOthers.map(root))
            for link in tagged where others.contains(root(link.below)) { toOthers.insert(link.own) }
        }
        var linkDomains = Segments()
        for (namespace, reading) in readings.enumerated() {
            var named: [UInt32: Interface] = [:]
            for link in reading.links {
                // 0 stands for a link domain that is not known.
                let linkDomain = root(number(Place(namespace: namespace, link: link.index))) + 1
                let isTunnel =
                    tunnelKinds.contains(link.kind) || tunnelPorts.contains(Place(namespace: namespace, link: link.index))
                named[link.index] = Interface(
                    name: link.name, linkDomain: UInt32(linkDomain), mtu: link.mtu, isTunnel: isTunnel,
                    bridge: link.kind == "bridge" ? link.bridge : nil, port: link.bridgePort,
                    peer: link.kind == "veth" ? link.peer : nil)
            }
            linkDomains.interfaces.append(named)
        }
        linkDomains.open = Set(open.map { UInt32(root($0) + 1) })
        linkDomains.toOthers = Set(toOthers.map { UInt32(root($0) + 1) })
        return linkDomains
    }
}

extension LinkMessage {
    /// The port that the interface is of its master. The attributes of ports come before or behind that of the master.
    fileprivate var bridgePort: BridgePort? {
        guard var port, let master else { return nil }
        port.bridge = master
        return port
    }
}
