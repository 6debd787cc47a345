import Correlation
import Engine
import TraceModel
import WireFormat

/// A registry with one namespace and the probes that `prefixes` name by table and hook.
private func registry(_ prefixes: [(String, Table, Hook)]) -> LayoutRegistry {
    let registry = LayoutRegistry()
    registry.update(
        namespaces: [NamespaceLayout(name: "host", inode: 1, interfaces: [2: Interface(name: "eth0", linkDomain: 1)])],
        openLinkDomains: [1],
        probes: prefixes.map { prefix, table, hook in
            Probe(
                namespace: 0, family: .ipv4, table: table, chain: hook.name, hook: hook, backend: .nft, prefix: prefix,
                coverage: .every(.none, until: nil))
        })
    return registry
}

/// A reader, and the correlator that it feeds.
struct ReaderFixture: ~Copyable {
    var correlator = Correlator()
    var reader: NFLogReader
    var vocabulary = TemplateRegistry()

    init(_ prefixes: [(String, Table, Hook)]) {
        let registry = registry(prefixes)
        correlator.update(registry.current)
        reader = NFLogReader(namespace: 0, parser: PacketParser(), registry: registry)
    }

    mutating func read(_ bytes: [UInt8]) { reader.read(bytes.octets, with: &vocabulary, now: 5, into: &correlator) }
}

private func native(_ value: UInt32, _ count: Int) -> [UInt8] { (0..<count).map { UInt8(value >> (8 * UInt32($0)) & 255) } }

private func attribute(_ type: UInt32, _ value: [UInt8]) -> [UInt8] {
    native(UInt32(4 + value.count), 2) + native(type, 2) + value + [UInt8](repeating: 0, count: (4 - value.count % 4) % 4)
}

func big(_ value: UInt32) -> [UInt8] { native(value, 4).reversed() }

/// One logged UDP packet as nfnetlink_log sends it.
func logged(_ prefix: String, hook: Hook, sequence: UInt32, payload: [UInt8]? = nil) -> [UInt8] {
    let udp: [UInt8] = [0x03, 0xE8, 0, 53, 0, 8, 0, 0]
    let packet = payload ?? [0x45, 0, 0, 28, 0, 1, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2] + udp
    let body =
        [2, 0, 0, 5] + attribute(1, [8, 0, hook.rawValue, 0]) + attribute(10, Array(prefix.utf8) + [0]) + attribute(4, big(2))
        + attribute(12, big(sequence)) + attribute(13, big(sequence &+ 1)) + attribute(9, packet)
    return native(UInt32(16 + body.count), 4) + native(UInt32(NFLogMessage.packetType), 2) + native(0, 2) + native(0, 8) + body
}
