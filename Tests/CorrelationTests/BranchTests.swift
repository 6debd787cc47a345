import Correlation
import Testing
import TraceModel

private let sender: UInt32 = 0xAC10_0002  // 172.16.0.2
private let group: UInt32 = 0xE000_00FB  // 224.0.0.251

private let permutations = [[0, 1, 2, 3], [1, 0, 3, 2], [3, 2, 1, 0], [2, 3, 0, 1], [1, 2, 3, 0]]

/// Multicast packets that pass a hook several times, or that nobody asked for.
@Suite struct BranchTests {
    /// A sender and two others at a bridge of the host, whose frames pass the host's chains.
    private static func bridge() -> World {
        var world = World()
        for name in ["sender", "host", "first", "second"] {
            _ = world.addNamespace(name, interfaces: [2: Interface(name: "eth0", linkDomain: 9, mtu: 1500)])
        }
        return world
    }

    private func text(_ collected: Collected) -> [String] {
        zip(collected.ways, collected.journeys).map { way, journey in
            let short = way.split(separator: " > ").map { leg in
                let parts = leg.split(separator: ":")
                return "\(parts[0]) \(parts[1].split(separator: ",").last ?? "")"
            }
            return "\(journey.outcome.name): \(short.joined(separator: ", "))"
        }.sorted()
    }

    @Test("a bridge hands a copy for each port and one for itself to the chains", arguments: permutations)
    func flooded(_ order: [Int]) {
        var world = Self.bridge()
        let report = packet(sender, 0, group, 0)
        let parts = [
            world.events(0, Way.out, report, out: 2),
            world.events(1, Way.before, report, in: 2) + world.events(1, Way.through, report, in: 2, out: 2)
                + world.events(1, Way.through, report, in: 2, out: 2)
                + world.events(1, Array(Way.into.dropFirst(2)), report, in: 2),
            world.events(2, Way.into, report, in: 2), world.events(3, Way.into, report, in: 2),
        ]
        let (collected, live) = correlate(world, order.flatMap { parts[$0] })
        #expect(live == 0)
        #expect(collected.journeys.allSatisfy { !$0.isAmbiguous && $0.legs.first?.namespace == 0 })
        #expect(
            text(collected) == [
                "delivered: sender mangle/POSTROUTING, host mangle/POSTROUTING, first security/INPUT",
                "delivered: sender mangle/POSTROUTING, host mangle/POSTROUTING, second security/INPUT",
                "delivered: sender mangle/POSTROUTING, host security/INPUT",
            ])
        #expect(collected.ways.allSatisfy { $0.contains("host:raw/PREROUTING,mangle/PREROUTING,") })
    }

    @Test("the copy that INPUT drops is the one that is dropped", arguments: permutations)
    func droppedInInput(_ order: [Int]) {
        var world = Self.bridge()
        let report = packet(sender, 0, group, 0)
        let parts = [
            world.events(0, Way.out, report, out: 2),
            world.events(1, Way.before, report, in: 2) + world.events(1, Way.through, report, in: 2, out: 2)
                + world.events(1, ["mangle/INPUT", "filter/INPUT"], report, in: 2),
            world.events(2, Way.into, report, in: 2), [],
        ]
        let (collected, _) = correlate(world, order.flatMap { parts[$0] })
        #expect(
            text(collected) == [
                "delivered: sender mangle/POSTROUTING, host mangle/POSTROUTING, first security/INPUT",
                "dropped: sender mangle/POSTROUTING, host filter/INPUT",
            ])
    }

    @Test("copies that nobody asked for are counted, and the packet went as far as the link")
    func unwanted() {
        var world = Self.bridge()
        let report = packet(sender, 0, group, 0)
        let events =
            world.events(0, Way.out, report, out: 2) + world.events(2, Way.before, report, in: 2)
            + world.events(3, Way.before, report, in: 2)
        var correlator = Correlator()
        correlator.update(world.layout)
        var collected = Collected(world)
        correlator.advance(to: 1_000_000, into: &collected)
        for event in events { correlator.ingest(event) }
        correlator.advance(to: 9_000_000, into: &collected)
        #expect(text(collected) == ["sent: sender mangle/POSTROUTING"])
        #expect(correlator.counters.unwanted == 2 && correlator.counters.journeys == 1)
    }

    @Test("where a chain behind the last probe may have dropped it, that cannot be told")
    func undecided() {
        var world = Self.bridge()
        world.layout.namespaces[2].decidingChains = [
            BuiltInChain(family: .ipv4, table: .mangle, hook: .prerouting, backend: .nft)
        ]
        let events = world.events(2, Way.before, packet(sender, 0, group, 0), in: 2)
        let (collected, _) = correlate(world, events)
        #expect(collected.journeys.map(\.incompleteReason) == [.probesMissing])
    }

    @Test("a chain that has to see it next decides as for any packet")
    func droppedInPrerouting() {
        var world = Self.bridge()
        let events = world.events(2, ["raw/PREROUTING"], packet(sender, 0, group, 0), in: 2)
        #expect(correlate(world, events).0.journeys.map(\.outcome) == [.dropped])
    }

    @Test("what is sent to a group of the machine itself passes POSTROUTING again and comes back")
    func loopedBack() {
        var world = Self.bridge()
        let query = packet(sender, 0, group, 0)
        let events =
            world.events(0, Way.out, query, out: 2) + world.events(0, ["mangle/POSTROUTING"], query, out: 2)
            + world.events(0, Way.into, query, in: 2) + world.events(2, Way.into, query, in: 2)
        let (collected, _) = correlate(world, events)
        #expect(
            text(collected) == [
                "delivered: sender mangle/POSTROUTING, first security/INPUT",
                "delivered: sender mangle/POSTROUTING, sender security/INPUT",
            ])
        #expect(collected.ways.allSatisfy { $0.hasPrefix("sender:raw/OUTPUT,mangle/OUTPUT,") })
    }

    /// Sender, host with a bridge that hands its packets to the chains, and two receivers.
    private static func filteringBridge() -> World {
        var world = bridge()
        world.layout.namespaces[1].interfaces[2]?.bridge = Bridge(filtersIPv4: true)
        return world
    }

    @Test("a receiver that is read between the sender and the bridge waits for the bridge's copy")
    func receiverBeforeTheBridge() {
        var world = Self.filteringBridge()
        let query = packet(sender, 0, group, 0)
        let events =
            world.events(0, Way.out, query, out: 2) + world.events(2, Way.into, query, in: 2)
            + world.events(3, Way.into, query, in: 2) + world.events(1, Way.before, query, in: 2)
            + world.events(1, Way.through, query, in: 2, out: 2) + world.events(1, Way.through, query, in: 2, out: 2)
        let (collected, _) = correlate(world, events)
        #expect(collected.journeys.allSatisfy { !$0.isAmbiguous })
        #expect(
            text(collected) == [
                "delivered: sender mangle/POSTROUTING, host mangle/POSTROUTING, first security/INPUT",
                "delivered: sender mangle/POSTROUTING, host mangle/POSTROUTING, second security/INPUT",
            ])
    }

    @Test("the sender's own copy does not come by the bridge", arguments: permutations)
    func loopedBackBesideABridge(_ order: [Int]) {
        var world = Self.filteringBridge()
        let query = packet(sender, 0, group, 0)
        let parts = [
            world.events(0, Way.out, query, out: 2) + world.events(0, Way.into, query, in: 2)
                + world.events(0, ["mangle/POSTROUTING"], query, out: 2),
            world.events(1, Way.before, query, in: 2) + world.events(1, Way.through, query, in: 2, out: 2),
            world.events(2, Way.into, query, in: 2), [],
        ]
        let (collected, _) = correlate(world, order.flatMap { parts[$0] })
        #expect(
            text(collected) == [
                "delivered: sender mangle/POSTROUTING, host mangle/POSTROUTING, first security/INPUT",
                "delivered: sender mangle/POSTROUTING, sender security/INPUT",
            ])
    }

    @Test("a broadcast is wanted by all, and a strict reverse-path filter may drop multicast", arguments: [true, false])
    func wanted(_ isBroadcast: Bool) {
        var world = Self.bridge()
        var facts = NamespaceFacts()
        if !isBroadcast { facts.strictInterfaces = ["eth0"] }
        world.layout.namespaces[2].facts = facts
        let query = packet(sender, 68, isBroadcast ? .max : group, 67)
        let events = world.events(0, Way.out, query, out: 2) + world.events(2, Way.before, query, in: 2)
        #expect(text(correlate(world, events).0) == ["dropped: sender mangle/POSTROUTING, first mangle/PREROUTING"])
    }

    @Test("the same report again, with an entry of its own, is another packet")
    func repeated() {
        var world = Self.bridge()
        let report = packet(sender, 0, group, 0)
        let events = (0..<2).flatMap { _ in world.events(1, Way.before + Way.through, report, in: 2, out: 2) }
        let (collected, _) = correlate(world, events)
        #expect(collected.journeys.count == 2 && collected.journeys.allSatisfy { $0.incompleteReason == .none })
    }
}
