import Correlation
import Testing
import TraceModel

private let client: UInt32 = 0xAC10_0002
private let neighbour: UInt32 = 0xAC10_0003
private let outside: UInt32 = 0x0A00_020F
private let server: UInt32 = 0x0808_0808

/// Events with the times at which they are received, turn by turn as an event loop has them.
private struct Turns: ~Copyable {
    var correlator: Correlator
    var collected: Collected
    private var time: Int64 = 1_000_000

    init(_ world: World) {
        correlator = Correlator()
        correlator.update(world.layout)
        collected = Collected(world)
        correlator.advance(to: time, into: &collected)
    }

    /// Receives `events` after `milliseconds` of silence.
    mutating func receive(_ events: [Event], after milliseconds: Int64 = 1) {
        let end = time + milliseconds * 1000
        while time < end {
            time = min(end, time + 10_000)
            correlator.receive(at: time)
            if time < end { correlator.advance(to: time, into: &collected) }
        }
        for event in events { correlator.ingest(event) }
        correlator.advance(to: time, into: &collected)
    }

    mutating func finish() {
        for _ in 0..<60 { receive([], after: 100) }
    }
}

@Suite struct CopiesTests {
    /// A guest, a host and the network behind it, all traced.
    private static func row() -> (World, guest: Int, host: Int, inet: Int) {
        var world = World()
        let guest = world.addNamespace("guest", interfaces: [2: Interface(name: "up", linkDomain: 10)])
        let host = world.addNamespace(
            "host", interfaces: [2: Interface(name: "br0", linkDomain: 10), 3: Interface(name: "eth0", linkDomain: 11)])
        let inet = world.addNamespace("inet", interfaces: [2: Interface(name: "up0", linkDomain: 11)])
        return (world, guest, host, inet)
    }

    private static let through = Way.before + Way.through

    @Test func aCopyThatHadLeftButWasNotReceivedYetPutsBothInDoubt() {
        var (world, guest, host) = World.guestAndHost()
        let copy = packet(client, 1000, server, 53)
        var turns = Turns(world)
        turns.receive(world.events(guest, Way.out, copy, out: 2))
        // Either of these may be the second, whose events the kernel still gathers.
        turns.receive(world.events(host, Self.through, copy, in: 2, out: 3))
        turns.receive(world.events(host, Self.through, copy, in: 2, out: 3))
        turns.receive(world.events(guest, Way.out, copy, out: 2))
        turns.finish()
        #expect(turns.collected.journeys.map(\.legs.count) == [2, 2])
        #expect(turns.collected.journeys.allSatisfy { $0.isAmbiguous })
    }

    @Test("a choice among several legs is told, with those that would have done as well")
    func comparisons() {
        final class Told { var comparisons: [Comparison] = [] }
        var (world, guest, host) = World.guestAndHost()
        let copy = packet(client, 1000, server, 53)
        var turns = Turns(world)
        let told = Told()
        turns.correlator.onComparison = { told.comparisons.append($0) }
        turns.receive(world.events(guest, Way.out, copy, out: 2))
        #expect(told.comparisons.isEmpty)
        turns.receive(world.events(guest, Way.out, copy, out: 2))
        turns.receive(world.events(host, Self.through, copy, in: 2, out: 3))
        let arrivals = told.comparisons.filter { $0.purpose == .departure }
        #expect(arrivals.map(\.looked) == [2])
        #expect(arrivals.map(\.tied) == [1])
        #expect(arrivals.allSatisfy { $0.taken != nil && $0.namespace == host && $0.packet == copy.tuple })
    }

    @Test func copiesThatAreFarApartAreCertain() {
        var (world, guest, host) = World.guestAndHost()
        let copy = packet(client, 1000, server, 53)
        var turns = Turns(world)
        for _ in 0..<3 {
            turns.receive(world.events(guest, Way.out, copy, out: 2), after: 200)
            turns.receive(world.events(host, Self.through, copy, in: 2, out: 3))
        }
        turns.finish()
        #expect(turns.collected.journeys.map(\.outcome) == [.sent, .sent, .sent])
        #expect(turns.collected.journeys.allSatisfy { !$0.isAmbiguous && $0.legs.count == 2 })
    }

    @Test func whatArrivesIsNotTakenForACopyFromElsewhereThatLeftEarlier() {
        var (world, guest, host) = World.guestAndHost()
        let other = world.addNamespace("other", interfaces: [2: Interface(name: "up", linkDomain: 10)])
        let copies = [packet(client, 1000, server, 53), packet(neighbour, 1000, server, 53)]
        var turns = Turns(world)
        turns.receive(world.events(guest, Way.out, copies[0], out: 2))
        turns.receive(world.events(host, Self.through, copies[1], in: 2, out: 3))
        turns.receive(world.events(other, Way.out, copies[1], out: 2))
        turns.receive(world.events(host, Self.through, copies[0], in: 2, out: 3))
        turns.finish()
        #expect(Set(turns.collected.journeys.map { $0.legs.map(\.namespace) }) == [[guest, host], [other, host]])
        #expect(turns.collected.journeys.allSatisfy { $0.outcome == .sent && !$0.isAmbiguous })
        #expect(turns.collected.journeys.allSatisfy { $0.legs[0].entry == $0.legs.last?.entry })
    }

    @Test("a translated copy is joined as connection tracking says, however late it says so", arguments: [true, false])
    func translatedCopies(_ isKnownAtOnce: Bool) {
        var (world, _, host, inet) = Self.row()
        world.layout.openLinkDomains = [10]
        let sent = [packet(client, 1000, server, 53), packet(neighbour, 1000, server, 53)]
        let translated = [packet(outside, 1000, server, 53), packet(outside, 1024, server, 53)]
        var turns = Turns(world)
        func tell() {
            for (original, reply) in zip(sent, translated) {
                turns.correlator.noteTranslation(namespace: host, original: original.tuple, reply: reply.tuple.reversed)
            }
        }
        if isKnownAtOnce { tell() }
        turns.receive(world.events(host, Self.through, sent[0], in: 2, out: 3))
        turns.receive(world.events(inet, Way.into, translated[1], in: 2))
        turns.receive(world.events(host, Self.through, sent[1], in: 2, out: 3))
        turns.receive(world.events(inet, Way.into, translated[0], in: 2))
        if !isKnownAtOnce { tell() }
        turns.finish()
        let ends = turns.collected.journeys.map { [$0.legs.first?.entry, $0.legs.last?.entry] }
        #expect(Set(ends) == Set(zip(sent, translated).map { [$0.tuple, $1.tuple] }))
        #expect(turns.collected.journeys.allSatisfy { $0.outcome == .delivered && !$0.isAmbiguous })
    }

    @Test func aTranslationThatNobodyConfirmsIsBelievedWhereNothingElseFits() {
        var (world, _, host, inet) = Self.row()
        world.layout.openLinkDomains = [10]
        var turns = Turns(world)
        turns.receive(world.events(host, Self.through, packet(client, 1000, server, 53), in: 2, out: 3))
        turns.receive(world.events(inet, Way.into, packet(outside, 40_001, server, 53), in: 2))
        turns.finish()
        #expect(turns.collected.journeys.map(\.outcome) == [.delivered])
        #expect(turns.collected.journeys.allSatisfy { !$0.isAmbiguous && $0.legs.count == 2 })
    }

    @Test func whatArrivedLongBeforeIsNotTheArrivalOfACopy() {
        var (world, guest, host) = World.guestAndHost()
        let copy = packet(client, 1000, server, 53)
        var turns = Turns(world)
        // The first one's last event in the guest was lost.
        let cut = world.events(guest, Way.out, copy, out: 2).dropLast()
        turns.receive(Array(cut))
        turns.correlator.noteLoss(namespace: guest)
        turns.receive(world.events(host, Self.through, copy, in: 2, out: 3))
        turns.receive(world.events(guest, Way.out, copy, out: 2), after: 200)
        turns.receive(world.events(host, Self.through, copy, in: 2, out: 3))
        turns.finish()
        let certain = turns.collected.journeys.filter { !$0.isAmbiguous && $0.outcome != .incomplete }
        #expect(turns.collected.journeys.count == 3)
        // The last event of the second may be the first one's, since that one still waits for it.
        #expect(certain.isEmpty)
    }

    @Test func aDepartureThatIsReceivedVeryLateIsStillOne() {
        var (world, guest, host) = World.guestAndHost()
        let request = packet(client, 1000, server, 53)
        var turns = Turns(world)
        turns.receive(world.events(host, Self.through, request, in: 2, out: 3))
        turns.receive(world.events(guest, Way.out, request, out: 2), after: 200)
        turns.finish()
        #expect(turns.collected.journeys.map(\.legs.count) == [2])
        #expect(turns.collected.journeys.allSatisfy { $0.outcome == .sent && !$0.isAmbiguous })
    }

    @Test func aStepTakenFromACopyWhileEventsAreLostIsAmbiguous() {
        var (world, _, host) = World.guestAndHost()
        let copy = packet(server, 53, client, 1000)
        let whole = world.events(host, Way.into, copy, in: 3)
        let second = world.events(host, Way.into, copy, in: 3)
        var turns = Turns(world)
        turns.receive(Array(whole[0...2]))
        turns.receive(Array(second[0...1]))
        turns.correlator.noteLoss(namespace: host)
        // Two were lost, of the first the one behind, of the second the one before this.
        turns.receive(Array(second[3...4]))
        turns.finish()
        #expect(!turns.collected.journeys.isEmpty)
        #expect(turns.collected.journeys.allSatisfy { $0.isAmbiguous || $0.outcome == .incomplete })
    }

    @Test func aLossWhereAPacketWasDueExcusesItsAbsenceHoweverLongItIsWaitedFor() {
        var (world, guest, host) = World.guestAndHost()
        var turns = Turns(world)
        turns.receive(world.events(guest, Way.out, packet(client, 1000, server, 53), out: 2))
        turns.correlator.noteLoss(namespace: host)
        turns.finish()
        #expect(turns.collected.journeys.map(\.incompleteReason) == [.eventsLost])
    }

    /// Identical datagrams, from as many ports, from as many addresses, and of as many of either as begin alike in all tables.
    @Test(arguments: [(1000, 1), (1, 1000), (70, 70)])
    func moreFlowsThanAreLookedAtAreStillToldApartByTheirAddresses(ports: Int, hosts: Int) {
        var (world, guest, host, inet) = Self.row()
        let copies = (0..<hosts).flatMap { number in
            (0..<ports).map { packet(0xAC10_0002 + UInt32(number), UInt16(1000 + $0), server, 53, content: 7) }
        }
        var turns = Turns(world)
        turns.receive(copies.flatMap { world.events(guest, Way.out, $0, out: 2) })
        turns.receive(copies.reversed().flatMap { world.events(host, Self.through, $0, in: 2, out: 3) })
        turns.receive(copies.flatMap { world.events(inet, Way.into, $0, in: 2) })
        turns.finish()
        #expect(turns.collected.journeys.count == ports * hosts)
        #expect(turns.collected.journeys.allSatisfy { $0.outcome == .delivered && !$0.isAmbiguous && $0.legs.count == 3 })
    }
}
