import Correlation
import Testing
import TraceModel

@Suite struct InterfaceTableTests {
    @Test("interfaces with numbers at the ends of their range are found, and no others")
    func extremeNumbers() {
        let numbers: [UInt32] = (0..<40 as Range<UInt32>).flatMap { number -> [UInt32] in
            [number, .max - number, 0x8000_0000 - 20 + number, number << 26]
        }
        let namespaces = (0..<20 as Range<UInt32>).map { namespace -> NamespaceLayout in
            var interfaces: [UInt32: Interface] = [:]
            for number in numbers where (number ^ namespace) % 3 != 0 {
                interfaces[number] = Interface(name: "eth", linkDomain: number &* 31 &+ namespace &+ 1)
            }
            return NamespaceLayout(name: "n\(namespace)", inode: 1, interfaces: interfaces)
        }
        let table = InterfaceTable(Layout(namespaces: namespaces, probes: [], openLinkDomains: []), joined: [])
        for (index, namespace) in namespaces.enumerated() {
            for number in numbers where number != 0 {
                #expect(table[index, number].linkDomain == namespace.interfaces[number]?.linkDomain ?? 0)
            }
            #expect(table[index, 0].linkDomain == 0)
        }
    }

    /// Interfaces have the same small numbers in every namespace; look-ups must not go by those alone.
    @Test func interfacesOfManyNamespacesAreFoundAtOnce() {
        let namespaces = (0..<2000).map { (namespace: UInt32) in
            NamespaceLayout(
                name: "n\(namespace)", inode: UInt64(namespace + 1),
                interfaces: [
                    1: Interface(name: "lo", linkDomain: namespace * 2 + 1),
                    2: Interface(name: "eth0", linkDomain: namespace * 2 + 2),
                ])
        }
        let layout = Layout(namespaces: namespaces, probes: [], openLinkDomains: [])
        let table = InterfaceTable(layout, joined: [])
        for namespace in 0..<2000 {
            #expect(table[namespace, 1].linkDomain == UInt32(namespace * 2 + 1))
            #expect(table[namespace, 2].linkDomain == UInt32(namespace * 2 + 2))
            #expect(table[namespace, 3].linkDomain == 0)
        }
        #expect(table.longestSearch < 32)
    }
}
