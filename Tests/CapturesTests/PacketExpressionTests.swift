import Captures
import Testing
import TraceModel

@Suite struct PacketExpressionTests {
    private static func packet(
        _ source: String, _ destination: String, _ transport: UInt8, port: UInt16 = 443, flags: TCPFlags = [], type: UInt8 = 0,
        length: UInt32 = 60
    ) throws -> Packet {
        let isICMP = transport == TransportProtocol.icmp || transport == TransportProtocol.icmpv6
        return Packet(
            tuple: PacketTuple(
                source: try #require(IPAddress(source)), destination: try #require(IPAddress(destination)),
                sourcePort: isICMP ? 7 : 40_000, destinationPort: isICMP ? 7 : port, transport: transport),
            fingerprint: Fingerprint(header: 0, payload: 0), length: length, timeToLive: 63, icmpType: type, icmpCode: 4,
            tcpFlags: flags)
    }

    @Test(
        "an expression fits what tcpdump would show",
        arguments: [
            ("host 10.0.0.5 and tcp port 443", [true, false, false, false]),
            ("tcp[tcpflags] & tcp-syn != 0", [true, false, false, false]),
            ("udp port 53", [false, true, false, false]), ("net 10.0.0.0/8", [true, true, true, false]),
            ("src host 10.0.0.5", [true, true, false, false]), ("icmp[icmptype] == icmp-unreach", [false, false, true, false]),
            ("icmp[icmpcode] == 4", [false, false, true, false]), ("ip6", [false, false, false, true]),
            ("ip6 host 2001:db8::1 and tcp dst port 80", [false, false, false, true]),
            ("port 80", [false, false, false, true]),
            ("greater 1000", [false, false, true, false]), ("ip[8] < 64", [true, true, true, false]),
            ("not tcp", [false, true, true, false]), ("dst portrange 400-500", [true, false, false, false]),
            ("ip multicast", [false, false, false, false]), ("", [true, true, true, true]),
        ] as [(String, [Bool])])
    func fits(_ text: String, _ expected: [Bool]) throws {
        let expression = try PacketExpression(text)
        let packets = [
            try Self.packet("10.0.0.5", "192.0.2.1", TransportProtocol.tcp, flags: .syn),
            try Self.packet("10.0.0.5", "10.0.0.6", TransportProtocol.udp, port: 53),
            try Self.packet("192.0.2.1", "10.0.0.5", TransportProtocol.icmp, type: 3, length: 1400),
            try Self.packet("2001:db8::1", "2001:db8::2", TransportProtocol.tcp, port: 80, flags: .ack),
        ]
        #expect(packets.map { expression.fits($0, $0.tuple) } == expected)
    }

    @Test("a packet is chosen by what it was at any of its steps")
    func translated() throws {
        let packet = try Self.packet("10.0.0.5", "192.0.2.1", TransportProtocol.tcp)
        var journey = Journey(packet: packet)
        var behind = packet.tuple
        behind.destination = IPAddress(ipv4: 0x0A01_0203)
        journey.legs = [
            JourneyLeg(
                namespace: 0, stepPath: StepTrie.root, entry: packet.tuple, exit: behind, lastHook: .postrouting,
                opensConnection: true, firstEvent: 0, lastEvent: 1)
        ]
        #expect(try PacketExpression("dst host 10.1.2.3").fits(journey) && PacketExpression("dst host 192.0.2.1").fits(journey))
        #expect(try !PacketExpression("dst host 10.1.2.4").fits(journey))
    }

    @Test(
        "what is no expression, or asks for what a trace does not keep, is refused",
        arguments: [
            "host 10.0.0.5 adn port 1", "port 99999", "ether host 00:11:22:33:44:55", "tcp[4:4] == 7", "ip[1] != 0",
            "tcp[20:4] == 0x47455420", "udp[8] == 1", "ip[4:2] == 1", "(", "vlan 7",
        ])
    func refused(_ text: String) { #expect(throws: PacketExpression.Problem.self) { _ = try PacketExpression(text) } }
}
