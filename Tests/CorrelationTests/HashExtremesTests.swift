import Correlation
import Foundation
import Testing
import TraceModel

/// The tables of live journeys, with packets whose hashes lie where arithmetic goes wrong.
@Suite struct HashExtremesTests {
    struct Region: CustomTestStringConvertible, Sendable {
        var name: String
        /// The upper 29 bits of a packet's hash, of 64 random bits; `nil` for any.
        var hash: @Sendable (UInt64) -> UInt32?
        /// Whether it is the hash by destination, which crossings are found by, rather than that by source.
        var isByDestination: Bool
        var testDescription: String { "\(name), by \(isByDestination ? "destination" : "source")" }
    }

    private static let last: UInt32 = 1 << 29 - 1

    static let regions = [true, false].flatMap { isByDestination in
        [
            Region(name: "last hashes", hash: { Self.last - UInt32($0 & 0xFF) }, isByDestination: isByDestination),
            Region(name: "greatest hash", hash: { _ in Self.last }, isByDestination: isByDestination),
            Region(name: "first hashes", hash: { UInt32($0 & 0xFF) }, isByDestination: isByDestination),
            Region(
                name: "both ends", hash: { $0 & 1 == 0 ? UInt32($0 & 7) : Self.last - UInt32($0 & 7) },
                isByDestination: isByDestination),
        ]
    }

    private struct Numbers {
        var state: UInt64

        mutating func next() -> UInt64 {
            state &+= 0x9E37_79B9_7F4A_7C15
            var value = state
            value = (value ^ value >> 30) &* 0xBF58_476D_1CE4_E5B9
            value = (value ^ value >> 27) &* 0x94D0_49BB_1331_11EB
            return value ^ value >> 31
        }

        mutating func below(_ bound: Int) -> Int { Int(next() % UInt64(bound)) }
    }

    /// A packet of the same tuple whose hash is in the region.
    private static func moved(_ packet: Packet, to region: Region, namespace: Int, _ random: UInt64) -> Packet {
        guard let wanted = region.hash(random) else { return packet }
        func hash(_ fingerprint: Fingerprint) -> UInt32 {
            region.isByDestination
                ? SearchHash.crossing(.departure, fingerprint, packet.tuple)
                : SearchHash.place(UInt16(namespace), fingerprint, packet.tuple)
        }
        var packet = packet
        // The payload's bits are added to the others' without a carry.
        packet.fingerprint = Fingerprint(header: random, payload: 0)
        packet.fingerprint.payload = UInt64(hash(packet.fingerprint) >> 3 ^ wanted)
        #expect(hash(packet.fingerprint) >> 3 == wanted)
        return packet
    }

    /// Results of random traffic: where packets go, which of them are dropped, which events are lost.
    private static func run(_ region: Region?, packets: Int, seed: UInt64) -> (
        ways: [String], outcomes: [Outcome], events: UInt64, live: Int
    ) {
        var (world, guest, host) = World.guestAndHost()
        var correlator = Correlator()
        correlator.update(world.layout)
        var collected = Collected(world)
        var numbers = Numbers(state: seed)
        var time: Int64 = 1_000_000
        for number in 0..<packets {
            let random = numbers.next()
            var sent = packet(
                UInt32(0xAC10_0000 + numbers.below(4)), UInt16(1000 + numbers.below(3)), UInt32(0x0808_0800 + numbers.below(4)),
                53,
                content: UInt64(number) << 20 | 1)
            if let region { sent = moved(sent, to: region, namespace: guest, random) }
            var routed = sent
            routed.timeToLive -= 1
            if numbers.below(3) == 0 { routed.tuple.source = IPAddress(ipv4: 0x0A00_020F) }
            var parts = [
                world.events(guest, Way.out, sent, out: 2), world.events(host, Way.before, sent, in: 2),
                world.events(
                    host, Array(Way.through.dropLast()),
                    {
                        var packet = sent; packet.timeToLive -= 1; return packet
                    }(), in: 2, out: 3),
                world.events(host, ["mangle/POSTROUTING"], routed, in: 2, out: 3),
            ]
            if numbers.below(4) == 0 { parts.removeLast(numbers.below(4)) }
            if numbers.below(4) == 0 { parts.swapAt(0, parts.count - 1) }
            for event in parts.joined() where numbers.below(50) != 0 { correlator.ingest(event) }
            if numbers.below(100) == 0 { correlator.noteLoss(namespace: host) }
            time += Int64(numbers.below(20_000))
            correlator.receive(at: time)
            correlator.advance(to: time, into: &collected)
        }
        correlator.finish(into: &collected)
        return (collected.ways, collected.journeys.map(\.outcome), correlator.counters.events, correlator.liveJourneys)
    }

    @Test("packets with extreme hashes take the same ways as others, and nothing traps", arguments: regions)
    func ways(_ region: Region) async {
        let end = ContinuousClock.now + .seconds(Self.soakSeconds)
        var seed: UInt64 = 1
        repeat {
            let expected = Self.run(nil, packets: 4000, seed: seed)
            let found = Self.run(region, packets: 4000, seed: seed)
            #expect(found.events == expected.events && found.events > 30_000, "seed \(seed)")
            #expect(found.live == 0, "seed \(seed)")
            #expect(found.ways == expected.ways, "seed \(seed)")
            #expect(found.outcomes == expected.outcomes, "seed \(seed)")
            seed += 1
            await Task.yield()
        } while ContinuousClock.now < end
        if Self.soakSeconds > 0 { print("\(region): \(seed - 1) seeds") }
    }

    /// How long the regions take, all at once; one round of each where it is not set.
    private static let soakSeconds = ProcessInfo.processInfo.environment["SOAK_SECONDS"].flatMap { Double($0) } ?? 0

    @Test("sequences of steps past the table's room are marked, and nothing traps")
    func manyRoutes() {
        var limits = Correlator.Limits()
        limits.stepPaths = 8
        var (world, guest, host) = World.guestAndHost()
        var events: [Event] = []
        for number in 0..<50 as Range<UInt32> {
            let sent = packet(1, 1000, 2, 80, content: UInt64(number) + 1)
            events += world.events(guest, Way.out + ["mangle/POSTROUTING"], sent, out: 2 + number)
            events += world.events(host, Way.into + Way.before, sent, in: 2 + number)
        }
        let (collected, live) = correlate(world, events, limits: limits)
        #expect(live == 0)
        // An incomplete journey is not called dropped or delivered.
        let whole = collected.journeys.filter { !$0.isAmbiguous && $0.outcome != .incomplete }
        #expect(whole.count < 10 && collected.journeys.count >= 50)
    }
}
