import EventSources
import Testing
import TraceModel

/// What is put into the sets of the table that traces rules.
@Suite struct TracedTrafficTests {
    struct Case: Sendable, CustomTestStringConvertible {
        var testDescription: String
        var likeness: TracedTraffic.Likeness
        var isIPv6 = false
        var transport = TransportProtocol.tcp
        var set: String
        var type: String
        var key: String
        var element: String
    }

    @Test(
        "an element and its set have the same parts",
        arguments: [
            Case(
                testDescription: "a new attempt", likeness: .attempt, set: "attempt-ipv4-port",
                type: "ipv4_addr . ipv4_addr . inet_proto . inet_service",
                key: "ip saddr . ip daddr . meta l4proto . th dport", element: "0.0.0.1 . 0.0.0.2 . 6 . 80"),
            Case(
                testDescription: "without ports", likeness: .attempt, transport: TransportProtocol.icmp, set: "attempt-ipv4",
                type: "ipv4_addr . ipv4_addr . inet_proto", key: "ip saddr . ip daddr . meta l4proto",
                element: "0.0.0.1 . 0.0.0.2 . 1"),
            Case(
                testDescription: "to a destination", likeness: .destination, isIPv6: true, set: "destination-ipv6-port",
                type: "ipv6_addr . inet_proto . inet_service", key: "ip6 daddr . meta l4proto . th dport",
                element: "::2 . 6 . 80"),
            Case(
                testDescription: "back from it", likeness: .answer, set: "answer-ipv4-port",
                type: "ipv4_addr . inet_proto . inet_service", key: "ip saddr . meta l4proto . th sport",
                element: "0.0.0.1 . 6 . 1000"),
        ])
    func elements(_ test: Case) {
        func address(_ number: UInt32) -> IPAddress {
            test.isIPv6 ? IPAddress(ipv6High: 0, low: UInt64(number)) : IPAddress(ipv4: number)
        }
        let traffic = TracedTraffic(
            likeness: test.likeness,
            tuple: PacketTuple(
                source: address(1), destination: address(2), sourcePort: 1000, destinationPort: 80, transport: test.transport))
        #expect(traffic.set.name == test.set)
        #expect(traffic.set.type == test.type)
        #expect(traffic.set.key == test.key)
        #expect(traffic.element == test.element)
    }
}
