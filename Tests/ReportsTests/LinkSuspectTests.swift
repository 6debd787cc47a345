import Aggregation
import Diagnosis
import Reports
import Testing
import TraceModel

/// What is named where packets vanish on links and bridges.
@Suite struct LinkSuspectTests {
    private static let link: UInt32 = 10
    private static let service: UInt32 = 0x0A60_000A
    private static let guest: UInt32 = 0x0A00_0302

    /// A guest whose `eth0` is at the port `veth0` of the host's bridge `br0`.
    private static func scene(
        filters: Bool = true, port: BridgePort = BridgePort(bridge: 2), second: BridgePort? = nil,
        change: (inout NamespaceFacts) -> Void = { _ in }
    ) -> Scene {
        var scene = Scene()
        scene.layout.namespaces[0].interfaces = [1: Interface(name: "eth0", linkDomain: link, peer: 7)]
        scene.layout.namespaces[1].interfaces = [
            1: Interface(name: "eth0"), 2: Interface(name: "br0", linkDomain: link, bridge: Bridge()),
            7: Interface(name: "veth0", linkDomain: link, port: port, peer: 1),
        ]
        if let second { scene.layout.namespaces[1].interfaces[8] = Interface(name: "veth1", linkDomain: link, port: second) }
        var facts = NamespaceFacts()
        facts.filtersBridgedIPv4 = filters
        change(&facts)
        scene.layout.namespaces[1].facts = facts
        return scene
    }

    private static func forwarding(to target: String?) -> NamespaceFacts.Redirection {
        NamespaceFacts.Redirection(
            family: .ipv4, backend: .nft, chain: "SERVICE",
            match: RuleMatch(
                conditions: [RuleMatch.Condition(subject: .destination, values: ["10.96.0.10/32"], isNegated: false)],
                isPartial: false), isReachedFromPrerouting: true, isReachedFromOutput: false, outputArguments: nil,
            target: target,
            text: "")
    }

    /// Loses a packet behind the host's PREROUTING.
    private static func loseInHost(_ scene: inout Scene, _ packet: PacketTuple, isFollowed: Bool = true) throws {
        let sent = scene.leg(0, ["raw/OUTPUT", "mangle/POSTROUTING"], packet)
        let arrived = scene.leg(1, ["raw/PREROUTING", "mangle/PREROUTING"], packet)
        let next = ["mangle/INPUT", "mangle/FORWARD"].compactMap { scene.probe(1, $0) }
        scene.add((isFollowed ? [sent] : []) + [arrived], .dropped, expected: next)
    }

    private static func suspects(_ scene: Scene) throws -> [String] {
        try #require(scene.snapshot.pathsReport().paths.first?.droppedBetween).suspects
    }

    struct Turn: CustomTestStringConvertible, Sendable {
        var testDescription: String
        var filters = true
        var destination = service
        var target: String? = "10.0.3.2"
        var port = BridgePort(bridge: 2)
        var second: BridgePort?
        var isFollowed = true
        var isSuspect = true
        var isFound = true
    }

    @Test(
        "a forwarded port that leads back to its sender is held by the bridge's port, unless that is in hairpin mode",
        arguments: [
            Turn(testDescription: "back to the sender"),
            Turn(testDescription: "back to the sender, of which nothing was seen but the bridge", isFollowed: false),
            Turn(
                testDescription: "by one of two ports", second: BridgePort(bridge: 2), isFollowed: false, isFound: false),
            Turn(testDescription: "by the sender's of two ports", second: BridgePort(bridge: 2)),
            Turn(testDescription: "in hairpin mode", port: BridgePort(bridge: 2, isHairpin: true), isFound: false),
            Turn(testDescription: "to another", target: "10.0.3.9", isFound: false),
            Turn(testDescription: "to one of several", target: nil, isFound: false),
            Turn(testDescription: "for no forwarded port", destination: 0x0808_0808, isSuspect: false, isFound: false),
            Turn(testDescription: "past the chains", filters: false, isSuspect: false, isFound: false),
        ])
    func hairpin(_ test: Turn) throws {
        var scene = Self.scene(filters: test.filters, port: test.port, second: test.second) {
            $0.redirections = [Self.forwarding(to: test.target)]
        }
        try Self.loseInHost(&scene, tuple(Self.guest, test.destination), isFollowed: test.isFollowed)
        #expect(try Self.suspects(scene) == (test.isSuspect ? ["the bridge br0 in host"] : []) + ["routing"])
        let found = scene.snapshot.findingsReport().findings.filter { $0.kind == "bridge-hairpin" }
        #expect(found.map { $0.cures.map(\.command) } == (test.isFound ? [["bridge link set dev veth0 hairpin on"]] : []))
    }

    @Test(
        "a bridge with ports that forward nothing, or nothing to one another, is a suspect",
        arguments: [
            ([BridgePort(bridge: 2, isIsolated: true), BridgePort(bridge: 2, isIsolated: true)], true),
            ([BridgePort(bridge: 2, isIsolated: true), BridgePort(bridge: 2)], false),
            ([BridgePort(bridge: 2), BridgePort(bridge: 2, isForwarding: false)], true),
            ([BridgePort(bridge: 2), BridgePort(bridge: 9, isForwarding: false)], false),
        ])
    func ports(_ ports: [BridgePort], _ isSuspect: Bool) throws {
        var scene = Self.scene(port: ports[0], second: ports[1])
        try Self.loseInHost(&scene, tuple(1, 2))
        #expect(try Self.suspects(scene) == (isSuspect ? ["the bridge br0 in host"] : []) + ["routing"])
    }

    @Test("chains of bridges and of the bridge's own interface lie behind PREROUTING")
    func chainsOfTheBridge() throws {
        var scene = Self.scene {
            $0.otherChains = [
                NamespaceFacts.OtherChain(
                    family: nil, table: "in", name: "br", hook: .ingress, priority: 0, devices: ["br0"]),
                NamespaceFacts.OtherChain(
                    family: nil, table: "in", name: "eth", hook: .ingress, priority: 0, devices: ["eth0"]),
                NamespaceFacts.OtherChain(family: nil, table: "b", name: "f", hook: .bridge(.forward), priority: 0),
            ]
        }
        try Self.loseInHost(&scene, tuple(1, 2))
        #expect(try Self.suspects(scene) == ["b/f of nftables", "in/br of nftables", "routing"])
    }

    @Test(
        "chains at the interfaces on both ends of a link, and flowtables, lie between two namespaces", arguments: [true, false])
    func onTheWay(_ opens: Bool) throws {
        var scene = Self.scene {
            $0.otherChains = [
                NamespaceFacts.OtherChain(
                    family: nil, table: "in", name: "br", hook: .ingress, priority: 0, devices: ["br0"]),
                NamespaceFacts.OtherChain(
                    family: nil, table: "in", name: "eth", hook: .ingress, priority: 0, devices: ["eth0"]),
            ]
            $0.flowtables = [NamespaceFacts.Flowtable(family: nil, table: "fw", name: "ft", devices: ["eth0", "br0"])]
        }
        var facts = NamespaceFacts()
        facts.otherChains = [
            NamespaceFacts.OtherChain(
                family: nil, table: "out", name: "eth", hook: .egress, priority: 0, devices: ["eth0"])
        ]
        scene.layout.namespaces[0].facts = facts
        let packet = PacketTuple(
            source: IPAddress(ipv4: 1), destination: IPAddress(ipv4: 2), sourcePort: 1000, destinationPort: 80,
            transport: TransportProtocol.tcp)
        let first = try #require(scene.probe(1, "raw/PREROUTING"))
        scene.add(
            [scene.leg(0, ["raw/OUTPUT", "mangle/POSTROUTING"], packet)], .dropped, expected: [first],
            tcpFlags: opens ? .syn : .ack)
        let flowtable = opens ? [] : ["the flowtable fw/ft of nftables"]
        #expect(
            try Self.suspects(scene) == ["out/eth of nftables", "the way to host", "in/br of nftables"] + flowtable)
    }
}
