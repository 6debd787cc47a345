import Correlation
import Testing
import TraceModel

/// The correlator's searches and its decision, asked about packets that are under way; asking changes nothing.
@Suite struct SearchTests {
    private static let client: UInt32 = 0xAC10_0002
    private static let server: UInt32 = 0x0808_0808

    /// A correlator that has taken events, and the leg that each is part of.
    private struct Taken: ~Copyable {
        var correlator: Correlator
        var legs: [LegIndex] = []

        init(_ world: World, _ events: [Event]) {
            correlator = Correlator()
            correlator.update(world.layout)
            correlator.receive(at: 1_000_000)
            for event in events { legs.append(correlator.ingest(event).index) }
        }
    }

    // MARK: Continuations

    @Test("an event continues the leg that stands before it, and of copies the one that moved last, while the others are kept")
    func continuation() throws {
        var (world, guest, _) = World.guestAndHost()
        let sent = packet(Self.client, 1000, Self.server, 53)
        // Three copies, of which the third is already behind the chain that is seen next.
        let first = world.events(guest, ["raw/OUTPUT"], sent)
        let second = world.events(guest, ["raw/OUTPUT"], sent)
        let third = world.events(guest, ["raw/OUTPUT", "mangle/OUTPUT", "filter/OUTPUT"], sent)
        var taken = Taken(world, first + second + third)
        let next = try #require(world.events(guest, ["mangle/OUTPUT"], sent).first)
        let found = ContinuationSearch.best(next, &taken.correlator.state, &taken.correlator.layoutIndex)
        #expect(found.leg == taken.legs[1] && found.direct.tied == [taken.legs[0]])
        #expect(!found.isCrowded && !found.copy.exists)
        // Behind the last one there is nothing but copies that it may have been.
        let again = try #require(world.events(guest, ["raw/OUTPUT"], sent).first)
        let nothing = ContinuationSearch.best(again, &taken.correlator.state, &taken.correlator.layoutIndex)
        #expect(!nothing.leg.exists && taken.legs.contains(nothing.copy))
        #expect(taken.correlator.liveJourneys == 3)
    }

    @Test("with more copies than are looked at, what none of them fits may continue one that was not")
    func crowded() throws {
        var (world, guest, _) = World.guestAndHost()
        let sent = packet(Self.client, 1000, Self.server, 53)
        let events = (0..<300).flatMap { _ in world.events(guest, ["filter/OUTPUT"], sent) }
        var taken = Taken(world, events)
        let next = try #require(world.events(guest, ["raw/OUTPUT"], sent).first)
        let found = ContinuationSearch.best(next, &taken.correlator.state, &taken.correlator.layoutIndex)
        #expect(found.isCrowded && found.copy.exists && !found.leg.exists)
    }

    // MARK: Copies

    @Test("beside a leg that has left, a copy that left shortly before is found; another packet is none")
    func copies() throws {
        var (world, guest, _) = World.guestAndHost()
        let sent = packet(Self.client, 1000, Self.server, 53)
        let other = packet(Self.client, 1000, Self.server, 53, content: 9)
        let events =
            world.events(guest, Way.out, sent, out: 2) + world.events(guest, Way.out, other, out: 2)
            + world.events(guest, Way.out, sent, out: 2)
        var taken = Taken(world, events)
        let ends = [taken.legs[4], taken.legs[9], taken.legs[14]]
        #expect(Set(ends).count == 3)
        #expect(CopySearch.departed(beside: ends[2], &taken.correlator.state) == .leg(ends[0]))
        #expect(CopySearch.departed(beside: ends[1], &taken.correlator.state) == .none)
        #expect(CopySearch.underWay(beside: ends[0], &taken.correlator.state) == ends[2])
        #expect(!CopySearch.underWay(beside: ends[1], &taken.correlator.state).exists)
    }

    // MARK: Crossings

    @Test("what arrives came from the one that has waited longest, which links explain; nothing comes by another link")
    func crossings() throws {
        var (world, guest, host) = World.guestAndHost()
        let sent = packet(Self.client, 1000, Self.server, 53)
        let left = world.events(guest, Way.out, sent, out: 2) + world.events(guest, Way.out, sent, out: 2)
        // An interface whose other end nobody has.
        let arrived = world.events(host, ["raw/PREROUTING"], sent, in: 3)
        var taken = Taken(world, left + arrived)
        let arrival = try #require(taken.legs.last)
        let byLink = CrossingSearch.departure(of: arrival, by: 10, &taken.correlator.state, &taken.correlator.layoutIndex)
        #expect(byLink.best == taken.legs[4] && byLink.tied == [taken.legs[9]])
        let byOther = CrossingSearch.departure(of: arrival, by: 11, &taken.correlator.state, &taken.correlator.layoutIndex)
        #expect(!byOther.best.exists && byOther.looks == 2)
    }

    // MARK: Copies of multicast

    @Test("a multicast packet that is seen at a second hook behind PREROUTING is a copy of the one that passed it")
    func branches() throws {
        var (world, _, host) = World.guestAndHost()
        let sent = packet(Self.client, 1000, 0xE000_00FB, 5353)
        var taken = Taken(
            world, world.events(host, Way.before + ["mangle/FORWARD", "filter/FORWARD"], sent, in: 2, out: 2))
        let copy = try #require(world.events(host, ["mangle/INPUT"], sent, in: 2).first)
        #expect(BranchSearch.original(of: copy, &taken.correlator.state, &taken.correlator.layoutIndex) == taken.legs[0])
        let elsewhere = try #require(world.events(host, ["mangle/INPUT"], sent, in: 3).first)
        #expect(!BranchSearch.original(of: elsewhere, &taken.correlator.state, &taken.correlator.layoutIndex).exists)
    }

    // MARK: Outcomes

    @Test("what went no further was dropped, unless it was closed early, may still go on, or its flow was left out")
    func outcomes() throws {
        var (world, _, host) = World.guestAndHost()
        let sent = packet(Self.client, 1000, Self.server, 53)
        world.layout.openLinkDomains.insert(10)
        var taken = Taken(
            world, world.events(host, Way.before + ["mangle/FORWARD", "filter/FORWARD"], sent, in: 2, out: 3))
        let leaf = try #require(taken.legs.last)
        func ending(_ correlator: inout Correlator, isEvicted: Bool = false) -> (OutcomeDecision.Ending, Int) {
            var expected: [UInt32] = []
            let decision = correlator.decision
            let ending = decision.ending(
                of: leaf, isEvicted: isEvicted, expected: &expected, &correlator.state, &correlator.layoutIndex)
            return (ending, expected.count)
        }
        #expect(ending(&taken.correlator) == (OutcomeDecision.Ending(.dropped), 1))
        #expect(ending(&taken.correlator, isEvicted: true).0 == OutcomeDecision.Ending(.incomplete, .evicted))
        taken.correlator.decision.isFinishing = true
        #expect(ending(&taken.correlator) == (OutcomeDecision.Ending(.open), 0))
        taken.correlator.decision.isFinishing = false
        taken.correlator.decision.noteEviction(at: 1_000_000)
        #expect(ending(&taken.correlator).0 == OutcomeDecision.Ending(.incomplete, .evicted))
    }
}
