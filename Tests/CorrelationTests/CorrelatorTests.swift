import Correlation
import Testing
import TraceModel

private let client: UInt32 = 0xAC10_0002  // 172.16.0.2
private let outside: UInt32 = 0x0A00_020F  // 10.0.2.15
private let server: UInt32 = 0x0808_0808

@Suite struct WayTests {
    @Test func aRequestThroughTheHostIsOneJourneyThatIsSent() throws {
        var (world, guest, host) = World.guestAndHost()
        let request = packet(client, 1000, server, 53)
        let events =
            world.events(guest, Way.out, request, out: 2)
            + world.events(
                host, Way.before + ["nat/PREROUTING"] + Way.through + ["nat/POSTROUTING"], request, in: 2, out: 3)
        let (collected, live) = correlate(world, events)
        #expect(
            collected.ways == [
                "guest:raw/OUTPUT,mangle/OUTPUT,filter/OUTPUT,security/OUTPUT,mangle/POSTROUTING > "
                    + "host:raw/PREROUTING,mangle/PREROUTING,nat/PREROUTING,mangle/FORWARD,filter/FORWARD,security/FORWARD,"
                    + "mangle/POSTROUTING,nat/POSTROUTING"
            ])
        #expect(collected.journeys.map(\.outcome) == [.sent])
        #expect(live == 0)
    }

    @Test func aReplyThatIsPutBackInPreroutingIsOneJourneyThatIsDelivered() throws {
        var (world, guest, host) = World.guestAndHost()
        let arriving = packet(server, 53, outside, 1000)
        let restored = packet(server, 53, client, 1000)
        let events =
            world.events(host, Way.before, arriving, in: 3) + world.events(host, Way.through, restored, in: 3, out: 2)
            + world.events(guest, Way.into, restored, in: 2)
        let (collected, _) = correlate(world, events)
        #expect(collected.journeys.map(\.outcome) == [.delivered])
        let journey = try #require(collected.journeys.first)
        #expect(journey.legs[0].entry.destination.description == "10.0.2.15")
        #expect(journey.legs[0].exit.destination.description == "172.16.0.2")
        #expect(!journey.isAmbiguous)
    }

    @Test func theOrderInWhichNamespacesAreDrainedMakesNoDifference() {
        var (world, guest, host) = World.guestAndHost()
        let request = packet(client, 1000, server, 53)
        let first = world.events(guest, Way.out, request, out: 2)
        let second = world.events(host, Way.before + Way.through, request, in: 2, out: 3)
        let (early, _) = correlate(world, first + second)
        let (late, _) = correlate(world, second + first)
        #expect(early.ways == late.ways && early.ways.count == 1)
        #expect(late.journeys.map(\.outcome) == [.sent])
    }

    @Test func sourceTranslationOnTheWayOutIsFollowedIntoTheNextNamespace() throws {
        var world = World()
        let router = world.addNamespace(
            "router", interfaces: [1: Interface(name: "in", linkDomain: 10), 2: Interface(name: "out", linkDomain: 20)])
        let inet = world.addNamespace("inet", interfaces: [1: Interface(name: "up", linkDomain: 20)])
        world.layout.openLinkDomains = [10]
        let events =
            world.events(router, Way.before + Way.through, packet(client, 1000, server, 53), in: 1, out: 2)
            + world.events(inet, Way.into, packet(outside, 40001, server, 53), in: 1)
        let (collected, _) = correlate(world, events)
        #expect(collected.journeys.map(\.outcome) == [.delivered])
        let journey = try #require(collected.journeys.first)
        #expect(journey.legs.map(\.namespace) == [router, inet])
        #expect(journey.legs[1].entry.sourcePort == 40001)
    }

    @Test func behindTheSourceTranslationOfInputAPacketIsStillTheSame() {
        var world = World()
        // A local process was answered through a DNAT in OUTPUT: the reply's source is put back between the nat and the
        // security table of INPUT.
        let host = world.addNamespace("host", interfaces: [1: Interface(name: "eth0", linkDomain: 5)])
        world.layout.openLinkDomains = [5]
        let events =
            world.events(
                host, ["raw/PREROUTING", "mangle/PREROUTING", "mangle/INPUT", "filter/INPUT"], packet(server, 80, client, 1000),
                in: 1) + world.events(host, ["security/INPUT"], packet(outside, 80, client, 1000), in: 1)
        let (collected, _) = correlate(world, events)
        #expect(collected.journeys.map(\.outcome) == [.delivered])
    }

    @Test func loopbackComesBackIntoTheSameNamespace() {
        var (world, _, host) = World.guestAndHost()
        let local = packet(0x7F00_0001, 1000, 0x7F00_0001, 2000)
        let events = world.events(host, Way.out, local, out: 1) + world.events(host, Way.into, local, in: 1)
        let (collected, _) = correlate(world, events)
        #expect(collected.ways.count == 1)
        #expect(collected.journeys.map(\.outcome) == [.delivered])
    }

    @Test func aMulticastPacketBecomesAJourneyForEachReceiver() {
        var world = World()
        let sender = world.addNamespace("sender", interfaces: [1: Interface(name: "eth0", linkDomain: 9)])
        let receivers = (1...3).map {
            world.addNamespace("receiver\($0)", interfaces: [1: Interface(name: "eth0", linkDomain: 9)])
        }
        let group = packet(client, 5000, 0xE000_0101, 5000)
        var events = world.events(sender, Way.out, group, out: 1)
        for receiver in receivers { events += world.events(receiver, Way.into, group, in: 1) }
        let (collected, _) = correlate(world, events)
        #expect(collected.journeys.map(\.outcome) == [.delivered, .delivered, .delivered])
        #expect(collected.ways.allSatisfy { $0.hasPrefix("sender:") })
        #expect(Set(collected.journeys.map(\.serial)).count == 3)
        #expect(collected.journeys.allSatisfy { !$0.isAmbiguous })
    }

    @Test(
        "the security table stands behind nat in INPUT with iptables-nft and before it with iptables-legacy",
        arguments: [
            (Backend.nft, ["filter/INPUT", "nat/INPUT", "security/INPUT"]),
            (Backend.legacy, ["filter/INPUT", "security/INPUT", "nat/INPUT"]),
        ])
    func inputOrders(_ backend: Backend, _ end: [String]) {
        var (world, _, host) = World.guestAndHost(backend: backend)
        let events = world.events(host, Way.before + ["mangle/INPUT"] + end, packet(server, 1, outside, 2), in: 3)
        let (collected, _) = correlate(world, events)
        #expect(collected.ways == ["host:" + (Way.before + ["mangle/INPUT"] + end).joined(separator: ",")])
        #expect(collected.journeys.map(\.outcome) == [.delivered])
    }
}

@Suite struct OutcomeTests {
    private func expectedPlaces(_ collected: Collected) -> [String] {
        collected.journeys.first.map { places($0, collected.layout) } ?? []
    }

    private func places(_ journey: Journey, _ layout: Layout) -> [String] {
        journey.expected.map { "\(layout.probes[Int($0)].table.name)/\(layout.probes[Int($0)].chain)" }
    }

    @Test func aPacketThatTheFilterTableDropsEndsBetweenTwoTables() {
        var (world, guest, host) = World.guestAndHost()
        let request = packet(client, 1000, server, 53)
        let events =
            world.events(guest, Way.out, request, out: 2)
            + world.events(host, Way.before + ["mangle/FORWARD", "filter/FORWARD"], request, in: 2, out: 3)
        let (collected, _) = correlate(world, events)
        #expect(collected.journeys.map(\.outcome) == [.dropped])
        #expect(expectedPlaces(collected) == ["security/FORWARD"])
    }

    @Test func aPacketThatIsNotRoutedEndsBeforeInputAndForward() {
        var (world, _, host) = World.guestAndHost()
        let (collected, _) = correlate(world, world.events(host, Way.before, packet(client, 1, server, 2), in: 3))
        #expect(collected.journeys.map(\.outcome) == [.dropped])
        #expect(expectedPlaces(collected) == ["mangle/INPUT", "mangle/FORWARD"])
    }

    @Test func aPacketThatNeverArrivesInTheNextTracedNamespaceIsDropped() {
        var (world, guest, _) = World.guestAndHost()
        let (collected, _) = correlate(world, world.events(guest, Way.out, packet(client, 1, server, 2), out: 2))
        #expect(collected.journeys.map(\.outcome) == [.dropped])
        #expect(expectedPlaces(collected) == ["raw/PREROUTING"])
    }

    @Test func aPacketThatWaitsForItsNextHopsAddressIsNotLost() {
        var (world, guest, host) = World.guestAndHost()
        let request = packet(client, 1000, server, 53)
        var correlator = Correlator()
        correlator.update(world.layout)
        var collected = Collected(world)
        correlator.receive(at: 1_000_000)
        for event in world.events(guest, Way.out, request, out: 2) { correlator.ingest(event) }
        for time in stride(from: Int64(1_100_000), to: 4_000_000, by: 100_000) {
            correlator.advance(to: time, into: &collected)
        }
        #expect(collected.journeys.isEmpty)
        // It may be, which is told once, with where it had to come.
        #expect(collected.doubtful.map(\.outcome) == [.dropped] && collected.doubtful.map(\.legs.count) == [1])
        #expect(collected.doubtful.first.map { places($0, collected.layout) } == ["raw/PREROUTING"])
        for event in world.events(host, Way.before + Way.through, request, in: 2, out: 3) { correlator.ingest(event) }
        correlator.advance(to: 9_000_000, into: &collected)
        #expect(collected.journeys.map(\.outcome) == [.sent] && collected.journeys.first?.legs.count == 2)
    }

    @Test func aPacketThatLeavesForWhereNobodyLooksIsSent() {
        var (world, guest, _) = World.guestAndHost()
        world.layout.openLinkDomains.insert(10)
        let (collected, _) = correlate(world, world.events(guest, Way.out, packet(client, 1, server, 2), out: 2))
        #expect(collected.journeys.map(\.outcome) == [.sent])
    }

    @Test func afterALossNothingIsCalledDropped() {
        var (world, _, host) = World.guestAndHost()
        let events = world.events(host, Way.before, packet(client, 1, server, 2), in: 2)
        var correlator = Correlator()
        correlator.update(world.layout)
        var collected = Collected(world)
        for event in events { correlator.ingest(event) }
        correlator.noteLoss(namespace: host)
        correlator.advance(to: 3_000_000, into: &collected)
        #expect(collected.journeys.map(\.outcome) == [.incomplete])
        #expect(collected.journeys.map(\.incompleteReason) == [.eventsLost])
    }

    @Test func aStepThatIsMissingMakesAJourneyIncomplete() {
        var (world, _, host) = World.guestAndHost()
        let places = ["raw/PREROUTING", "mangle/INPUT", "filter/INPUT", "security/INPUT"]
        let (collected, _) = correlate(world, world.events(host, places, packet(server, 1, outside, 2), in: 3))
        #expect(collected.journeys.map(\.outcome) == [.incomplete])
        #expect(collected.journeys.map(\.incompleteReason) == [.stepsMissing])
    }

    @Test func aPacketWhoseBeginningWasNotSeenIsIncomplete() {
        var (world, _, host) = World.guestAndHost()
        // It came from the guest, all of whose ways out are watched.
        let (collected, _) = correlate(
            world, world.events(host, Way.before + Way.through, packet(client, 1, server, 2), in: 2, out: 3))
        #expect(collected.journeys.map(\.outcome) == [.incomplete])
        #expect(collected.journeys.map(\.incompleteReason) == [.stepsMissing])
    }

    @Test func aFragmentThatIsNotSeenAgainWasPutTogetherRatherThanDropped() {
        var (world, _, host) = World.guestAndHost()
        var fragment = packet(server, 0, outside, 0)
        fragment.isFragment = true
        let (collected, _) = correlate(world, world.events(host, Way.before, fragment, in: 3))
        #expect(collected.journeys.map(\.incompleteReason) == [.refragmented])
    }

    @Test func aPacketThatIsTooLargeForTheNextLinkArrivesInAnotherShape() {
        var (world, guest, _) = World.guestAndHost()
        var large = packet(client, 1000, server, 53)
        large.length = 3000
        let (collected, _) = correlate(world, world.events(guest, Way.out, large, out: 2))
        #expect(collected.journeys.map(\.incompleteReason) == [.refragmented])
    }

    @Test func whatIsUnderWayAtTheEndIsNotCalledDropped() {
        var (world, guest, _) = World.guestAndHost()
        var correlator = Correlator()
        correlator.update(world.layout)
        var collected = Collected(world)
        correlator.receive(at: 1_000_000)
        for event in world.events(guest, Way.out, packet(client, 1, server, 2), out: 2) { correlator.ingest(event) }
        correlator.receive(at: 1_100_000)
        correlator.finish(into: &collected)
        #expect(collected.journeys.map(\.outcome) == [.open])
    }

    @Test func behindTheLastProbeATableWithRulesMayStillDrop() {
        var world = World()
        let host = world.addNamespace("host", tables: [.filter], interfaces: [1: Interface(name: "eth0", linkDomain: 1)])
        world.layout.openLinkDomains = [1]
        let events = world.events(host, ["filter/INPUT"], packet(server, 1, client, 2), in: 1)
        let (quiet, _) = correlate(world, events)
        #expect(quiet.journeys.map(\.outcome) == [.delivered])
        world.layout.namespaces[host].decidingChains = [
            BuiltInChain(family: .ipv4, table: .filter, hook: .input, backend: .nft)
        ]
        let (firewalled, _) = correlate(world, events)
        #expect(firewalled.journeys.map(\.incompleteReason) == [.probesMissing])
    }

    @Test func whereNoProbeWouldTellItIsIncompleteRatherThanDropped() {
        var world = World()
        let host = world.addNamespace("host", tables: [.raw], interfaces: [1: Interface(name: "eth0", linkDomain: 1)])
        world.layout.openLinkDomains = [1]
        let (collected, _) = correlate(world, world.events(host, ["raw/PREROUTING"], packet(server, 1, client, 2), in: 1))
        #expect(collected.journeys.map(\.outcome) == [.incomplete])
        #expect(collected.journeys.map(\.incompleteReason) == [.probesMissing])
    }

    @Test func aMatchOnAnAddressProvesNothingBehindItsTranslation() {
        var world = World()
        let host = world.addNamespace(
            "host", condition: Condition(text: "-d 10.0.2.15", dependence: .destination),
            interfaces: [1: Interface(name: "eth0", linkDomain: 1)])
        world.layout.openLinkDomains = [1]
        let (collected, _) = correlate(world, world.events(host, Way.before, packet(server, 1, outside, 2), in: 1))
        #expect(collected.journeys.map(\.outcome) == [.incomplete])
        #expect(collected.journeys.map(\.incompleteReason) == [.probesFiltered])
    }

    @Test func aMatchThatThePacketIsNotKnownToMeetIsNotExpectedOfIt() {
        var (world, _, host) = World.guestAndHost()
        // Somebody's rule that logs TCP at the head of security's INPUT.
        world.layout.probes.append(
            Probe(
                namespace: host, family: .ipv4, table: .security, chain: "INPUT", hook: .input, backend: .legacy, prefix: "tcp",
                coverage: .every(Condition(text: "-p tcp", dependence: []), until: nil)))
        world.layout.isInForce.append(true)
        let (collected, _) = correlate(world, world.events(host, Way.into, packet(server, 1, outside, 2), in: 3))
        #expect(collected.journeys.map(\.outcome) == [.delivered])
    }

    /// However often: a number of changes that is kept in few bits would come round.
    @Test(arguments: [1, 256]) func probesThatAreTakenOutMeanwhileMakeNoDrop(changes: Int) {
        var (world, _, host) = World.guestAndHost()
        var correlator = Correlator()
        correlator.update(world.layout)
        var collected = Collected(world)
        for event in world.events(host, Way.before, packet(server, 1, outside, 2), in: 3) { correlator.ingest(event) }
        for _ in 0..<changes {
            for isInForce in [false, true] {
                for index in world.layout.isInForce.indices { world.layout.isInForce[index] = isInForce }
                correlator.update(world.layout)
            }
        }
        correlator.advance(to: 3_000_000, into: &collected)
        #expect(collected.journeys.map(\.incompleteReason) == [.layoutChanged])
    }
}

@Suite struct DoubtTests {
    @Test func twoCopiesOnTheirWayAtOnceAreAmbiguous() {
        var (world, guest, host) = World.guestAndHost()
        let copy = packet(client, 1000, server, 53)
        let events =
            world.events(guest, Way.out, copy, out: 2) + world.events(guest, Way.out, copy, out: 2)
            + world.events(host, Way.before + Way.through, copy, in: 2, out: 3)
            + world.events(host, Way.before + Way.through, copy, in: 2, out: 3)
        let (collected, _) = correlate(world, events)
        #expect(collected.journeys.count == 2)
        #expect(collected.journeys.allSatisfy { $0.outcome == .sent && $0.isAmbiguous })
    }

    @Test func countlessCopiesAreAmbiguousAndCostNoMoreThanOthers() {
        var (world, guest, host) = World.guestAndHost()
        let copy = packet(client, 1000, server, 53)
        var events: [Event] = []
        for _ in 0..<3000 { events += world.events(guest, Way.out, copy, out: 2) }
        for _ in 0..<3000 { events += world.events(host, Way.before + Way.through, copy, in: 2, out: 3) }
        let (collected, _) = correlate(world, events)
        #expect(collected.journeys.count >= 3000)
        let certain = collected.journeys.filter { !$0.isAmbiguous }
        #expect(
            certain.isEmpty,
            "\(collected.journeys.count) \(certain.prefix(3).map { "\($0.serial) \($0.outcome) \($0.incompleteReason.map { "\($0)" } ?? "none") \($0.legs.count)" })"
        )
    }

    @Test func copiesOfDifferentFlowsAreToldApartByTheirAddresses() {
        var (world, guest, host) = World.guestAndHost()
        var events: [Event] = []
        let copies = (0..<100).map { packet(client, UInt16(1000 + $0), server, 53, content: 7) }
        for copy in copies { events += world.events(guest, Way.out, copy, out: 2) }
        for copy in copies.reversed() { events += world.events(host, Way.before + Way.through, copy, in: 2, out: 3) }
        let (collected, _) = correlate(world, events)
        #expect(collected.journeys.count == 100)
        #expect(collected.journeys.allSatisfy { $0.outcome == .sent && !$0.isAmbiguous })
        #expect(collected.journeys.allSatisfy { $0.legs[0].entry == $0.legs[1].entry })
    }

    @Test func aPacketThatWasDroppedDoesNotTakeTheStepsOfItsCopy() {
        var (world, _, host) = World.guestAndHost()
        let copy = packet(client, 1000, server, 53)
        let events =
            world.events(host, Way.before, copy, in: 3) + world.events(host, Way.before + Way.through, copy, in: 3, out: 3)
        let (collected, _) = correlate(world, events)
        #expect(Set(collected.journeys.map(\.outcome)) == [.sent, .dropped])
        // Either of the two could have been the one that went on.
        #expect(collected.journeys.allSatisfy { $0.isAmbiguous })
    }

    @Test func connectionTrackingTellsWhereThePacketLeftTo() throws {
        var (world, guest, host) = World.guestAndHost()
        let request = packet(client, 1000, server, 53)
        let events =
            world.events(guest, Way.out, request, out: 2) + world.events(host, Way.before + Way.through, request, in: 2, out: 3)
        let (collected, _) = correlate(world, events) { correlator in
            correlator.noteTranslation(
                namespace: host, original: request.tuple, reply: packet(server, 53, outside, 40001).tuple)
        }
        let last = try #require(collected.journeys.first?.legs.last)
        #expect(last.exit.source.description == "10.0.2.15" && last.exit.sourcePort == 40001)
        #expect(last.direction == .original)
    }

    @Test func aReceiverThatWasHeldUpClosesNothingForWantOfWhatItHasNotReadYet() {
        var (world, guest, host) = World.guestAndHost()
        let request = packet(client, 1000, server, 53)
        var correlator = Correlator()
        correlator.update(world.layout)
        var collected = Collected(world)
        correlator.advance(to: 1_000_000, into: &collected)
        // Two seconds later the guest's events are read; the host's are still in its socket.
        correlator.receive(at: 3_000_000)
        for event in world.events(guest, Way.out, request, out: 2) { correlator.ingest(event) }
        correlator.advance(to: 1_100_000, into: &collected)
        correlator.receive(at: 6_000_000)
        for event in world.events(host, Way.before + Way.through, request, in: 2, out: 3) { correlator.ingest(event) }
        correlator.advance(to: 3_400_000, into: &collected)
        #expect(collected.journeys.isEmpty)
        correlator.advance(to: 7_000_000, into: &collected)
        #expect(collected.journeys.map(\.outcome) == [.sent] && collected.journeys.first?.legs.count == 2)
    }

    @Test func memoryIsBoundedByClosingTheOldestEarly() {
        var (world, _, host) = World.guestAndHost()
        var limits = Correlator.Limits()
        limits.journeys = 10
        var correlator = Correlator(limits: limits)
        correlator.update(world.layout)
        var collected = Collected(world)
        correlator.advance(to: 1_000_000, into: &collected)
        for content in 0..<100 {
            for event in world.events(host, Way.before, packet(client, 1, server, 2, content: UInt64(content)), in: 2) {
                correlator.ingest(event)
            }
            correlator.advance(to: 1_000_000, into: &collected)
            #expect(correlator.liveJourneys <= 10)
        }
        #expect(correlator.counters.evicted == 90)
        #expect(collected.journeys.allSatisfy { $0.outcome == .incomplete && $0.incompleteReason == .evicted })
    }

    @Test func anyOrderOfEventsEndsWithEveryEventInOneJourney() {
        let seed = UInt64.random(in: 0...UInt64.max)
        var state = seed
        func random(_ bound: Int) -> Int {
            state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            return Int(state >> 33) % bound
        }
        var (world, guest, host) = World.guestAndHost()
        var events: [Event] = []
        let places = Table.iptables.flatMap { table in table.hooks.map { "\(table.name)/\($0.name)" } }
        for _ in 0..<20_000 {
            let content = UInt64(random(50))
            events += world.events(
                random(2) == 0 ? guest : host, [places[random(places.count)]],
                packet(UInt32(random(3)), UInt16(random(2)), UInt32(random(3)), UInt16(random(2)), content: content),
                in: UInt32(random(4)), out: UInt32(random(4)))
        }
        let (collected, live) = correlate(world, events)
        let steps = collected.ways.reduce(0) { $0 + $1.split(whereSeparator: { ",>".contains($0) }).count }
        // Every event is a step of one journey; a step shared by the branches of a multicast tree would be counted twice.
        #expect(steps == events.count, "seed \(seed)")
        #expect(live == 0, "seed \(seed)")
    }
}

/// Captures whose links nobody knows: each interface may lead anywhere.
@Suite struct UnknownLinkTests {
    /// A guest, a router that masquerades, and a server.
    private static func world() -> (World, guest: Int, router: Int, server: Int) {
        var world = World()
        func interfaces() -> [UInt32: Interface] { [2: Interface(name: "a"), 3: Interface(name: "b")] }
        let guest = world.addNamespace("guest", interfaces: interfaces())
        let router = world.addNamespace("router", interfaces: interfaces())
        let server = world.addNamespace("server", interfaces: interfaces())
        return (world, guest, router, server)
    }

    private static let limits: Correlator.Limits = {
        var limits = Correlator.Limits()
        limits.settle = 500_000
        return limits
    }()

    private func hop(_ packet: Packet) -> Packet {
        var packet = packet
        packet.timeToLive -= 1
        return packet
    }

    @Test(
        "in whichever order the captures are read, the router is not passed over",
        arguments: [[0, 1, 2], [2, 1, 0], [0, 2, 1], [2, 0, 1], [1, 2, 0], [1, 0, 2]])
    func everyOrder(_ order: [Int]) {
        var (world, guest, router, server) = Self.world()
        let sent = packet(client, 1000, 0x0808_0808, 53)
        let translated = packet(outside, 1000, 0x0808_0808, 53)
        let parts = [
            world.events(guest, Way.out, sent, out: 2),
            world.events(router, Way.before, sent, in: 2) + world.events(router, Way.through, hop(sent), in: 2, out: 3),
            world.events(server, Way.into, hop(translated), in: 2),
        ]
        let (collected, _) = correlate(world, order.flatMap { parts[$0] }, limits: Self.limits)
        #expect(collected.journeys.map { $0.legs.map(\.namespace) } == [[guest, router, server]])
        #expect(collected.journeys.map(\.isAmbiguous) == [false])
        #expect(collected.journeys.map(\.outcome) == [.delivered])
    }

    @Test func wherePartOfTheWayWasNotCapturedTheRestIsJoinedInDoubt() {
        var (world, guest, _, server) = Self.world()
        let sent = packet(client, 1000, 0x0808_0808, 53)
        let arrived = hop(packet(outside, 1000, 0x0808_0808, 53))
        let events = world.events(server, Way.into, arrived, in: 2) + world.events(guest, Way.out, sent, out: 2)
        let (collected, _) = correlate(world, events, limits: Self.limits)
        #expect(collected.journeys.map { $0.legs.map(\.namespace) } == [[guest, server]])
        #expect(collected.journeys.map(\.isAmbiguous) == [true])
    }

    @Test func whatGoesElsewhereIsNotJoined() {
        var (world, guest, _, server) = Self.world()
        let events =
            world.events(guest, Way.out, packet(client, 1000, 0x0808_0808, 53), out: 2)
            + world.events(server, Way.into, packet(client, 1000, 0x0909_0909, 53), in: 2)
        let (collected, _) = correlate(world, events, limits: Self.limits)
        #expect(collected.journeys.map(\.legs.count) == [1, 1])
    }
}
