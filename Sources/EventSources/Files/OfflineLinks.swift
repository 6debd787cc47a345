public import Captures
internal import Engine
private import Foundation
internal import TraceModel
internal import WireFormat

/// The interfaces of a machine's namespaces as `ip -json -details link` printed them: their names, and which of them reach one
/// another.
public struct OfflineLinks: Sendable {
    private(set) var links: [(namespace: String, links: [LinkMessage])] = []

    public init() {}

    /// Reads files given as `NAMESPACE=FILE`, or `FILE` for the host's links.
    public init(arguments: [String]) throws(CaptureError) {
        for argument in arguments {
            let named = NamedFile(argument)
            guard let data = FileManager.default.contents(atPath: named.path) else {
                throw .invalidArgument("cannot read \(named.path), given with --links")
            }
            try add(Array(data), namespace: named.name ?? "host", file: named.path)
        }
    }

    /// The fields of a link that are needed of those that `ip` prints.
    private struct Link: Decodable {
        struct Info: Decodable {
            struct Data: Decodable {
                var id: UInt32?
                var filtering: Int?
                var filtersIPv4: Int?
                var filtersIPv6: Int?
                private enum CodingKeys: String, CodingKey {
                    case id
                    case filtering = "vlan_filtering"
                    case filtersIPv4 = "nf_call_iptables"
                    case filtersIPv6 = "nf_call_ip6tables"
                }
            }

            struct Port: Decodable {
                var state: String?
                var hairpin: Bool?
                var isolated: Bool?
            }

            var kind: String?
            var data: Data?
            var port: Port?

            private enum CodingKeys: String, CodingKey {
                case kind = "info_kind"
                case data = "info_data"
                case portKind = "info_slave_kind"
                case port = "info_slave_data"
            }

            init(from decoder: any Decoder) throws {
                let container = try decoder.container(keyedBy: CodingKeys.self)
                kind = try container.decodeIfPresent(String.self, forKey: .kind)
                // Each kind has data of its own; only a VLAN's and a bridge's are wanted.
                data = kind == "vlan" || kind == "bridge" ? try? container.decode(Data.self, forKey: .data) : nil
                // Ports of other masters have data of their own, too.
                if try container.decodeIfPresent(String.self, forKey: .portKind) == "bridge" {
                    port = try? container.decode(Port.self, forKey: .port)
                }
            }
        }

        var index: UInt32?
        var name: String?
        var mtu: UInt32?
        var master: String?
        var link: String?
        var peer: UInt32?
        var peerNamespace: Int32?
        var info: Info?

        private enum CodingKeys: String, CodingKey {
            case index = "ifindex"
            case name = "ifname"
            case mtu
            case master
            case link
            case peer = "link_index"
            case peerNamespace = "link_netnsid"
            case info = "linkinfo"
        }
    }

    package mutating func add(_ json: [UInt8], namespace: String, file: String) throws(CaptureError) {
        let listed: [Link]
        do {
            listed = try JSONDecoder().decode([Link].self, from: Data(json))
        } catch {
            throw .invalidArgument("\(file) is not what ip -json -details link prints")
        }
        let indices = Dictionary(
            listed.compactMap { link in link.name.flatMap { name in link.index.map { (name, $0) } } },
            uniquingKeysWith: { first, _ in first })
        links.append(
            (
                namespace,
                listed.compactMap { link in
                    guard let index = link.index else { return nil }
                    let master = link.master.flatMap { indices[$0] }
                    let port = link.info?.port.map {
                        BridgePort(
                            bridge: master ?? 0, isHairpin: $0.hairpin ?? false, isIsolated: $0.isolated ?? false,
                            isForwarding: $0.state ?? "forwarding" == "forwarding")
                    }
                    let data = link.info?.data
                    return LinkMessage(
                        index: index, name: link.name ?? "if\(index)", kind: link.info?.kind ?? "",
                        mtu: link.mtu ?? 0, master: master,
                        peer: link.peer ?? link.link.flatMap { indices[$0] }, peerNamespace: link.peerNamespace,
                        vlan: link.info?.data?.id.map { UInt16(truncatingIfNeeded: $0) },
                        filtersVLANs: data?.filtering ?? 0 != 0,
                        bridge: Bridge(
                            filtersIPv4: data?.filtersIPv4 ?? 0 != 0, filtersIPv6: data?.filtersIPv6 ?? 0 != 0), port: port)
                }
            ))
    }

    /// The namespaces with their interfaces, as one channel's layout.
    func layout(_ channel: EventChannel) -> Layout {
        var readings: [LinkGraph.Reading] = []
        for (index, page) in links.enumerated() {
            var reading = LinkGraph.Reading()
            reading.links = page.links
            for number in Set(page.links.compactMap(\.peerNamespace)) {
                if let other = namespace(number, of: index) { reading.peers[number] = other }
            }
            readings.append(reading)
        }
        let linkDomains = LinkGraph.linkDomains(readings)
        var layout = Layout(openLinkDomains: linkDomains.open)
        for (index, page) in links.enumerated() {
            layout.namespaces.append(
                NamespaceLayout(name: page.namespace, inode: 0, interfaces: linkDomains.interfaces[index], channel: channel))
        }
        return layout
    }

    /// The namespace that `index` numbers `number`: the one in which every peer names its own peer back. Numbers mean nothing
    /// outside of the machine that gave them, but pairs do.
    private func namespace(_ number: Int32, of index: Int) -> Int? {
        let pairs = links[index].links.filter { $0.peerNamespace == number }.compactMap { link in
            link.peer.map { (link.index, $0) }
        }
        let fitting = links.indices.filter { other in
            other != index
                && pairs.allSatisfy { own, peer in
                    links[other].links.contains { $0.index == peer && $0.peer == own && $0.peerNamespace != nil }
                }
        }
        return fitting.count == 1 && !pairs.isEmpty ? fitting[0] : nil
    }
}
