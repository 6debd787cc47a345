package import Engine
private import Foundation
package import LinuxSupport
internal import TraceModel
internal import WireFormat

/// Which interfaces of which namespaces reach one another without routing, from rtnetlink.
package enum Topology {
    /// Reads the interfaces of `namespaces[index]`; nothing where that one is gone.
    package static func read(_ index: Int, of namespaces: [NetworkNamespace?]) throws -> LinkGraph.Reading {
        var reading = LinkGraph.Reading()
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
}
