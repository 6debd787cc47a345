import Aggregation
import Reports
import Testing
import TraceModel

@Suite struct EventFeedTests {
    private static func journey(_ transport: UInt8, _ serial: UInt64) -> Journey {
        var journey = Journey(
            packet: Packet(
                tuple: PacketTuple(
                    source: IPAddress(ipv4: 1), destination: IPAddress(ipv4: 2), sourcePort: 0, destinationPort: 0,
                    transport: transport), fingerprint: Fingerprint(header: 0, payload: 0), length: 40, timeToLive: 64))
        journey.serial = serial
        journey.outcome = .delivered
        return journey
    }

    /// Adds journeys, and gives how many were described.
    private func add(_ count: Int, _ transport: UInt8, to feed: EventFeed) -> Int {
        var described = 0
        for serial in 1...UInt64(count) {
            let journey = Self.journey(transport, serial)
            feed.add(journey) {
                described += 1
                return (
                    JourneyRecord(journey: journey, details: [], direction: .original),
                    TraceContext(run: 1, layout: Layout(), stepTrie: StepTrie())
                )
            }
        }
        return described
    }

    private func read(_ reader: EventFeed.Reader) -> [Substring] {
        var lines: [Substring] = []
        for _ in 0..<1000 {
            let text = reader.next()
            if text.isEmpty { break }
            lines += text.split(separator: "\n").filter { $0.hasPrefix("event: ") }
        }
        return lines
    }

    @Test("a flood of packets that no reader asks for takes no room from those that are asked for, and none is described")
    func filtered() throws {
        var filter = TraceFilter()
        try filter.add(.proto, "icmp")
        let feed = EventFeed()
        #expect(!feed.isWatched)
        let reader = feed.reader(filter, after: nil)
        #expect(feed.isWatched)
        #expect(add(5000, TransportProtocol.udp, to: feed) == 0)
        #expect(add(5, TransportProtocol.icmp, to: feed) == 5)
        #expect(read(reader) == Array(repeating: "event: journey", count: 5))
    }

    @Test("what is beyond the bound is counted and not described; what a reader wanted who left is kept for its return")
    func bounded() {
        let feed = EventFeed()
        var first: EventFeed.Reader? = feed.reader(TraceFilter(), after: nil)
        let described = add(5000, TransportProtocol.udp, to: feed)
        // A second may end meanwhile.
        #expect((2000...4000).contains(described))
        #expect(first.map(read)?.count { $0 == "event: journey" } == described)
        first = nil
        #expect(feed.isWatched)
    }

    @Test("a reader may ask for a namespace's packets")
    func namespaces() throws {
        var scene = Scene()
        let feed = EventFeed()
        var readers: [EventFeed.Reader] = []
        for name in ["guest", "host", "elsewhere"] {
            var filter = TraceFilter()
            try filter.add(.netns, name)
            readers.append(feed.reader(filter, after: nil))
        }
        for (namespace, count) in [(0, 3), (1, 2)] {
            for _ in 0..<count {
                var journey = Journey(packet: Packet.none)
                journey.legs = [scene.leg(namespace, ["raw/PREROUTING"], request)]
                journey.outcome = .delivered
                let context = TraceContext(run: 1, layout: scene.layout, stepTrie: scene.stepTrie)
                feed.add(journey) { (JourneyRecord(journey: journey, details: [], direction: .original), context) }
            }
        }
        #expect(readers.map { read($0).count } == [3, 2, 0])
    }
}
