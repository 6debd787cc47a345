import Aggregation
import Testing
import TraceModel

@Suite struct RouteIndexTests {
    private let lookup = RouteLookup(
        namespace: 1,
        tuple: PacketTuple(
            source: IPAddress(ipv4: 1), destination: IPAddress(ipv4: 2), sourcePort: 40_000, destinationPort: 80, transport: 6),
        inInterface: 3, mark: 0)
    private func decision(_ prefix: String) -> RoutingDecision {
        RoutingDecision(route: Route(prefix: prefix, type: "unicast", nextHops: [], table: "main", metric: nil))
    }

    @Test("an answer holds from the last change before it up to the next one")
    func bounds() {
        var index = RouteIndex()
        index.note(decision("one"), of: lookup, since: 100, asked: 200)
        index.noteChange(namespace: 2, after: 250)
        #expect(index.decision(of: lookup, during: 100...999)?.route?.prefix == "one")
        #expect(index.decision(of: lookup, during: 99...150) == nil)
        index.noteChange(namespace: 1, after: 300)
        index.note(decision("two"), of: lookup, since: 310, asked: 320)
        #expect(index.decision(of: lookup, during: 150...300)?.route?.prefix == "one")
        // Which of the two held when the change came is not known.
        #expect(index.decision(of: lookup, during: 301...305) == nil && index.decision(of: lookup, during: 290...320) == nil)
        #expect(index.decision(of: lookup, during: 310...400)?.route?.prefix == "two")
    }

    @Test("an answer that was given when a change may have come already explains nothing")
    func askedTooLate() {
        var index = RouteIndex()
        index.note(decision("one"), of: lookup, since: 100, asked: 305)
        index.noteChange(namespace: 1, after: 300)
        #expect(index.decision(of: lookup, during: 200...250) == nil)
    }

    @Test("ports that are taken by chance, and query ids, are not asked with")
    func ephemeral() {
        #expect(lookup.tuple.sourcePort == 0 && lookup.tuple.destinationPort == 80)
        let ping = PacketTuple(
            source: IPAddress(ipv4: 1), destination: IPAddress(ipv4: 2), sourcePort: 77, destinationPort: 77, transport: 1)
        #expect(RouteLookup(namespace: 0, tuple: ping, inInterface: 0, mark: 0).tuple.sourcePort == 0)
    }

    @Test("no more is asked than there is room for, and nothing twice")
    func room() {
        var index = RouteIndex()
        var asked = 0
        for mark in 0..<5000 {
            let lookup = RouteLookup(namespace: 0, tuple: lookup.tuple, inInterface: 0, mark: UInt32(mark))
            for _ in 0..<2 where index.isNew(lookup) { asked += 1 }
        }
        #expect(asked == 4096)
    }
}
