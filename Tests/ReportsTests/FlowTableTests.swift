import Aggregation
import Testing
import TraceModel

/// Journeys tied to connections.
@Suite struct FlowTableTests {
    private var table = FlowTable(capacity: 2)

    /// A journey through one namespace, where `exit` is what it left as.
    private func journey(
        _ entry: PacketTuple, _ exit: PacketTuple? = nil, namespace: Int = 0, at time: Int64 = 1, tcpFlags: TCPFlags = [],
        icmpType: UInt8 = 0, direction: Direction? = nil
    ) -> Journey {
        var journey = Journey(
            packet: Packet(
                tuple: entry, fingerprint: Fingerprint(header: 0, payload: 0), length: 40, timeToLive: 64, icmpType: icmpType,
                tcpFlags: tcpFlags))
        var leg = JourneyLeg(
            namespace: namespace, stepPath: StepTrie.root, entry: entry, exit: exit ?? entry, lastHook: .postrouting,
            opensConnection: false, firstEvent: EventHistory.none, lastEvent: EventHistory.none)
        leg.direction = direction
        journey.legs = [leg]
        journey.firstSeen = time
        journey.lastSeen = time
        return journey
    }

    private func tcp(_ source: UInt32, _ sourcePort: UInt16, _ destination: UInt32, _ port: UInt16) -> PacketTuple {
        PacketTuple(
            source: IPAddress(ipv4: source), destination: IPAddress(ipv4: destination), sourcePort: sourcePort,
            destinationPort: port, transport: TransportProtocol.tcp)
    }

    @Test("packets of both directions are one flow, and translated addresses name it, too")
    mutating func translation() {
        let inside = tcp(1, 1000, 8, 443)
        let outside = tcp(9, 2000, 8, 443)
        let first = table.add(journey(inside, outside, tcpFlags: .syn), path: 0)
        let answer = table.add(journey(outside.reversed, inside.reversed, at: 2, tcpFlags: [.syn, .ack]), path: 1)
        #expect(first.flow == answer.flow)
        #expect(first.direction == .original && answer.direction == .reply)
        #expect(table.flows.count == 1)
        #expect(table.flows[0].original.packets == 1 && table.flows[0].reply?.packets == 1)
        #expect(table.flows[0].isDirectionKnown)
    }

    @Test("the same addresses in another namespace are another flow")
    mutating func namespaces() {
        let one = table.add(journey(tcp(1, 1000, 2, 80), tcpFlags: .syn), path: 0)
        let other = table.add(journey(tcp(1, 1000, 2, 80), namespace: 1, tcpFlags: .syn), path: 0)
        #expect(one.flow != other.flow)
    }

    @Test("an answer that ended before the packet that it answers is turned round by that packet's SYN")
    mutating func turning() {
        let request = tcp(1, 1000, 2, 80)
        let early = table.add(journey(request.reversed, at: 2, tcpFlags: .ack), path: 1)
        #expect(early.direction == .original)
        let late = table.add(journey(request, at: 1, tcpFlags: .syn), path: 0)
        #expect(late.flow == early.flow)
        #expect(late.direction == .original)
        #expect(table.flows[0].original.tuple == request)
        #expect(table.flows[0].reply?.packets == 1)
        let next = table.add(journey(request.reversed, at: 3, tcpFlags: .ack), path: 1)
        #expect(next.direction == .reply)
    }

    @Test("a direction that connection tracking has told is believed, whatever the packet looks like")
    mutating func told() {
        let found = table.add(journey(tcp(2, 80, 1, 1000), tcpFlags: .ack, direction: .reply), path: 0)
        #expect(found.direction == .reply)
        #expect(table.flows[0].original.tuple == tcp(1, 1000, 2, 80))
        #expect(table.flows[0].original.packets == 0)
    }

    @Test("an echo reply is the reply of its flow, also where the request was not seen")
    mutating func echoes() {
        func icmp(_ source: UInt32, _ destination: UInt32) -> PacketTuple {
            PacketTuple(
                source: IPAddress(ipv4: source), destination: IPAddress(ipv4: destination), sourcePort: 7, destinationPort: 7,
                transport: TransportProtocol.icmp)
        }
        let reply = table.add(journey(icmp(2, 1), icmpType: 0), path: 0)
        let request = table.add(journey(icmp(1, 2), icmpType: 8), path: 1)
        #expect(reply.direction == .reply && request.direction == .original)
        #expect(reply.flow == request.flow)
    }

    @Test(
        "an ICMP error is told of with the connection that it is about, whichever of them ends first", arguments: [true, false])
    mutating func errors(isEarly: Bool) throws {
        let inside = tcp(1, 1000, 8, 443)
        let outside = tcp(9, 2000, 8, 443)
        var message = journey(
            PacketTuple(
                source: IPAddress(ipv4: 8), destination: IPAddress(ipv4: 9), sourcePort: 0, destinationPort: 0,
                transport: TransportProtocol.icmp), icmpType: 3)
        message.serial = 7
        message.packet.quotedFlow = outside.flow
        if isEarly { #expect(table.add(message, path: 1).flow == nil) }
        let flow = try #require(table.add(journey(inside, outside, tcpFlags: .syn), path: 0).flow)
        if !isEarly { #expect(table.add(message, path: 1).direction == .reply) }
        // In another namespace the addresses are another connection's.
        message.legs[0].namespace = 1
        _ = table.add(message, path: 1)
        #expect(table.flows.count == 1 && table.flows[flow].reply == nil)
        let errors = try #require(table.flows[flow].errors.first)
        #expect(errors.packets == 1 && errors.latestJourney == 7 && errors.packet.icmpType == 3)
    }

    @Test("segments that are sent again are counted, acknowledgements and what was not seen whole are not")
    mutating func sentAgain() throws {
        func segment(_ sequence: UInt16, _ length: UInt32, _ traits: TCPSegment.Traits, _ flags: TCPFlags = .ack) -> Journey {
            var journey = journey(tcp(1, 1000, 2, 80), tcpFlags: flags)
            journey.outcome = .delivered
            journey.packet.length = length
            journey.packet.segment = TCPSegment(sequence: sequence, traits: traits.union(.isRead))
            return journey
        }
        var lost = segment(1, 500, .hasData)
        lost.outcome = .incomplete
        var ofLog = segment(1, 500, .hasData)
        ofLog.packet.segment.traits = .hasData
        for one in [
            segment(0, 60, [], .syn), segment(0, 60, [], .syn), segment(1, 40, []), segment(1, 40, []),
            segment(1, 500, .hasData),
            segment(449, 500, .hasData), segment(1, 500, .hasData), lost, ofLog, segment(900, 40, .closesWindow),
        ] {
            _ = table.add(one, path: 0)
        }
        let side = try #require(table.flows.first).original
        #expect(side.sentAgain == 2 && side.closedWindows == 1 && side.packets == 10)
    }

    @Test("past the capacity the oldest gives way, and its addresses name it no longer")
    mutating func capacity() throws {
        let first = tcp(1, 1000, 2, 80)
        _ = table.add(journey(first, tcpFlags: .syn), path: 0)
        _ = table.add(journey(tcp(1, 1001, 2, 80), tcpFlags: .syn), path: 0)
        _ = table.add(journey(tcp(1, 1002, 2, 80), tcpFlags: .syn), path: 0)
        #expect(table.flows.count == 2)
        #expect(table.flows.allSatisfy { $0.original.tuple != first })
        // The oldest's answer belongs to no flow that is there.
        let answer = try #require(table.add(journey(first.reversed, tcpFlags: .ack), path: 0).flow)
        #expect(table.flows[answer].original.packets + (table.flows[answer].reply?.packets ?? 0) == 1)
    }
}
