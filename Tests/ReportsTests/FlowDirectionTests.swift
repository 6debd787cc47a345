import Aggregation
import Diagnosis
import Reports
import Testing
import TraceModel

/// Which side of a connection began.
@Suite struct FlowDirectionTests {
    private static let syn: TCPFlags = .syn
    private static let synAck: TCPFlags = [.syn, .ack]
    private static let ack: TCPFlags = .ack
    private static let rstAck: TCPFlags = [.rst, .ack]

    private static let asked = PacketTuple(
        source: IPAddress(ipv4: 0x0A00_0001), destination: IPAddress(ipv4: 0x0A00_0002), sourcePort: 4000,
        destinationPort: 80, transport: TransportProtocol.tcp)

    private func scene(_ packets: [(tuple: PacketTuple, flags: TCPFlags, outcome: Outcome)]) -> Scene {
        var scene = Scene()
        for packet in packets {
            let places =
                packet.tuple == Self.asked ? ["raw/PREROUTING", "filter/INPUT"] : ["raw/OUTPUT", "mangle/POSTROUTING"]
            scene.add([scene.leg(1, places, packet.tuple)], packet.outcome, tcpFlags: packet.flags)
        }
        return scene
    }

    @Test(
        "a packet that either side may send turns no connection round",
        arguments: [rstAck, ack, .rst, [.fin, .ack]] as [TCPFlags])
    func unknown(_ flags: TCPFlags) throws {
        let flow = try #require(scene([(Self.asked, flags, .dropped)]).snapshot.flowsReport().flows.first)
        #expect(!flow.directionKnown && flow.reply == nil)
        #expect(flow.original.packets == 1 && flow.original.source == "10.0.0.1")
    }

    @Test("an answer makes its other side the original")
    func answered() throws {
        let flow = try #require(scene([(Self.asked.reversed, Self.synAck, .sent)]).snapshot.flowsReport().flows.first)
        #expect(flow.directionKnown && flow.original.source == "10.0.0.1" && flow.reply?.packets == 1)
    }

    @Test("a packet that opens the connection turns round what came before it")
    func turned() throws {
        let packets = [
            (Self.asked.reversed, Self.rstAck, Outcome.sent), (Self.asked, Self.syn, .delivered),
            (Self.asked, Self.syn, .delivered), (Self.asked.reversed, Self.rstAck, .sent),
        ]
        let flows = scene(packets).snapshot.flowsReport().flows
        let flow = try #require(flows.first)
        #expect(flows.count == 1 && flow.directionKnown)
        #expect(flow.original.source == "10.0.0.1" && flow.original.packets == 2 && flow.reply?.packets == 2)
    }

    @Test("a RST at once means that nobody listens, one after an answer does not")
    func refused() throws {
        let refused = scene([(Self.asked, Self.syn, .delivered), (Self.asked.reversed, Self.rstAck, .sent)])
        let finding = try #require(refused.snapshot.findings.first { $0.kind == "nobody-listens" })
        #expect(finding.title == "nothing listens on 10.0.0.2:80 in host" && finding.packets == 1)
        for packets in [
            [
                (Self.asked, Self.syn, Outcome.delivered), (Self.asked.reversed, Self.synAck, .sent),
                (Self.asked.reversed, Self.rstAck, .sent),
            ],
            [(Self.asked, Self.syn, .dropped), (Self.asked.reversed, Self.rstAck, .sent)],
            [(Self.asked, Self.ack, .delivered), (Self.asked.reversed, Self.rstAck, .sent)],
        ] {
            #expect(!scene(packets).snapshot.findings.contains { $0.kind == "nobody-listens" })
        }
    }
}
