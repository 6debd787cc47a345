import LinuxSupport
import Testing

/// Names of namespaces are file names: any bytes.
@Suite struct NamespaceNameTests {
    @Test(
        "a name reads as text, and back as the bytes that it was",
        arguments: [
            ("a b", Array("a b".utf8)), ("bad\\xffx", [0x62, 0x61, 0x64, 0xFF, 0x78]), ("né", Array("né".utf8)),
            ("bad\\x5cxff", Array("bad\\xff".utf8)), ("\\x80\\x81", [0x80, 0x81]), ("a\\", Array("a\\".utf8)),
            ("\\x5cx", Array("\\x".utf8)), ("\\xc3(", [0xC3, 0x28]),
        ] as [(String, [UInt8])])
    func roundTrip(_ text: String, _ bytes: [UInt8]) {
        #expect(NamespaceName.text(of: bytes) == text)
        #expect(NamespaceName.bytes(of: text) == bytes)
    }

    @Test("no two names read alike")
    func distinct() {
        let names: [[UInt8]] = [
            [0xFF], Array("\\xff".utf8), Array("\\x5cxff".utf8), [0x5C, 0xFF], Array("\\\\xff".utf8), [0x5C, 0x78],
        ]
        #expect(Set(names.map(NamespaceName.text)).count == names.count)
        #expect(names.allSatisfy { NamespaceName.bytes(of: NamespaceName.text(of: $0)) == $0 })
    }
}
