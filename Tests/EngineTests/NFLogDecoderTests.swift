import Engine
import Testing
import TraceModel
import WireFormat

/// Random numbers that are the same in each run.
private struct Numbers {
    var state: UInt64

    mutating func next(_ bound: Int) -> Int {
        state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
        return Int(state >> 33) % bound
    }
}

private func native(_ value: Int, _ count: Int) -> [UInt8] { (0..<count).map { UInt8(truncatingIfNeeded: value >> (8 * $0)) } }

private func big(_ value: Int, _ count: Int = 4) -> [UInt8] { native(value, count).reversed() }

private func attribute(_ type: Int, _ value: [UInt8]) -> [UInt8] {
    native(4 + value.count, 2) + native(type, 2) + value + [UInt8](repeating: 0, count: (4 - value.count % 4) % 4)
}

/// Messages as the kernel writes them, with this and that left out, and some that it would not write.
private struct Messages {
    var numbers: Numbers
    private var packet: [UInt8] = []
    private var sequence = 0

    init(seed: UInt64) { numbers = Numbers(state: seed) }

    private mutating func newPacket() -> [UInt8] {
        let payload = (0..<numbers.next(150)).map { _ in UInt8(numbers.next(256)) }
        if numbers.next(3) == 0 {
            let length = 8 + payload.count
            return big(0x6000_0000, 4) + big(length, 2) + [17, 64] + big(0xFD00, 2) + [UInt8](repeating: 0, count: 13)
                + [UInt8(numbers.next(4))] + big(0xFD00, 2) + [UInt8](repeating: 0, count: 13) + [9]
                + big(1000 + numbers.next(3), 2) + big(53, 2) + big(length, 2) + [0, 0] + payload
        }
        let length = 28 + payload.count
        return [0x45, 0] + big(length, 2) + big(numbers.next(3), 2) + [0x40, 0, 64, 17, 0, 0]
            + big(0x0A00_0001 + numbers.next(3))
            + big(0x0A00_0009) + big(1000 + numbers.next(3), 2) + big(53, 2) + big(8 + payload.count, 2) + [0, 0] + payload
    }

    mutating func next() -> [UInt8] {
        switch numbers.next(8) {
        case 0, 1: packet = newPacket()
        case 2 where packet.count > 20:
            // A router, or a rule that marks: hops, type of service, checksum.
            packet[8] = UInt8(numbers.next(256))
            packet[1] = UInt8(numbers.next(256))
            packet[10] = UInt8(numbers.next(256))
        case 3 where !packet.isEmpty: packet[numbers.next(packet.count)] ^= UInt8(1 << numbers.next(8))
        default: break
        }
        var body: [UInt8] = [numbers.next(4) == 0 ? 10 : 2, 0, 0, 5]
        body += attribute(1, [8, 0, UInt8(numbers.next(6)), 0])
        body += attribute(10, Array("ipt-trace:a1b2c3:raw:CHAIN\(numbers.next(6))".utf8) + [0])
        if numbers.next(2) == 0 { body += attribute(4, big(numbers.next(4))) }
        if numbers.next(2) == 0 { body += attribute(5, big(numbers.next(4))) }
        if numbers.next(3) == 0 { body += attribute(2, big(numbers.next(1000))) }
        if numbers.next(3) == 0 {
            body += attribute(8, big(6, 2) + [0, 0] + (0..<8).map { _ in UInt8(numbers.next(256)) })
            body += attribute(16, (0..<14).map { _ in UInt8(numbers.next(256)) })
        }
        if numbers.next(3) == 0 { body += attribute(3, big(1_700_000_000, 8) + big(numbers.next(1_000_000), 8)) }
        if numbers.next(4) != 0 {
            sequence += 1
            body += attribute(12, big(sequence)) + attribute(13, big(sequence * 3))
        }
        let copied = numbers.next(10) == 0 ? Array(packet.prefix(numbers.next(40))) : packet
        body += attribute(9, Array(copied.prefix(160)))
        if numbers.next(20) == 0 { body += attribute(77, [1, 2, 3, 4]) }
        if numbers.next(30) == 0 { body[numbers.next(body.count)] ^= UInt8(1 << numbers.next(8)) }
        return body
    }
}

@Suite struct NFLogDecoderTests {
    /// What finds no room is nobody's, rather than somebody else's.
    @Test func prefixesPastTheBoundShareAnOriginOfTheirOwn() throws {
        var decoder = NFLogDecoder(parser: PacketParser(), mostOrigins: 2)
        var vocabulary = TemplateRegistry()
        var report = NFLogReport.none
        let packet: [UInt8] =
            [0x45, 0, 0, 28, 0, 1, 0, 0, 64, 17, 0, 0] + big(1) + big(2) + big(1000, 2) + big(53, 2) + [0, 8, 0, 0]
        var prefixes: [String?] = []
        // Twice, so that the second time they are recognised.
        for name in ["a", "b", "c", "d", "a", "b", "c", "d"] {
            let body: [UInt8] =
                [2, 0, 0, 5] + attribute(1, [8, 0, 0, 0]) + attribute(10, Array("rule-\(name)".utf8) + [0])
                + attribute(9, packet)
            try decoder.decode(body.octets, body: 0..<body.count, with: &vocabulary, into: &report)
            prefixes.append(vocabulary.origin(Int(report.origin)).prefix)
        }
        let once = ["rule-a", "rule-b", nil, nil]
        #expect(prefixes == once + once)
        // Another source has room of its own.
        var other = NFLogDecoder(parser: PacketParser(), mostOrigins: 2)
        let body: [UInt8] =
            [2, 0, 0, 5] + attribute(1, [8, 0, 0, 0]) + attribute(10, Array("rule-e".utf8) + [0]) + attribute(9, packet)
        try other.decode(body.octets, body: 0..<body.count, with: &vocabulary, into: &report)
        #expect(vocabulary.origin(Int(report.origin)).prefix == "rule-e")
    }

    /// Recognising a message's shape and a packet's bytes gives what reading them from their beginning gives, in several namespaces
    /// whose messages take turns.
    @Test(arguments: 1...8 as ClosedRange<UInt64>) func whatIsRecognisedIsWhatWouldBeParsed(seed: UInt64) throws {
        var messages = Messages(seed: seed)
        let parser = PacketParser(seed: 7)
        var decoders = (0..<3).map { _ in NFLogDecoder(parser: parser) }
        var vocabulary = TemplateRegistry()
        var report = NFLogReport.none
        var understood = 0
        var recognised = 0
        for number in 0..<20_000 {
            let source = number / 40 % decoders.count
            let body = messages.next()
            let bytes = body.octets
            guard let message = try? NFLogMessage(parsing: bytes, body: 0..<body.count) else {
                #expect(throws: ParseError.self, "message \(number)") {
                    try decoders[source].decode(body.octets, body: 0..<body.count, with: &vocabulary, into: &report)
                }
                continue
            }
            try decoders[source].decode(bytes, body: 0..<body.count, with: &vocabulary, into: &report)
            let origin = vocabulary.origin(Int(report.origin))
            #expect(
                origin.prefix == bytes.text(message.prefix) && origin.family == message.family && origin.hook == message.hook)
            #expect(report.inInterface == message.inInterface && report.outInterface == message.outInterface)
            #expect(report.mark == message.mark && report.timestamp == message.timestamp)
            #expect(report.hasSequence == message.hasSequence && report.sequence == message.sequence)
            #expect(report.globalSequence == message.globalSequence)
            guard let packet = try? parser.parse(bytes, message.payload) else {
                #expect(!report.hasPacket, "message \(number)")
                continue
            }
            try #require(report.hasPacket, "message \(number)")
            let found = decoders[source].packet(report.packet)
            #expect(found.tuple == packet.tuple && found.fingerprint == packet.fingerprint, "message \(number)")
            #expect(report.timeToLive == packet.timeToLive && found.length == packet.length, "message \(number)")
            #expect(found.isFragment == packet.isFragment && found.icmpType == packet.icmpType)
            understood += 1
            if !report.isNewPacket { recognised += 1 }
        }
        #expect(understood > 15_000 && recognised > 5_000)
    }
}
