import Testing
import TraceModel
import WireFormat

/// `struct nlmsghdr` and a body.
func netlinkMessage(type: UInt16, _ body: [UInt8], length: UInt32? = nil) -> [UInt8] {
    let padding = [UInt8](repeating: 0, count: (4 - body.count % 4) % 4)
    return native32(length ?? UInt32(16 + body.count)) + native16(type) + native16(0) + native32(1) + native32(0) + body
        + padding
}

func attribute(_ type: UInt16, _ value: [UInt8]) -> [UInt8] {
    native16(UInt16(4 + value.count)) + native16(type) + value + [UInt8](repeating: 0, count: (4 - value.count % 4) % 4)
}

private func messages(_ bytes: [UInt8]) throws -> [NetlinkMessage] {
    var offset = 0
    var found: [NetlinkMessage] = []
    while let message = try NetlinkMessage.next(in: bytes.octets, at: &offset) { found.append(message) }
    return found
}

@Suite struct NetlinkMessageTests {
    @Test func severalMessagesInOneDatagramAreFoundOneByOne() throws {
        let found = try messages(netlinkMessage(type: 7, [1, 2, 3, 4, 5]) + netlinkMessage(type: 8, []))
        #expect(found.map(\.type) == [7, 8])
        #expect(found[0].body == 16..<21)
    }

    @Test func theLastMessageMayLackItsPadding() throws {
        let bytes = Array(netlinkMessage(type: 7, [1, 2, 3, 4, 5]).dropLast(3))
        #expect(try messages(bytes).count == 1)
    }

    @Test(
        "lengths that cannot be are errors",
        arguments: [
            (
                Array(netlinkMessage(type: 7, [1, 2, 3, 4]).prefix(10)),
                ParseError.truncated(offset: 0, needed: 16, available: 10)
            ),
            (netlinkMessage(type: 7, [], length: 15), ParseError.invalidLength(offset: 0, value: 15)),
            (netlinkMessage(type: 7, [], length: 0), ParseError.invalidLength(offset: 0, value: 0)),
            (netlinkMessage(type: 7, [1, 2, 3, 4], length: 400), ParseError.truncated(offset: 0, needed: 400, available: 20)),
            (
                netlinkMessage(type: 7, [], length: 0xFFFF_FFFF),
                ParseError.truncated(offset: 0, needed: 0xFFFF_FFFF, available: 16)
            ),
        ])
    func badLengths(_ bytes: [UInt8], _ error: ParseError) {
        #expect(throws: error) { try messages(bytes) }
    }
}

@Suite struct NFLogMessageTests {
    static let payload = PacketBytes().echo()

    /// As nfnetlink_log sends it: every attribute that it may have.
    static let body: [UInt8] =
        [2, 0, 0, 5]  // nfgenmsg: AF_INET, version 0, group 5
        + attribute(1, [0x08, 0x00, 2, 0])  // NFULA_PACKET_HDR: ETH_P_IP, NF_INET_FORWARD
        + attribute(10, Array("ipt-trace:abc123:filter:FORWARD".utf8) + [0])  // NFULA_PREFIX
        + attribute(4, big32(3))  // NFULA_IFINDEX_INDEV
        + attribute(5, big32(4))  // NFULA_IFINDEX_OUTDEV
        + attribute(2, big32(0xCAFE))  // NFULA_MARK
        + attribute(3, big32(0) + big32(1_795_248_552) + big32(0) + big32(499_217))  // NFULA_TIMESTAMP
        + attribute(12, big32(41))  // NFULA_SEQ
        + attribute(13, big32(42))  // NFULA_SEQ_GLOBAL
        + attribute(0x7FFF, [1])  // one that nobody knows yet
        + attribute(9, payload)  // NFULA_PAYLOAD

    static func parse(_ body: [UInt8]) throws -> (NFLogMessage, [UInt8]) {
        let bytes = netlinkMessage(type: NFLogMessage.packetType, body)
        var offset = 0
        let frame = try #require(try NetlinkMessage.next(in: bytes.octets, at: &offset))
        return (try NFLogMessage(parsing: bytes.octets, body: frame.body), bytes)
    }

    @Test func everyAttributeIsRead() throws {
        let (message, bytes) = try Self.parse(Self.body)
        #expect(message.family == 2 && message.hook == 2)
        #expect(message.inInterface == 3 && message.outInterface == 4 && message.mark == 0xCAFE)
        #expect(message.timestamp == 1_795_248_552_499_217)
        #expect(message.hasSequence && message.sequence == 41 && message.globalSequence == 42)
        #expect(String(decoding: bytes[message.prefix], as: UTF8.self) == "ipt-trace:abc123:filter:FORWARD")
        #expect(Array(bytes[message.payload]) == Self.payload)
    }

    @Test func aMessageCutAtAnyByteIsAnErrorOrStillSound() throws {
        for length in 0..<Self.body.count {
            do {
                let (message, bytes) = try Self.parse(Array(Self.body.prefix(length)))
                #expect(message.prefix.upperBound <= bytes.count && message.payload.upperBound <= bytes.count)
            } catch let error as ParseError {
                #expect(!error.description.isEmpty)
            }
        }
    }

    @Test func anAttributeThatIsTooShortForItsTypeIsAnError() {
        #expect(throws: ParseError.truncated(offset: 24, needed: 4, available: 2)) {
            try Self.parse([2, 0, 0, 5] + attribute(2, [0, 1]))
        }
    }
}

@Suite struct OtherMessageTests {
    @Test("a bridge and its port are read with what decides where frames go", arguments: [0, 1] as [UInt8])
    func bridges(_ value: UInt8) throws {
        let header = native16(0) + native16(1) + native32(7) + native32(0) + native32(0)
        func kind(_ name: String, _ type: UInt16 = 1) -> [UInt8] { attribute(type, Array(name.utf8) + [0]) }
        let bridge =
            header + attribute(18, kind("bridge") + attribute(2, attribute(36, [value]) + attribute(37, [1 - value])))
        #expect(
            try LinkMessage(parsing: bridge.octets, body: 0..<bridge.count).bridge
                == Bridge(filtersIPv4: value == 1, filtersIPv6: value == 0))
        // IFLA_BRPORT_STATE (3: forwarding), _MODE and _ISOLATED; the master comes behind.
        let data = attribute(1, [2 + value]) + attribute(4, [value]) + attribute(33, [1 - value])
        let port = header + attribute(18, kind("veth") + kind("bridge", 4) + attribute(5, data)) + attribute(10, native32(3))
        let link = try LinkMessage(parsing: port.octets, body: 0..<port.count)
        #expect(link.master == 3)
        #expect(
            link.port
                == BridgePort(bridge: 0, isHairpin: value == 1, isIsolated: value == 0, isForwarding: value == 1))
        let bond = header + attribute(18, kind("veth") + kind("bond", 4) + attribute(5, data))
        #expect(try LinkMessage(parsing: bond.octets, body: 0..<bond.count).port == nil)
    }

    @Test func aVethIsReadWithItsPeerAndMaster() throws {
        let body =
            native16(0) + native16(1) + native32(7) + native32(0) + native32(0)  // struct ifinfomsg, index 7
            + attribute(3, Array("vHOST".utf8) + [0]) + attribute(5, native32(2)) + attribute(10, native32(3))
            + attribute(37, native32(0)) + attribute(18, attribute(1, Array("veth".utf8) + [0]))
        let link = try LinkMessage(parsing: body.octets, body: 0..<body.count)
        #expect(link.index == 7 && link.name == "vHOST" && link.kind == "veth")
        #expect(link.peer == 2 && link.master == 3 && link.peerNamespace == 0)
    }

    @Test func aMasqueradedConnectionIsRead() throws {
        func tuple(_ source: [UInt8], _ destination: [UInt8], _ id: UInt16) -> [UInt8] {
            attribute(1, attribute(1, source) + attribute(2, destination))
                + attribute(2, attribute(1, [1]) + attribute(4, big(id)))
        }
        let body =
            [2, 0, 0, 0] + attribute(1, tuple([172, 16, 0, 2], [8, 8, 8, 8], 69))
            + attribute(2, tuple([8, 8, 8, 8], [10, 0, 2, 15], 69))
        let connection = try #require(try ConntrackMessage(parsing: body.octets, body: 0..<body.count))
        #expect(connection.isTranslated)
        #expect(connection.original.description == "icmp 172.16.0.2 → 8.8.8.8")
        #expect(connection.reply.destination.description == "10.0.2.15")
    }
}

@Suite struct FuzzTests {
    /// A small generator whose seed can be printed and given again.
    struct Random {
        var state: UInt64
        mutating func next() -> UInt64 {
            state &+= 0x9E37_79B9_7F4A_7C15
            var word = state
            word = (word ^ word >> 30) &* 0xBF58_476D_1CE4_E5B9
            word = (word ^ word >> 27) &* 0x94D0_49BB_1331_11EB
            return word ^ word >> 31
        }
    }

    @Test func noBytesCrashTheParsers() {
        let seed = UInt64.random(in: 0...UInt64.max)
        var random = Random(state: seed)
        var parsed = 0
        var refused = 0
        let whole = netlinkMessage(type: NFLogMessage.packetType, NFLogMessageTests.body)
        for round in 0..<20_000 {
            var bytes = whole
            if round % 4 == 0 { bytes = (0..<Int(random.next() % 300)).map { _ in UInt8(truncatingIfNeeded: random.next()) } }
            for _ in 0..<(random.next() % 6) where !bytes.isEmpty {
                bytes[Int(random.next() % UInt64(bytes.count))] = UInt8(truncatingIfNeeded: random.next())
            }
            if random.next() % 3 == 0 { bytes = Array(bytes.prefix(Int(random.next() % UInt64(bytes.count + 1)))) }
            var offset = 0
            do {
                while let frame = try NetlinkMessage.next(in: bytes.octets, at: &offset) {
                    _ = try? LinkMessage(parsing: bytes.octets, body: frame.body)
                    _ = try? ConntrackMessage(parsing: bytes.octets, body: frame.body)
                    _ = try? ChainMessage(parsing: bytes.octets, body: frame.body)
                    let message = try NFLogMessage(parsing: bytes.octets, body: frame.body)
                    _ = try PacketParser().parse(bytes.octets, message.payload)
                    parsed += 1
                }
            } catch {
                refused += 1
            }
            _ = try? PacketParser().parse(bytes.octets, 0..<bytes.count)
        }
        // Both kinds must have occurred, or the fuzzing tested nothing.
        #expect(parsed > 1000 && refused > 1000, "seed \(seed)")
    }
}
