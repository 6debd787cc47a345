import Testing
import TraceModel
import WireFormat

private func parse(_ bytes: [UInt8], seed: UInt64 = 0) throws -> Packet {
    try PacketParser(seed: seed).parse(bytes.octets, 0..<bytes.count)
}

@Suite struct PacketParserTests {
    @Test func anIPv4UDPPacketIsReadFieldByField() throws {
        let packet = try parse(PacketBytes().udp(40000, 53))
        #expect(packet.tuple.description == "udp 172.16.0.2:40000 → 8.8.8.8:53")
        #expect(packet.length == 32)
        #expect(packet.timeToLive == 64)
    }

    @Test func anEchoRequestHasItsIdentifierInBothPorts() throws {
        let packet = try parse(PacketBytes().echo(identifier: 69, sequence: 3))
        #expect(packet.tuple.sourcePort == 69 && packet.tuple.destinationPort == 69)
        #expect(packet.icmpType == 8 && packet.icmpSequence == 3)
    }

    @Test func whatWasCopiedBeyondTheReachMakesNoDifference() throws {
        // 28 bytes of headers.
        let seen = [UInt8](repeating: 1, count: PacketParser.reach - 28)
        let one = try parse(PacketBytes().udp(payload: seen + [1, 2, 3]))
        let other = try parse(PacketBytes().udp(payload: seen + [3, 2, 1]))
        #expect(one.fingerprint == other.fingerprint && one.length == 131)
        let short = PacketBytes().udp(payload: seen + [1, 2, 3])
        let cut = try parse(Array(short.prefix(PacketParser.reach)))
        #expect(cut.fingerprint == one.fingerprint)
        let different = try parse(PacketBytes().udp(payload: seen.dropLast() + [2, 1, 2, 3]))
        #expect(different.fingerprint != one.fingerprint)
    }

    @Test func anIPv6PacketIsFoundBehindItsExtensionHeaders() throws {
        let udp: [UInt8] = big(1000) + big(2000) + big(9) + big(0) + [7]
        let plain = try parse(PacketBytes().ipv6(next: 17, udp))
        let extended = try parse(PacketBytes().ipv6(next: 0, [60, 0, 1, 4, 0, 0, 0, 0] + [17, 0, 1, 4, 0, 0, 0, 0] + udp))
        #expect(plain.tuple.description == "udp [2001:db8::1]:1000 → [2001:db8::2]:2000")
        #expect(extended.tuple == plain.tuple)
    }

    struct Rewriting: CustomTestStringConvertible, Sendable {
        var name: String
        var before: [UInt8]
        var after: [UInt8]
        var testDescription: String { name }
    }

    static let inner = PacketBytes(source: [10, 0, 2, 15]).udp(40000, 53)
    static let innerTranslated = PacketBytes(source: [172, 16, 0, 2], checksum: 1).udp(41000, 53)

    @Test(
        "what routers and translation rewrite leaves the fingerprint alone",
        arguments: [
            Rewriting(name: "TTL", before: PacketBytes().udp(), after: PacketBytes(ttl: 63).udp()),
            Rewriting(name: "TOS", before: PacketBytes().udp(), after: PacketBytes(tos: 0x2E).udp()),
            Rewriting(name: "checksums", before: PacketBytes().udp(), after: PacketBytes(checksum: 5).udp()),
            Rewriting(name: "source address", before: PacketBytes().udp(), after: PacketBytes(source: [10, 0, 2, 15]).udp()),
            Rewriting(
                name: "destination address", before: PacketBytes().tcp(), after: PacketBytes(destination: [10, 1, 1, 1]).tcp()),
            Rewriting(name: "ports", before: PacketBytes().udp(1, 2), after: PacketBytes().udp(3, 4)),
            Rewriting(
                name: "TCP maximum segment size", before: PacketBytes().tcp(options: [2, 4, 5, 0xB4]),
                after: PacketBytes().tcp(options: [2, 4, 5, 0x78])),
            Rewriting(
                name: "ICMP query id", before: PacketBytes().echo(identifier: 1), after: PacketBytes().echo(identifier: 2)),
            Rewriting(
                name: "the packet quoted in an ICMP error", before: PacketBytes().unreachable(inner),
                after: PacketBytes().unreachable(innerTranslated)),
            Rewriting(
                name: "IPv6 hop limit and addresses", before: PacketBytes().ipv6(next: 59, [1]),
                after: PacketBytes().ipv6(next: 59, hopLimit: 9, source: 7, destination: 8, [1])),
        ])
    func rewritingKeepsTheFingerprint(_ case: Rewriting) throws {
        #expect(try parse(`case`.before).fingerprint == parse(`case`.after).fingerprint)
    }

    @Test(
        "what tells two packets apart changes the fingerprint",
        arguments: [
            Rewriting(name: "IP id", before: PacketBytes().udp(), after: PacketBytes(id: 1).udp()),
            Rewriting(name: "payload", before: PacketBytes().udp(), after: PacketBytes().udp(payload: [1, 2, 3, 5])),
            Rewriting(name: "length", before: PacketBytes().udp(), after: PacketBytes().udp(payload: [1, 2, 3, 4, 0])),
            Rewriting(name: "TCP sequence", before: PacketBytes().tcp(), after: PacketBytes().tcp(sequence: 8)),
            Rewriting(name: "TCP flags", before: PacketBytes().tcp(), after: PacketBytes().tcp(flags: 0x12)),
            Rewriting(name: "ICMP sequence", before: PacketBytes().echo(), after: PacketBytes().echo(sequence: 2)),
            Rewriting(name: "ICMP type", before: PacketBytes().echo(), after: PacketBytes().echo(type: 0)),
            Rewriting(name: "protocol", before: PacketBytes().ipv4(47, [1]), after: PacketBytes().ipv4(50, [1])),
            Rewriting(
                name: "fragment offset", before: PacketBytes(fragment: 0x2000).ipv4(17, [1, 2, 3, 4, 5, 6, 7, 8]),
                after: PacketBytes(fragment: 0x0001).ipv4(17, [1, 2, 3, 4, 5, 6, 7, 8])),
            Rewriting(
                name: "IPv6 flow label", before: PacketBytes().ipv6(next: 59, [1]),
                after: PacketBytes().ipv6(next: 59, flow: 1, [1])),
        ])
    func differencesChangeTheFingerprint(_ case: Rewriting) throws {
        #expect(try parse(`case`.before).fingerprint != parse(`case`.after).fingerprint)
    }

    @Test func anotherSeedGivesOtherFingerprints() throws {
        let bytes = PacketBytes().udp()
        #expect(try parse(bytes, seed: 1).fingerprint != parse(bytes, seed: 2).fingerprint)
    }

    @Test func aLaterFragmentHasNoPorts() throws {
        let packet = try parse(PacketBytes(fragment: 0x0010).udp())
        #expect(packet.tuple.sourcePort == 0 && packet.tuple.destinationPort == 0)
    }

    @Test(
        "an IP header that is cut short or inconsistent is an error that says where",
        arguments: [
            ([], ParseError.truncated(offset: 0, needed: 1, available: 0)),
            ([0x45, 0, 0], ParseError.truncated(offset: 0, needed: 20, available: 3)),
            ([0x60, 0, 0, 0], ParseError.truncated(offset: 0, needed: 40, available: 4)),
            ([0x15], ParseError.unknownVersion(1)),
            ([0x44] + [UInt8](repeating: 0, count: 30), ParseError.invalidLength(offset: 0, value: 16)),
            ([0x4F] + [UInt8](repeating: 0, count: 30), ParseError.truncated(offset: 0, needed: 60, available: 31)),
            ([0x45, 0, 0, 9] + [UInt8](repeating: 0, count: 20), ParseError.invalidLength(offset: 2, value: 9)),
        ])
    func brokenHeaders(_ bytes: [UInt8], _ error: ParseError) {
        #expect(throws: error) { try parse(bytes) }
    }

    @Test func aTransportHeaderThatIsCutShortIsNoError() throws {
        for length in 20..<PacketBytes().tcp().count {
            let packet = try parse(Array(PacketBytes().tcp()[..<length]))
            #expect(packet.tuple.source.description == "172.16.0.2")
        }
    }
}

@Suite struct AddressTests {
    @Test(
        "addresses print as RFC 5952 has them",
        arguments: [
            (0, 0, "::"), (0, 1, "::1"), (0x2001_0DB8_0000_0000, 1, "2001:db8::1"),
            (0x2001_0DB8_0000_0001, 0x0001_0001_0001_0001, "2001:db8:0:1:1:1:1:1"),
            (0x2001_0DB8_0000_0000, 0x0001_0000_0000_0001, "2001:db8::1:0:0:1"),
            (0xFE80_0000_0000_0000, 0, "fe80::"), (0, 0x0000_FFFF_0A00_020F, "::ffff:10.0.2.15"),
        ] as [(UInt64, UInt64, String)])
    func ipv6(_ high: UInt64, _ low: UInt64, _ text: String) {
        #expect(IPAddress(ipv6High: high, low: low).description == text)
    }

    @Test func multicastIsRecognised() {
        #expect(IPAddress(ipv4: 0xE000_0016).isMulticast)
        #expect(IPAddress(ipv4: 0xFFFF_FFFF).isMulticast)
        #expect(!IPAddress(ipv4: 0x0808_0808).isMulticast)
        #expect(IPAddress(ipv6High: 0xFF02 << 48, low: 1).isMulticast)
    }
}

@Suite struct EncapsulationTests {
    struct Case: CustomTestStringConvertible, Sendable {
        var name: String
        var transport: UInt8
        var head: [UInt8]
        var testDescription: String { name }
    }

    private static let ethernet = [UInt8](repeating: 2, count: 12) + [0x08, 0x00]
    private static let udp4789: [UInt8] = big(40000) + big(4789) + big(100) + big(0)

    @Test(
        "a packet that carries another names it as it names itself",
        arguments: [
            Case(name: "IP in IP", transport: 4, head: []),
            Case(name: "GRE", transport: 47, head: [0, 0, 0x08, 0]),
            Case(name: "GRE with key and sequence number", transport: 47, head: [0x30, 0, 0x08, 0, 0, 0, 0, 7, 0, 0, 0, 1]),
            Case(name: "Ethernet in GRE", transport: 47, head: [0, 0, 0x65, 0x58] + ethernet),
            Case(name: "VXLAN", transport: 17, head: udp4789 + [0x08, 0, 0, 0, 0, 0, 7, 0] + ethernet),
            Case(
                name: "VXLAN with a VLAN in it", transport: 17,
                head: udp4789 + [0x08, 0, 0, 0, 0, 0, 7, 0] + ethernet.dropLast(2) + [0x81, 0, 0, 5, 0x08, 0]),
            Case(
                name: "Geneve with an option", transport: 17,
                head: big(40000) + big(6081) + big(100) + big(0) + [1, 0, 0x65, 0x58, 0, 0, 7, 0, 1, 2, 3, 4] + ethernet),
        ])
    func carried(_ example: Case) throws {
        let inner = PacketBytes().echo(identifier: 69, sequence: 3)
        let outer = try parse(PacketBytes().ipv4(example.transport, example.head + inner))
        #expect(outer.carries == (try parse(inner).identity))
        #expect(try parse(inner).carries == 0)
        let other = PacketBytes().echo(identifier: 69, sequence: 4)
        #expect(try parse(PacketBytes().ipv4(example.transport, example.head + other)).carries != outer.carries)
    }

    @Test func whatIsCutShortOrCarriesNothingNamesNothing() throws {
        for length in 0..<30 {
            let bytes = Self.udp4789 + [0x08, 0, 0, 0, 0, 0, 7, 0] + Self.ethernet + [0x45, 0, 0, 84]
            #expect(try parse(PacketBytes().ipv4(17, Array(bytes.prefix(length)))).carries == 0)
        }
        #expect(try parse(PacketBytes().udp(40000, 53)).carries == 0)
        #expect(try parse(PacketBytes().ipv4(47, [0, 0, 0x88, 0x47, 1, 2, 3, 4])).carries == 0)
    }
}
