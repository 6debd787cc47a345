import Correlation
import Testing
import TraceModel

/// Probes behind jumps to user-defined chains.
@Suite struct ReturnTests {
    private static let way = ["raw/PREROUTING", "mangle/PREROUTING", "mangle/FORWARD", "filter/FORWARD"]
    private static let rest = ["security/FORWARD", "mangle/POSTROUTING"]

    /// The host with a chain BLOCKED of filter, which FORWARD jumps to, and a probe behind the jump.
    private static func world(backFrom: String = "BLOCKED", hasHead: Bool = true) -> (World, host: Int) {
        var (world, _, host) = World.guestAndHost()
        let names: [(chain: String, back: String?)] = (hasHead ? [("BLOCKED", nil)] : []) + [("FORWARD", backFrom)]
        for (chain, back) in names {
            world.add(
                Probe(
                    namespace: host, family: .ipv4, table: .filter, chain: chain, hook: .forward, backend: .nft,
                    prefix: "\(chain)<\(back ?? "")", backFrom: back, coverage: .some),
                as: back == nil ? "head" : "back")
        }
        return (world, host)
    }

    private func steps(_ world: World, _ host: Int, _ places: [String]) -> [String] {
        var world = world
        let events = world.events(host, Self.way + places + Self.rest, packet(1, 2, 3, 4), in: 2, out: 3)
        return correlate(world, events).0.ways
    }

    @Test("what did not enter the chain does not come back from it")
    func passedBy() {
        let (world, host) = Self.world()
        #expect(steps(world, host, ["back"]) == steps(world, host, []))
    }

    @Test("what entered the chain comes back from it, as often as it entered")
    func entered() {
        let (world, host) = Self.world()
        #expect(steps(world, host, ["head", "back"])[0].contains("filter/FORWARD,filter/BLOCKED,filter/FORWARD,security"))
        // Two jumps lead there; the second one's condition did not hold.
        #expect(steps(world, host, ["head", "back", "back"]) == steps(world, host, ["head", "back"]))
        #expect(steps(world, host, ["head", "back", "head", "back"])[0].contains("BLOCKED,filter/FORWARD,filter/BLOCKED"))
    }

    @Test("a name that the prefix had to cut is the chain that begins with it")
    func cutName() {
        let (world, host) = Self.world(backFrom: "BLOCK")
        #expect(steps(world, host, ["back"]) == steps(world, host, []))
        #expect(steps(world, host, ["head", "back"])[0].contains("filter/BLOCKED,filter/FORWARD,"))
    }

    @Test("without a probe in the chain it is not known whether a packet entered it")
    func unknown() {
        let (world, host) = Self.world(hasHead: false)
        #expect(steps(world, host, ["back"])[0].contains("filter/FORWARD,filter/FORWARD,"))
    }
}
