import Engine
import LinuxSupport
import TestSupport
import Testing
import TraceModel
import WireFormat

@Suite struct KernelDropReaderTests {
    private static func drops(_ pages: [(processor: Int, bytes: [UInt8])]) throws -> [KernelDrop] {
        var decoder = KernelTraceDecoder()
        for (name, text) in KernelTracePages.formats { _ = decoder.learn(name, try #require(KernelTraceFormat(text))) }
        var reader = KernelDropReader(symbols: KernelSymbols(Array(KernelTracePages.symbols.utf8)), reasons: decoder.reasons)
        var drops: [KernelDrop] = []
        for page in pages {
            _ = try decoder.decode(page.bytes.octets) { event in
                if let drop = reader.take(event, processor: page.processor, offset: -37_000_000) { drops.append(drop) }
            }
        }
        return drops
    }

    private static func drop(_ page: [UInt8]) throws -> KernelDrop { try #require(try drops([(0, page)]).first) }

    @Test("a drop has its reason, its function, its time by the wall clock, and the addresses of what came before")
    func noRoute() throws {
        let drop = try Self.drop(KernelTracePages.noRoute)
        #expect(drop.decision == KernelDecision(reason: "IP_INNOROUTES", function: "ip_error", route: .noRoute))
        #expect(drop.endpoints?.source == IPAddress("10.0.0.2") && drop.endpoints?.destination == IPAddress("10.8.0.1"))
        // 0x18EC117607A85063 ns of TAI, 37 s before which the wall clock is.
        #expect(drop.time / 1_000_000 == 0x18EC_1176_07A8_5063 / 1_000_000_000 - 37)
    }

    @Test(
        "each witness gives the packet's own addresses and ports",
        arguments: [
            (KernelTracePages.noSocket, "tcp_v4_rcv", "10.0.0.2", "10.1.0.2", 9),
            (KernelTracePages.noSocket6, "tcp_v6_rcv", "fd00::2", "fd01::2", 9),
            (KernelTracePages.datagram6, "__udp6_lib_rcv", "fd00::2", "fd01::2", 9),
        ] as [([UInt8], String, String, String, UInt16)])
    func witnesses(_ page: [UInt8], _ function: String, _ source: String, _ destination: String, _ port: UInt16) throws {
        let drop = try Self.drop(page)
        #expect(drop.decision == KernelDecision(reason: "NO_SOCKET", function: function))
        #expect(drop.endpoints?.source == IPAddress(source) && drop.endpoints?.destination == IPAddress(destination))
        #expect(drop.endpoints?.destinationPort == port && drop.endpoints?.hasPorts == true)
    }

    @Test("the kind of a route that refuses is known by the error of its look-up")
    func blackhole() throws {
        #expect(try Self.drop(KernelTracePages.blackhole6).decision.route == .blackhole)
    }

    @Test("what another processor did tells nothing of a drop")
    func otherProcessor() throws {
        // The page of one processor ends with its look-up, which a drop of the other one follows.
        var lookUp = KernelTracePages.blackhole6
        lookUp[8] = UInt8(8 + 4 + 0x1A * 4)
        var drop = KernelTracePages.noRoute
        drop.removeSubrange(16..<drop.count - 44)
        drop[8] = 44
        drop[9] = 0
        let drops = try Self.drops([(1, lookUp), (0, drop)])
        #expect(drops.count == 1 && drops.first?.endpoints == nil && drops.first?.decision.route == nil)
    }
}

@Suite struct DropReasonIndexTests {
    private static let tuple = PacketTuple(
        source: IPAddress(ipv4: 0x0A00_0002), destination: IPAddress(ipv4: 0x0A01_0002), sourcePort: 40_000,
        destinationPort: 80, transport: TransportProtocol.tcp)
    private static let routing = KernelDecision(reason: "IP_RPFILTER", function: "ip_rcv_finish_core")
    private static let spent = KernelDecision(reason: "IP_INHDR", function: "ip_forward")
    private static let socket = KernelDecision(reason: "NO_SOCKET", function: "tcp_v4_rcv")
    private static let table = KernelDecision(reason: "NETFILTER_DROP", function: "nft_do_chain")

    private var history = EventHistory(capacity: 64)
    private var index = DropReasonIndex()

    /// A journey that was last seen at `time`.
    private mutating func journey(
        _ outcome: Outcome, _ hook: Hook = .prerouting, at time: Int64, isStamped: Bool = true, tuple: PacketTuple = tuple,
        timeToLive: UInt8 = 64
    ) -> Journey {
        let sighting = Sighting(
            time: time, probe: 0, inInterface: 0, outInterface: 0, mark: 0, order: 0, timeToLive: timeToLive,
            isStamped: isStamped)
        let position = history.append(sighting, tuple, after: EventHistory.none)
        var journey = Journey(
            packet: Packet(tuple: tuple, fingerprint: Fingerprint(header: 0, payload: 0), length: 60, timeToLive: timeToLive))
        journey.outcome = outcome
        journey.firstSeen = time
        journey.lastSeen = time
        journey.lastEvent = time
        journey.legs = [
            JourneyLeg(
                namespace: 0, stepPath: 0, entry: tuple, exit: tuple, lastHook: hook, opensConnection: false,
                firstEvent: position, lastEvent: position)
        ]
        return journey
    }

    private func drop(_ decision: KernelDecision, at time: Int64, with tuple: PacketTuple? = nil) -> KernelDrop {
        KernelDrop(
            time: time, family: .ipv4, decision: decision,
            endpoints: tuple.map {
                KernelDrop.Endpoints(
                    source: $0.source, destination: $0.destination, sourcePort: $0.sourcePort,
                    destinationPort: $0.destinationPort)
            })
    }

    private static var other: PacketTuple {
        var other = tuple
        other.destination = IPAddress(ipv4: 0x0A01_0003)
        return other
    }

    @Test("a drop without addresses is the packet's where it alone came right behind it")
    mutating func byTime() {
        let journey = journey(.dropped, at: 1000)
        index.take(drop(Self.routing, at: 1040))
        #expect(index.decision(of: journey, history) == Self.routing)
        #expect(index.decision(of: self.journey(.dropped, at: 5000), history) == nil)
    }

    @Test("of two reasons at that time none is given, and it is counted; two drops of one reason are as good as one")
    mutating func doubt() {
        let journey = journey(.dropped, at: 1000)
        index.take(drop(Self.routing, at: 1040))
        index.take(drop(Self.routing, at: 1080))
        #expect(index.decision(of: journey, history) == Self.routing)
        index.take(drop(KernelDecision(reason: "PKT_TOO_BIG", function: "ip_forward"), at: 1100))
        #expect(index.decision(of: journey, history) == nil && index.ambiguous == 1)
    }

    @Test("a drop with the packet's addresses wins, one with another's is another's")
    mutating func byAddresses() {
        let journey = journey(.dropped, at: 1000, timeToLive: 1)
        index.take(drop(Self.routing, at: 1010, with: Self.other))
        #expect(index.decision(of: journey, history) == nil)
        index.take(drop(Self.routing, at: 1020))
        index.take(drop(Self.spent, at: 1030, with: Self.tuple))
        #expect(index.decision(of: journey, history) == Self.spent)
    }

    @Test("a table's drop names nothing, and keeps another's reason from being taken for it")
    mutating func tables() {
        let journey = journey(.dropped, at: 1000)
        index.take(drop(Self.table, at: 1010))
        #expect(index.decision(of: journey, history) == nil && index.ambiguous == 0)
        index.take(drop(Self.routing, at: 1060))
        #expect(index.decision(of: journey, history) == nil && index.ambiguous == 1)
    }

    @Test("hops are spent only by a packet that has none left, and sockets drop nothing before INPUT")
    mutating func impossible() {
        let journey = journey(.dropped, at: 1000)
        index.take(drop(Self.spent, at: 1010))
        index.take(drop(Self.socket, at: 1020))
        #expect(index.decision(of: journey, history) == nil && index.ambiguous == 0)
    }

    @Test("a packet that came to the sockets was dropped there only where the drop has its addresses and ports")
    mutating func delivered() {
        let journey = journey(.delivered, .input, at: 1000)
        index.take(drop(Self.socket, at: 1010))
        #expect(index.decision(of: journey, history) == nil)
        index.take(drop(Self.socket, at: 1020, with: Self.other))
        #expect(index.decision(of: journey, history) == nil)
        index.take(drop(Self.socket, at: 1030, with: Self.tuple))
        #expect(index.decision(of: journey, history) == Self.socket)
    }

    @Test("where the next packet of the connection came before the drop, the drop is that one's")
    mutating func nextPacket() {
        let first = journey(.delivered, .input, at: 1000)
        let second = journey(.delivered, .input, at: 1100)
        index.take(drop(Self.socket, at: 1130, with: Self.tuple))
        #expect(index.decision(of: first, history) == nil)
        #expect(index.decision(of: second, history) == Self.socket)
    }

    @Test("an event that the kernel did not stamp tells no time: addresses alone do")
    mutating func unstamped() {
        let journey = journey(.dropped, .postrouting, at: 1000, isStamped: false)
        let failed = KernelDecision(reason: "NEIGH_FAILED", function: "neigh_invalidate")
        index.take(drop(failed, at: 990))
        #expect(index.decision(of: journey, history) == nil)
        index.take(drop(failed, at: 995, with: Self.tuple))
        #expect(index.decision(of: journey, history) == failed)
    }

    @Test("where drops are missing, time alone tells nothing")
    mutating func losses() {
        let journey = journey(.dropped, at: 1_000_000)
        index.take(drop(Self.routing, at: 1_000_040))
        index.noteLoss(3, now: 1_000_500)
        #expect(index.decision(of: journey, history) == nil && index.lost == 3)
        index.take(drop(Self.routing, at: 1_000_060, with: Self.tuple))
        #expect(index.decision(of: journey, history) == Self.routing)
    }
}
