import Correlation
import Testing
import TraceModel

private let one: UInt32 = 0xAC10_0002  // 172.16.0.2
private let two: UInt32 = 0xAC10_0003
private let group: UInt32 = 0xE000_0016  // 224.0.0.22

private let permutations = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]]

/// Several namespaces on one link.
@Suite struct CrossingTests {
    /// `names` with one interface each, number 2, on one leg.
    private static func world(_ names: [String]) -> World {
        var world = World()
        for name in names { _ = world.addNamespace(name, interfaces: [2: Interface(name: "eth0", linkDomain: 9, mtu: 1500)]) }
        return world
    }

    @Test(
        "a bridge that hands its frames to iptables lies between the two ends, whichever events are read first",
        arguments: permutations)
    func bridge(_ order: [Int]) {
        var world = Self.world(["guest", "host", "second"])
        let request = packet(one, 1000, two, 80)
        let parts = [
            world.events(0, Way.out, request, out: 2), world.events(1, Way.before + Way.through, request, in: 2, out: 2),
            world.events(2, Way.into, request, in: 2),
        ]
        let (collected, _) = correlate(world, order.flatMap { parts[$0] })
        #expect(collected.journeys.map { $0.legs.map(\.namespace) } == [[0, 1, 2]])
        #expect(collected.journeys.map(\.outcome) == [.delivered])
        #expect(collected.journeys.map(\.isAmbiguous) == [false])
    }

    @Test("a router with one arm counts down, so it is not passed over", arguments: permutations)
    func router(_ order: [Int]) {
        var world = Self.world(["guest", "router", "second"])
        let request = packet(one, 1000, two, 80)
        var routed = request
        routed.timeToLive -= 1
        let parts = [
            world.events(0, Way.out, request, out: 2),
            world.events(1, Way.before, request, in: 2) + world.events(1, Way.through, routed, in: 2, out: 2),
            world.events(2, Way.into, routed, in: 2),
        ]
        let (collected, _) = correlate(world, order.flatMap { parts[$0] })
        #expect(collected.journeys.map { $0.legs.map(\.namespace) } == [[0, 1, 2]])
        #expect(collected.journeys.map(\.isAmbiguous) == [false])
    }

    @Test("reports of two members that differ in their source alone are told apart", arguments: permutations)
    func members(_ order: [Int]) {
        var world = Self.world(["first", "second", "listener"])
        let reports = [packet(one, 0, group, 0), packet(two, 0, group, 0)]
        let parts = [
            world.events(0, Way.out, reports[0], out: 2) + world.events(0, Way.into, reports[1], in: 2),
            world.events(1, Way.out, reports[1], out: 2) + world.events(1, Way.into, reports[0], in: 2),
            world.events(2, Way.into, reports[1], in: 2) + world.events(2, Way.into, reports[0], in: 2),
        ]
        let (collected, _) = correlate(world, order.flatMap { parts[$0] })
        #expect(collected.journeys.count == 4)
        #expect(collected.journeys.allSatisfy { $0.legs.count == 2 && $0.legs[0].entry == $0.legs[1].entry })
        #expect(collected.journeys.allSatisfy { !$0.isAmbiguous })
    }

    @Test("a report that is repeated at once arrives everywhere twice", arguments: [false, true])
    func repeated(_ isReadInTurn: Bool) {
        var world = Self.world(["sender", "first", "second"])
        let report = packet(one, 0, group, 0)
        let sent = [world.events(0, Way.out, report, out: 2), world.events(0, Way.out, report, out: 2)]
        let arrived = (0..<2).map { _ in
            world.events(1, Way.into, report, in: 2) + world.events(2, Way.into, report, in: 2)
        }
        let events = isReadInTurn ? sent[0] + arrived[0] + sent[1] + arrived[1] : (sent + arrived).flatMap(\.self)
        let (collected, _) = correlate(world, events)
        #expect(
            collected.journeys.map { $0.legs.map(\.namespace) }.sorted { $0.lexicographicallyPrecedes($1) } == [
                [0, 1], [0, 1], [0, 2], [0, 2],
            ])
        #expect(collected.journeys.allSatisfy { !$0.isAmbiguous })
        // Each of the two reached both.
        #expect(Set(collected.journeys.map { $0.legs[0].firstEvent }).count == 2)
    }

    @Test func whatIsPutTogetherBeforeInputIsSaidToBe() {
        var world = Self.world(["receiver"])
        var whole = packet(two, 1000, one, 53)
        whole.length = 3028
        let (collected, _) = correlate(
            world, world.events(0, ["mangle/INPUT", "filter/INPUT", "security/INPUT"], whole, in: 2))
        #expect(
            collected.journeys.map(\.outcome) == [.incomplete] && collected.journeys.map(\.incompleteReason) == [.refragmented])
    }

    @Test(
        "a connection's end takes nothing from packets that came before it", arguments: [(1_010_000, true), (900_000, false)])
    func endedConnection(_ end: Int64, _ isTranslated: Bool) {
        var world = World()
        let interfaces: [UInt32: Interface] = [
            2: Interface(name: "in", linkDomain: 5), 3: Interface(name: "out", linkDomain: 6),
        ]
        let host = world.addNamespace("host", interfaces: interfaces)
        world.layout.openLinkDomains = [5, 6]
        let request = packet(one, 1000, 0x0808_0808, 53)
        // At 1,000,000.
        let events = world.events(host, Way.before + Way.through, request, in: 2, out: 3)
        var correlator = Correlator()
        correlator.update(world.layout)
        var collected = Collected(world)
        let reply = packet(0x0808_0808, 53, 0x0A00_020F, 40001)
        correlator.noteTranslation(namespace: host, original: request.tuple, reply: reply.tuple)
        correlator.receive(at: end)
        correlator.forgetTranslation(namespace: host, original: request.tuple, reply: reply.tuple)
        correlator.receive(at: 1_000_000)
        for event in events { correlator.ingest(event) }
        correlator.advance(to: 3_000_000, into: &collected)
        let source = isTranslated ? "10.0.2.15" : "172.16.0.2"
        #expect(collected.journeys.map { $0.legs.last?.exit.source.description } == [source])
    }
}

/// Packets that a flowtable may carry past the probes of a namespace.
@Suite struct OffloadTests {
    @Test(
        "a packet that a flowtable may have taken is not called dropped",
        arguments: [("br0", true), ("eth0", false), ("", false)])
    func flowtable(_ device: String, _ mayBypass: Bool) {
        var (world, guest, host) = World.guestAndHost()
        var facts = NamespaceFacts()
        if !device.isEmpty {
            facts.flowtables = [NamespaceFacts.Flowtable(family: nil, table: "t", name: "f", devices: [device])]
        }
        world.layout.namespaces[host].facts = facts
        let events = world.events(guest, Way.out, packet(1, 1000, 2, 53), out: 2)
        let journey = correlate(world, events).0.journeys.first
        #expect(journey?.outcome == (mayBypass ? .incomplete : .dropped))
        #expect(journey?.incompleteReason == (mayBypass ? .offloaded : nil))
    }
}
