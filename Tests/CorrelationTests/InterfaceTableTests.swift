import Correlation
import Testing
import TraceModel

@Suite struct InterfaceTableTests {
    /// Interfaces have the same small numbers in every namespace; what they are looked up by must not be those alone.
    @Test func interfacesOfManyNamespacesAreFoundAtOnce() {
        let namespaces = (0..<2000).map { (namespace: UInt32) in
            NamespaceLayout(
                name: "n\(namespace)", inode: UInt64(namespace + 1),
                interfaces: [
                    1: Interface(name: "lo", segment: namespace * 2 + 1),
                    2: Interface(name: "eth0", segment: namespace * 2 + 2),
                ])
        }
        let layout = Layout(namespaces: namespaces, probes: [], openSegments: [])
        let table = InterfaceTable(layout, joined: [])
        for namespace in 0..<2000 {
            #expect(table[namespace, 1].segment == UInt32(namespace * 2 + 1))
            #expect(table[namespace, 2].segment == UInt32(namespace * 2 + 2))
            #expect(table[namespace, 3].segment == 0)
        }
        #expect(table.longestSearch < 32)
    }
}
