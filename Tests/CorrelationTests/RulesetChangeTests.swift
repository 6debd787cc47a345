import Correlation
import Testing
import TraceModel

/// Rules change between 10 s and 10.05 s; what packets that were not seen where they had to be are called.
@Suite struct RulesetChangeTests {
    private static let since: Int64 = 10_000_000
    private static let until: Int64 = 10_050_000

    enum Change: Sendable {
        /// In the namespace that does not see the packet: others are in force afterwards, the same, or none.
        case same, none
        /// It is not known yet which rules are in force.
        case pending
        /// It concerned no probe.
        case unchanged
        /// In the namespace that the packet came from.
        case elsewhere
    }

    enum Fate: Sendable, Equatable {
        case dropped, inDoubt, sent
    }

    /// What becomes of a packet that ends at `time`.
    private func fate(at time: Int64, _ change: Change, isCrossing: Bool) -> [Fate] {
        var (world, guest, host) = World.guestAndHost()
        let concerned = change == .elsewhere ? guest : host
        var correlator = Correlator()
        correlator.update(world.layout)
        var collected = Collected(world)
        let events =
            isCrossing
            ? world.events(guest, Way.out, packet(1, 1, 2, 2), out: 2)
            : world.events(host, Way.before, packet(1, 1, 2, 2), in: 3)
        var moment: Int64 = 1_000_000
        while moment < 20_000_000 {
            correlator.receive(at: moment)
            if moment == time { for event in events { correlator.ingest(event) } }
            if moment == Self.since { correlator.noteRulesChanging(namespace: concerned, since: Self.since) }
            let isKnown = moment < Self.since || moment > Self.until || change == .pending
            correlator.advance(to: moment, confirmed: isKnown ? moment : Self.since, into: &collected)
            if moment == Self.until {
                switch change {
                case .pending: break
                case .unchanged: correlator.noteRulesUnchanged(namespace: concerned)
                case .none:
                    for index in world.layout.probes.indices where world.layout.probes[index].namespace == host {
                        world.layout.isInForce[index] = false
                    }
                    correlator.update(world.layout)
                    correlator.noteRulesKnown(namespace: concerned, since: Self.until)
                case .same, .elsewhere:
                    correlator.update(world.layout)
                    correlator.noteRulesKnown(namespace: concerned, since: Self.until)
                }
            }
            moment += 10_000
        }
        return collected.journeys.compactMap { journey in
            switch journey.outcome {
            case .dropped: .dropped
            case .sent: .sent
            case .incomplete: .inDoubt
            default: nil
            }
        }
    }

    @Test(
        "a packet that is missed within a linger of a change is in doubt, another one is dropped",
        arguments: [
            (Change.same, 9_400_000, Fate.dropped), (.same, 9_600_000, .inDoubt), (.same, 10_040_000, .inDoubt),
            (.same, 10_060_000, .dropped),
            (.none, 9_400_000, .dropped), (.none, 9_600_000, .inDoubt),
            (.pending, 9_400_000, .dropped), (.pending, 9_600_000, .inDoubt), (.pending, 12_000_000, .inDoubt),
            (.unchanged, 9_400_000, .dropped), (.unchanged, 9_600_000, .dropped), (.unchanged, 10_040_000, .dropped),
            (.elsewhere, 9_600_000, .dropped), (.elsewhere, 10_040_000, .dropped),
        ] as [(Change, Int64, Fate)])
    func within(_ change: Change, _ time: Int64, _ expected: Fate) {
        #expect(fate(at: time, change, isCrossing: false) == [expected])
    }

    @Test(
        "a packet that may still arrive in a namespace when its rules change is in doubt, one that leaves later is not",
        arguments: [
            (Change.same, 5_900_000, Fate.dropped), (.same, 6_100_000, .inDoubt), (.same, 10_060_000, .dropped),
            (.none, 5_900_000, .dropped), (.none, 6_100_000, .inDoubt), (.none, 10_060_000, .sent),
            (.elsewhere, 9_900_000, .dropped),
        ] as [(Change, Int64, Fate)])
    func crossing(_ change: Change, _ time: Int64, _ expected: Fate) {
        #expect(fate(at: time, change, isCrossing: true) == [expected])
    }

    @Test("a packet between two changes of the same namespace is certain, those at each of them are not")
    func twice() {
        var (world, _, host) = World.guestAndHost()
        var correlator = Correlator()
        correlator.update(world.layout)
        var collected = Collected(world)
        var moment: Int64 = 1_000_000
        while moment < 9_000_000 {
            correlator.receive(at: moment)
            if [2_900_000, 3_900_000, 4_900_000].contains(moment) {
                for event in world.events(host, Way.before, packet(1, UInt16(moment / 100_000), 2, 2), in: 3) {
                    correlator.ingest(event)
                }
            }
            for change in [3_000_000, 5_000_000] as [Int64] where moment == change {
                correlator.noteRulesChanging(namespace: host, since: change)
                correlator.noteRulesKnown(namespace: host, since: change + 10_000)
            }
            correlator.advance(to: moment, into: &collected)
            moment += 10_000
        }
        #expect(collected.journeys.map(\.incompleteReason) == [.layoutChanged, .none, .layoutChanged])
        #expect(collected.journeys.map(\.outcome) == [.incomplete, .dropped, .incomplete])
    }

    @Test("a new layout casts doubt on the namespaces that it changes, and on no other")
    func layout() {
        let (world, guest, host) = World.guestAndHost()
        var newer = world.layout
        #expect(world.layout.changedNamespaces(in: newer).isEmpty)
        for index in newer.probes.indices where newer.probes[index].namespace == guest { newer.isInForce[index] = false }
        #expect(world.layout.changedNamespaces(in: newer) == [guest])
        newer = world.layout
        newer.openLinkDomains = []
        #expect(world.layout.changedNamespaces(in: newer) == [host])
        newer = world.layout
        // A probe that proves nothing by its silence.
        newer.probes.append(newer.probes[0])
        newer.probes[newer.probes.count - 1].coverage = .some
        newer.isInForce.append(true)
        #expect(world.layout.changedNamespaces(in: newer).isEmpty)
    }

    @Test(
        "a packet through a router that has lost probes is one journey",
        arguments: [("all", [] as [Table], [] as [String]), ("those before routing", [.security], ["security/FORWARD"])])
    func router(_ lost: String, _ tables: [Table], _ places: [String]) {
        var world = World()
        let client = world.addNamespace("client", interfaces: [2: Interface(name: "eth0", linkDomain: 10)])
        let router = world.addNamespace(
            "router", tables: tables,
            interfaces: [2: Interface(name: "lan", linkDomain: 10), 3: Interface(name: "wan", linkDomain: 11)])
        let server = world.addNamespace("server", interfaces: [2: Interface(name: "eth0", linkDomain: 11)])
        let sent = packet(1, 1, 2, 2)
        var forwarded = sent
        forwarded.timeToLive -= 1
        let parts = [
            world.events(client, Way.out, sent, out: 2), world.events(router, places, forwarded, in: 2, out: 3),
            world.events(server, Way.into, forwarded, in: 2),
        ]
        for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0]] {
            let (collected, _) = correlate(world, order.flatMap { parts[$0] })
            #expect(collected.journeys.map(\.outcome) == [.delivered], "\(order) \(collected.ways)")
            #expect(collected.journeys.allSatisfy { !$0.isAmbiguous })
        }
    }
}
