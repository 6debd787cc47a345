import Aggregation
import Diagnosis
import Reports
import Testing
import TraceModel

extension Scene {
    fileprivate func kinds() -> [String] {
        snapshot.findingsReport().findings.map(\.kind).filter { $0 != "packets-dropped" }.sorted()
    }

    /// Replaces the facts of the host.
    fileprivate mutating func know(_ change: (inout NamespaceFacts) -> Void) {
        var facts = layout.namespaces[1].facts ?? NamespaceFacts()
        change(&facts)
        layout.namespaces[1].facts = facts
    }

    /// A packet that is lost behind the last of `places` in the host, before `next`.
    fileprivate mutating func lose(_ places: [String], _ packet: PacketTuple, before next: [String]) {
        add([leg(1, places, packet)], .dropped, expected: next.compactMap { probe(1, $0) })
    }
}

private func chain(_ table: String, _ name: String, hasRules: Bool = true, accepts: Bool = false) -> NamespaceFacts.Chain {
    NamespaceFacts.Chain(
        family: .ipv4, backend: .nft, table: table, name: name, probesAtHead: 1, hasRules: hasRules,
        acceptsEstablished: accepts, dropsTheRestOnly: false)
}

private func segment(_ source: UInt32, _ destination: UInt32) -> PacketTuple {
    PacketTuple(
        source: IPAddress(ipv4: source), destination: IPAddress(ipv4: destination), sourcePort: 1000, destinationPort: 80,
        transport: TransportProtocol.tcp)
}

/// Findings are told only where what was seen bears them out.
@Suite struct UnfoundedFindingsTests {
    private static let forwardDrop = NamespaceFacts.InvalidDrop(
        family: .ipv4, backend: .nft, table: "filter", chain: "FORWARD",
        rule: "-A SUB -m conntrack --ctstate INVALID -j DROP")

    @Test(
        "an answer dropped by a chain that lets others of its connection through is no answer that nothing accepts",
        arguments: [(true, true), (true, false), (false, true), (false, false)])
    func invalid(othersPass: Bool, dropsInvalid: Bool) {
        var scene = Scene()
        scene.know {
            $0.chains = [chain("filter", "FORWARD")]
            if dropsInvalid { $0.invalidDrops = [Self.forwardDrop] }
        }
        scene.layout.namespaces[1].decidingChains = [
            BuiltInChain(family: .ipv4, table: .filter, hook: .forward, backend: .nft)
        ]
        scene.add([scene.leg(1, ["nat/PREROUTING", "filter/FORWARD", "mangle/POSTROUTING"], tuple(1, 2))], .sent)
        let answer = tuple(2, 1, 53, 1000)
        if othersPass { scene.add([scene.leg(1, ["filter/FORWARD", "mangle/POSTROUTING"], answer)], .sent) }
        scene.lose(["filter/FORWARD"], answer, before: ["security/FORWARD"])
        #expect(scene.kinds() == (othersPass ? (dropsInvalid ? ["invalid-dropped"] : []) : ["replies-dropped"]))
    }

    @Test("a packet that arrives INVALID in another chain is not the rule's")
    func invalidElsewhere() {
        var scene = Scene()
        scene.know { $0.invalidDrops = [Self.forwardDrop] }
        scene.add([scene.leg(1, ["nat/PREROUTING", "filter/INPUT"], tuple(1, 2))], .delivered)
        scene.lose(["filter/INPUT"], tuple(1, 2), before: ["security/INPUT"])
        #expect(scene.kinds() == [])
    }

    enum Behind: CaseIterable { case nothing, noRules, receiver, tracking, masked }

    @Test("packets that turn round are unmasked only where the way behind nat/POSTROUTING is known", arguments: Behind.allCases)
    func hairpin(_ behind: Behind) {
        var scene = Scene()
        scene.know { $0.chains = [chain("nat", "POSTROUTING", hasRules: behind != .noRules)] }
        let server = tuple(0xAC10_0002, 0xAC10_0003, 1000, 80)
        var turn = scene.leg(
            1, ["nat/PREROUTING", "filter/FORWARD", "nat/POSTROUTING"], tuple(0xAC10_0002, 0x0A00_020F, 1000, 8080), server,
            out: 2)
        if behind == .masked { turn.exit.source = IPAddress(ipv4: 0xAC10_0001) }
        if behind == .tracking || behind == .masked { turn.direction = .original }
        var legs = [turn]
        if behind == .receiver { legs.append(scene.leg(0, ["filter/INPUT"], server)) }
        scene.add(legs, .sent)
        let isFound = behind != .nothing && behind != .masked
        #expect(scene.kinds().contains("hairpin-without-masquerade") == isFound)
    }

    @Test(
        "later packets of a tracked connection do not pass nat, whatever raw exempts",
        arguments: [["nat/PREROUTING", "filter/FORWARD"], ["filter/FORWARD"], nil])
    func untracked(_ opening: [String]?) {
        var scene = Scene()
        scene.know {
            $0.exemptsFromTracking = true
            $0.translates = true
        }
        let packet = segment(1, 2)
        if let opening { scene.add([scene.leg(1, ["raw/PREROUTING"] + opening, packet)], .sent, tcpFlags: .syn) }
        scene.add([scene.leg(1, ["raw/PREROUTING", "filter/FORWARD", "mangle/POSTROUTING"], packet)], .sent, tcpFlags: .ack)
        #expect(scene.kinds().contains("nat-without-tracking") == (opening == ["filter/FORWARD"]))
    }

    @Test(
        "a packet with a loopback source that a chain behind nat may have dropped is not said to be rewritten",
        arguments: [true, false])
    func loopback(_ hasChain: Bool) {
        var scene = Scene()
        scene.know {
            if hasChain {
                $0.otherChains = [
                    NamespaceFacts.OtherChain(family: nil, table: "t", name: "c", hook: .ip(.output), priority: -50)
                ]
            }
        }
        scene.lose(["raw/OUTPUT", "nat/OUTPUT"], tuple(0x7F00_0001, 0x7F00_0001), before: ["filter/OUTPUT"])
        #expect(scene.kinds().contains("loopback-source-leaves") == !hasChain)
    }

    @Test("packets for the namespace itself are not said to be for others", arguments: [true, false])
    func forwarding(_ isOwn: Bool) {
        var scene = Scene()
        scene.know { $0.forwardsIPv4 = false }
        let destination: UInt32 = isOwn ? 0x0A00_020F : 0x0808_0808
        scene.add([scene.leg(1, ["raw/PREROUTING", "filter/INPUT"], tuple(5, 0x0A00_020F))], .delivered)
        scene.lose(["raw/PREROUTING", "mangle/PREROUTING"], tuple(6, destination), before: ["mangle/INPUT", "mangle/FORWARD"])
        #expect(scene.kinds().contains("forwarding-disabled") == !isOwn)
    }

    @Test("nothing is missed from a group, whose members answer by their own addresses", arguments: [0xE000_0001, 0x0808_0808])
    func oneWay(_ destination: UInt32) {
        var scene = Scene()
        scene.add([scene.leg(1, ["raw/OUTPUT", "nat/OUTPUT", "mangle/POSTROUTING"], segment(1, destination))], .sent)
        #expect(scene.kinds().contains("one-way") == (destination == 0x0808_0808))
    }

    @Test("only what a rule with shares means is expected to be shared out evenly", arguments: [80, 81])
    func balance(_ port: Int) {
        var scene = Scene()
        scene.know {
            $0.redirections = [
                NamespaceFacts.Redirection(
                    family: .ipv4, backend: .nft, chain: "PREROUTING",
                    match: RuleMatch(
                        conditions: [RuleMatch.Condition(subject: .destinationPort, values: ["80"], isNegated: false)],
                        isPartial: true), isReachedFromPrerouting: true, isReachedFromOutput: false, outputArguments: nil,
                    sharesOut: true, text: "")
            ]
        }
        for number in 0..<60 {
            scene.add(
                [
                    scene.leg(
                        1, ["nat/PREROUTING", "filter/FORWARD"], tuple(1, 9, UInt16(1000 + number), UInt16(port)),
                        tuple(1, number < 55 ? 10 : 11, UInt16(1000 + number), UInt16(port)))
                ], .sent)
        }
        #expect(scene.kinds().contains("uneven-balance") == (port == 80))
    }
}
