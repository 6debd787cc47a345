import Testing
import TraceModel
import WireFormat

@Suite struct RouteMessageTests {
    private static let gateway: [UInt8] = [10, 0, 0, 1]

    private static func route(_ bytes: [UInt8]) throws -> RouteMessage? {
        try RouteMessage(parsing: bytes.octets, body: 0..<bytes.count)
    }

    private static func rule(_ bytes: [UInt8]) throws -> PolicyRuleMessage? {
        try PolicyRuleMessage(parsing: bytes.octets, body: 0..<bytes.count)
    }

    @Test("an entry has its prefix, gateway, interface, table and metric")
    func single() throws {
        // AF_INET, 24 bits, table 252 (RT_TABLE_COMPAT: the attribute has it), unicast
        let head: [UInt8] = [2, 24, 0, 0, 252, 4, 0, 1, 0, 0, 0, 0]
        let bytes =
            head + attribute(1, [192, 0, 2, 0]) + attribute(5, Self.gateway) + attribute(4, native32(7))
            + attribute(6, native32(100)) + attribute(15, native32(1000)) + attribute(7, [192, 0, 2, 9])
        let route = try #require(try Self.route(bytes))
        #expect(route.destination == AddressPrefix("192.0.2.0/24") && route.table == 1000 && route.metric == 100)
        #expect(route.nextHops == [RouteMessage.NextHop(interface: 7, gateway: IPAddress("10.0.0.1"))])
        #expect(route.preferredSource == IPAddress("192.0.2.9") && route.type == 1)
    }

    @Test("several next hops, one by a gateway of the other family")
    func several() throws {
        let head: [UInt8] = [2, 0, 0, 0, 254, 4, 0, 1, 0, 0, 0, 0]
        let via: [UInt8] = [10, 0, 0xFE, 0x80] + [UInt8](repeating: 0, count: 13) + [1]
        func hop(_ interface: UInt32, _ attributes: [UInt8]) -> [UInt8] {
            native16(UInt16(8 + attributes.count)) + [0, 0] + native32(interface) + attributes
        }
        let hops = hop(3, attribute(5, Self.gateway)) + hop(4, attribute(18, via))
        let route = try #require(try Self.route(head + attribute(9, hops)))
        #expect(route.destination.description == "default")
        #expect(
            route.nextHops == [
                RouteMessage.NextHop(interface: 3, gateway: IPAddress("10.0.0.1")),
                RouteMessage.NextHop(interface: 4, gateway: IPAddress("fe80::1")),
            ])
    }

    @Test("a hop whose length is wrong, and a message that is too short, are errors; another family is none of ours")
    func damaged() throws {
        let head: [UInt8] = [2, 0, 0, 0, 254, 4, 0, 1, 0, 0, 0, 0]
        #expect(throws: ParseError.self) { try Self.route(head + attribute(9, [4, 0, 0, 0, 1, 0, 0, 0])) }
        #expect(throws: ParseError.self) { try Self.route(head + attribute(9, [200, 0, 0, 0, 1, 0, 0, 0])) }
        #expect(throws: ParseError.self) { try Self.route([2, 0, 0]) }
        #expect(throws: ParseError.self) { try Self.rule([2, 0, 0]) }
        #expect(try Self.route([7] + head.dropFirst()) == nil)
    }

    @Test("a rule has its conditions and its action")
    func policyRule() throws {
        // AF_INET6, from a /64, FR_ACT_TO_TBL, inverted
        let head: [UInt8] = [10, 0, 64, 0, 252, 0, 0, 1, 2, 0, 0, 0]
        let prefix: [UInt8] = [0xFD] + [UInt8](repeating: 0, count: 15)
        let bytes =
            head + attribute(2, prefix) + attribute(6, native32(900)) + attribute(10, native32(7)) + attribute(16, native32(15))
            + attribute(15, native32(100)) + attribute(3, Array("eth0".utf8) + [0]) + attribute(22, [6])
            + attribute(24, native16(80) + native16(90)) + attribute(14, native32(0))
        let rule = try #require(try Self.rule(bytes))
        #expect(rule.priority == 900 && rule.action == .lookUp(table: 100) && rule.isInverted && !rule.hasOthers)
        #expect(rule.source == AddressPrefix("fd00::/64") && rule.hasMark && rule.mark == 7 && rule.markMask == 15)
        #expect(rule.inInterface == "eth0" && rule.transport == 6 && rule.destinationPorts == 80...90)
        #expect(rule.suppressedLength == 0)
        let users = try #require(
            try Self.rule([2, 0, 0, 0, 0, 0, 0, 8, 0, 0, 0, 0] + attribute(20, native32(0) + native32(9))))
        #expect(users.action == .prohibit && users.hasOthers)
    }
}
