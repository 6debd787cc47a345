private import Foundation
internal import Namespaces
internal import Netlink
internal import TraceModel
internal import WireFormat

/// Which interfaces of which namespaces reach one another without routing, from rtnetlink.
enum Topology {
    /// The interfaces of one namespace, and how it numbers the others.
    struct Reading: Sendable {
        var links: [LinkMessage] = []
        /// By `nsid`: index of the namespace.
        var peers: [Int32: Int] = [:]
    }

    /// Reads the interfaces of `namespaces[index]`; nothing where that one is gone.
    static func read(_ index: Int, of namespaces: [NetworkNamespace?]) throws -> Reading {
        var reading = Reading()
        guard let namespace = namespaces[index] else { return reading }
        let socket = try namespace.enter { try NetlinkSocket(.route) }
        var request = NetlinkRequest()
        // RTM_GETLINK (18) with an empty struct ifinfomsg
        request.append(type: 18, flags: [.request, .dump], body: [UInt8](repeating: 0, count: 16))
        try socket.ask(request.bytes, operation: "list the interfaces of namespace \(namespace.name)") {
            (bytes, message) throws(ParseError) in
            guard message.type == LinkMessage.newLink else { return }
            reading.links.append(try LinkMessage(parsing: bytes, body: message.body))
        }
        guard reading.links.contains(where: { $0.peerNamespace != nil }) else { return reading }
        for (other, namespace) in namespaces.enumerated() where other != index {
            if let namespace, let number = try number(of: namespace, seenBy: socket) { reading.peers[number] = other }
        }
        return reading
    }

    /// The number that the socket's namespace has for another (`RTM_GETNSID`, linux/net_namespace.h).
    private static func number(of namespace: NetworkNamespace, seenBy socket: borrowing NetlinkSocket) throws -> Int32? {
        var number: Int32?
        try namespace.withDescriptor { descriptor in
            var request = NetlinkRequest()
            // RTM_GETNSID (90), struct rtgenmsg padded; NETNSA_FD (3)
            request.append(type: 90, flags: .request, body: [0, 0, 0, 0]) {
                $0.attribute(3, native: UInt32(bitPattern: descriptor))
            }
            number = try socket.askOnce(request.bytes, operation: "number namespace \(namespace.name)") {
                (bytes, message) throws(ParseError) in
                var offset = message.body.lowerBound + 4
                while let attribute = try NetlinkAttribute.next(in: bytes, at: &offset, end: message.body.upperBound) {
                    // NETNSA_NSID (1)
                    if attribute.type == 1, attribute.value.count >= 4 {
                        let number = Int32(bitPattern: bytes.native32(attribute.value.lowerBound))
                        return number >= 0 ? number : nil
                    }
                }
                return nil
            }
        }
        return number
    }

    /// Joins the readings of all namespaces: equal segments reach one another, open ones reach outside.
    static func segments(_ readings: [Reading]) -> (interfaces: [[UInt32: Interface]], open: Set<UInt32>) {
        struct Place: Hashable {
            var namespace: Int
            var link: UInt32
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
        for (namespace, reading) in readings.enumerated() {
            for link in reading.links {
                let own = number(Place(namespace: namespace, link: link.index))
                if let master = link.master {
                    parents[root(own)] = root(number(Place(namespace: namespace, link: master)))
                }
                switch link.kind {
                case "bridge": break
                case "" where link.name == "lo": break
                case "veth", "macvlan", "ipvlan", "vlan", "macvtap":
                    let other = link.peerNamespace.map { reading.peers[$0] } ?? namespace
                    if let peer = link.peer, let other {
                        parents[root(own)] = root(number(Place(namespace: other, link: peer)))
                    } else {
                        open.insert(own)
                    }
                default: open.insert(own)
                }
            }
        }
        var interfaces: [[UInt32: Interface]] = []
        for (namespace, reading) in readings.enumerated() {
            var named: [UInt32: Interface] = [:]
            for link in reading.links {
                // 0 stands for a segment that is not known.
                let segment = root(number(Place(namespace: namespace, link: link.index))) + 1
                named[link.index] = Interface(name: link.name, segment: UInt32(segment), mtu: link.mtu)
            }
            interfaces.append(named)
        }
        return (interfaces, Set(open.map { UInt32(root($0) + 1) }))
    }
}
