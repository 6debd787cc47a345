import Engine
import Testing
import TraceModel
import WireFormat

@Suite struct LinkGraphTests {
    private static func link(
        _ index: UInt32, _ name: String, _ kind: String, master: UInt32? = nil, peer: UInt32? = nil, elsewhere: Bool = false,
        vlan: UInt16? = nil, filtersVLANs: Bool = false
    ) -> LinkMessage {
        LinkMessage(
            index: index, name: name, kind: kind, mtu: 1500, master: master, peer: peer, peerNamespace: elsewhere ? 0 : nil,
            vlan: vlan, filtersVLANs: filtersVLANs)
    }

    /// A guest and a host on one veth pair, with `guest` and `host` beside it.
    private static func linkDomains(guest: [LinkMessage], host: [LinkMessage], master: UInt32? = nil) -> (
        guest: [UInt32: Interface], host: [UInt32: Interface], open: Set<UInt32>
    ) {
        var readings = [LinkGraph.Reading(), LinkGraph.Reading()]
        readings[0].links = [link(2, "up", "veth", peer: 2, elsewhere: true)] + guest
        readings[1].links = [link(2, "down", "veth", master: master, peer: 2, elsewhere: true)] + host
        readings[0].peers = [0: 1]
        readings[1].peers = [0: 0]
        let linkDomains = LinkGraph.linkDomains(readings)
        return (linkDomains.interfaces[0], linkDomains.interfaces[1], linkDomains.open)
    }

    @Test func vlansReachTheirOwnKindOnly() {
        let found = Self.linkDomains(
            guest: [Self.link(10, "up.10", "vlan", peer: 2, vlan: 10), Self.link(20, "up.20", "vlan", peer: 2, vlan: 20)],
            host: [Self.link(30, "down.10", "vlan", peer: 2, vlan: 10), Self.link(40, "down.20", "vlan", peer: 2, vlan: 20)])
        #expect(found.guest[2]?.linkDomain == found.host[2]?.linkDomain)
        #expect(found.guest[10]?.linkDomain == found.host[30]?.linkDomain)
        #expect(found.guest[20]?.linkDomain == found.host[40]?.linkDomain)
        #expect(Set([2, 10, 20].compactMap { found.guest[$0]?.linkDomain }).count == 3)
        #expect(found.open.isEmpty)
    }

    @Test func aVLANWithinAVLANIsFoundThroughBoth() {
        // The inner links are listed first: the links below them are joined only later.
        let found = Self.linkDomains(
            guest: [Self.link(3, "inner", "vlan", peer: 4, vlan: 7), Self.link(4, "outer", "vlan", peer: 2, vlan: 10)],
            host: [Self.link(5, "inner", "vlan", peer: 6, vlan: 7), Self.link(6, "outer", "vlan", peer: 2, vlan: 10)])
        #expect(
            found.guest[3]?.linkDomain == found.host[5]?.linkDomain && found.guest[3]?.linkDomain != found.guest[4]?.linkDomain)
    }

    @Test func aVLANOfACardLeadsOutside() {
        let found = Self.linkDomains(
            guest: [], host: [Self.link(7, "eth0", ""), Self.link(8, "eth0.10", "vlan", peer: 7, vlan: 10)])
        #expect(found.host[8].map { found.open.contains($0.linkDomain) } == true)
        #expect(found.host[8]?.linkDomain != found.host[7]?.linkDomain)
    }

    @Test func aBridgeWithVLANsOfItsOwnMayHandFramesOnUntagged() {
        let found = Self.linkDomains(
            guest: [],
            host: [
                Self.link(9, "br0", "bridge", filtersVLANs: true), Self.link(10, "br0.10", "vlan", peer: 9, vlan: 10),
            ], master: 9)
        #expect(found.host[10]?.linkDomain == found.guest[2]?.linkDomain)
    }

    @Test("links into a namespace that was not read reach others of the machine, a network card does not")
    func linksToOthers() {
        var reading = LinkGraph.Reading()
        reading.links = [
            Self.link(2, "eth0", ""), Self.link(3, "stray", "veth", peer: 2, elsewhere: true),
            Self.link(4, "stray.10", "vlan", peer: 3, vlan: 10), Self.link(5, "br0", "bridge"),
            Self.link(6, "port", "veth", master: 5, peer: 2, elsewhere: true),
            Self.link(7, "eth0.10", "vlan", peer: 2, vlan: 10),
            Self.link(8, "vxlan0", "vxlan"),
        ]
        let linkDomains = LinkGraph.linkDomains([reading])
        let reaching = linkDomains.interfaces[0].values.filter { linkDomains.toOthers.contains($0.linkDomain) }.map(\.name)
            .sorted()
        #expect(reaching == ["br0", "port", "stray", "stray.10", "vxlan0"])
        #expect(linkDomains.toOthers.isSubset(of: linkDomains.open))
    }
}
