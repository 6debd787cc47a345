import Aggregation
import Diagnosis
import Foundation
import Reports
import Testing
import TraceModel

extension Scene {
    fileprivate func findings(_ kind: String) -> [FindingReport] {
        snapshot.findingsReport().findings.filter { $0.kind == kind }
    }

    /// A shadowed rule of the host's filter/FORWARD, with a packet that shows it.
    fileprivate mutating func addShadow(deletion: [String]?, backend: Backend? = .nft, chain: String = "FORWARD") {
        var facts = NamespaceFacts()
        facts.shadows = [
            NamespaceFacts.Shadow(
                family: .ipv4, backend: backend, table: "filter", chain: chain, earlier: "-A FORWARD -j DROP",
                later: "-A FORWARD -p udp -j DROP", isRedundant: true,
                match: RuleMatch(
                    conditions: [RuleMatch.Condition(subject: .transport, values: ["udp"], isNegated: false)], isPartial: false),
                deletion: deletion)
        ]
        layout.namespaces[1].facts = facts
        add([leg(1, ["raw/PREROUTING", "filter/FORWARD"], tuple(1, 2))], .sent)
    }

    /// A chain of filter whose policy drops an answer.
    fileprivate mutating func addDroppedAnswer(_ chain: NamespaceFacts.Chain, exempts: Bool = false) throws {
        var facts = NamespaceFacts()
        facts.chains = [chain]
        facts.exemptsFromTracking = exempts
        layout.namespaces[1].facts = facts
        layout.namespaces[1].decidingChains = [BuiltInChain(family: .ipv4, table: .filter, hook: .forward, backend: .nft)]
        add([leg(1, ["nat/PREROUTING", "filter/FORWARD"], tuple(1, 2))], .sent)
        let security = try #require(probe(1, "security/FORWARD"))
        add([leg(1, ["filter/FORWARD"], tuple(2, 1, 53, 1000))], .dropped, expected: [security])
    }
}

/// The words that a shell makes of a text.
private func words(_ command: String) throws -> [String] {
    let shell = Process()
    shell.executableURL = URL(fileURLWithPath: "/bin/sh")
    shell.arguments = ["-c", "for word in \(command); do printf '%s\\0' \"$word\"; done"]
    let output = Pipe()
    shell.standardOutput = output
    try shell.run()
    let data = output.fileHandleForReading.readDataToEndOfFile()
    shell.waitUntilExit()
    return data.split(separator: 0, omittingEmptySubsequences: false).dropLast().map { String(decoding: $0, as: UTF8.self) }
}

@Suite struct CureTests {
    @Test(
        "a shell reads the words of a rule back as they are",
        arguments: [
            "web server (old)", "it's", "\"quoted\"", "$(touch /nowhere) `x` $HOME", "back\\slash \\", "[a-z]* ?",
            "a;b|c&d>e<f",
            "!x", "~", "#no", "-j", "", " ", "{a,b}", "ünï→", "a=b%c", "'", "''\"'",
        ])
    func quoting(_ comment: String) throws {
        let rule = ["-p", "udp", "-m", "comment", "--comment", comment, "-j", "DROP"]
        var scene = Scene()
        scene.addShadow(deletion: rule)
        let cure = try #require(scene.findings("shadowed-rule").first?.cures.first?.command)
        #expect(try words(cure) == ["iptables-nft", "-t", "filter", "-D", "FORWARD"] + rule)
    }

    @Test(
        "a name that no terminal hands on as it is makes no command",
        arguments: ["a\nb", "a\u{1B}[2J", "a\u{7F}", "a\u{202E}b", "a\u{200B}b", "a\u{2028}b", "a\u{FFFD}b", "a\r", "a\tb"])
    func unprintable(_ comment: String) throws {
        var scene = Scene()
        scene.addShadow(deletion: ["-m", "comment", "--comment", comment, "-j", "DROP"])
        let finding = try #require(scene.findings("shadowed-rule").first)
        #expect(finding.cures.first?.command == nil)
    }

    @Test(
        "a command enters the namespace that it is for",
        arguments: [
            ("host", "iptables-nft -t filter"), ("guest 1", "ip netns exec 'guest 1' iptables-nft -t filter"),
            ("pid:4711", "nsenter --net=/proc/4711/ns/net -- iptables-nft -t filter"),
            ("/run/docker/netns/a b", "nsenter '--net=/run/docker/netns/a b' -- iptables-nft -t filter"), ("-n", nil),
            ("a\u{1B}b", nil), ("guest", nil),
        ] as [(String, String?)])
    func namespaces(_ name: String, _ prefix: String?) throws {
        var scene = Scene()
        // Another one is called guest, too.
        scene.layout.namespaces[0].inode = 2
        scene.layout.namespaces[1].name = name
        scene.addShadow(deletion: ["-p", "udp", "-j", "DROP"])
        if name == "guest" { scene.layout.namespaces[0].facts = scene.layout.namespaces[1].facts }
        let finding = try #require(scene.findings("shadowed-rule").first)
        #expect(finding.cures.first?.command == prefix.map { "\($0) -D FORWARD -p udp -j DROP" })
    }

    @Test("a rule whose deletion may change something, or whose backend is not known, is left to its owner")
    func noDeletion() throws {
        for (deletion, backend) in [(nil, Backend.nft), (["-j", "DROP"], nil)] as [([String]?, Backend?)] {
            var scene = Scene()
            scene.addShadow(deletion: deletion, backend: backend)
            #expect(try #require(scene.findings("shadowed-rule").first).cures.first?.command == nil)
        }
        var scene = Scene()
        scene.addShadow(deletion: ["-p", "udp", "-j", "DROP"], backend: .legacy)
        #expect(try #require(scene.findings("shadowed-rule").first).cures.first?.command.hasPrefix("iptables-legacy ") == true)
    }

    @Test(
        "probes are put back in one namespace only",
        arguments: [
            ("web", "ipt-trace install-probes --netns web"), ("a b", "ipt-trace install-probes --netns 'a b'"), ("all", nil),
            ("-x", nil), ("pid:7", "ipt-trace install-probes --netns pid:7"),
        ] as [(String, String?)])
    func probes(_ name: String, _ cure: String?) throws {
        var scene = Scene()
        scene.layout.namespaces[1].name = name
        var facts = NamespaceFacts()
        facts.coveredProbes = ["filter/INPUT"]
        facts.missingProbes = ["filter/INPUT"]
        scene.layout.namespaces[1].facts = facts
        #expect(try #require(scene.findings("probe-covered").first).cures.first?.command == cure)
        #expect(try #require(scene.findings("probe-missing").first).cures.first?.command == cure)
    }

    struct Answers: CustomTestStringConvertible, Sendable {
        var testDescription: String
        var chain: NamespaceFacts.Chain
        var exempts = false
        var isFound = true
        var cure: String?

        init(
            _ name: String, probes: Int = 1, hasRules: Bool = true, accepts: Bool = false, dropsTheRestOnly: Bool = true,
            exempts: Bool = false, isFound: Bool = true, _ cure: String?
        ) {
            testDescription = name
            chain = NamespaceFacts.Chain(
                family: .ipv4, backend: .nft, table: "filter", name: "FORWARD", probesAtHead: probes, hasRules: hasRules,
                acceptsEstablished: accepts, dropsTheRestOnly: dropsTheRestOnly)
            self.exempts = exempts
            self.isFound = isFound
            self.cure = cure.map {
                "iptables-nft -t filter \($0) -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT"
            }
        }
    }

    @Test(
        "answers are let in behind the probes, and only where nothing drops on purpose",
        arguments: [
            Answers("behind one probe", "-I FORWARD 2"), Answers("behind two probes", probes: 2, "-I FORWARD 3"),
            Answers("without probes", probes: 0, "-I FORWARD"), Answers("in an empty chain", hasRules: false, "-A FORWARD"),
            Answers("a rule drops on purpose", dropsTheRestOnly: false, nil),
            Answers("connections are not tracked", exempts: true, nil),
            Answers("a rule accepts them", accepts: true, isFound: false, nil),
        ])
    func answers(_ test: Answers) throws {
        var scene = Scene()
        try scene.addDroppedAnswer(test.chain, exempts: test.exempts)
        let found = scene.findings("replies-dropped")
        #expect(found.count == (test.isFound ? 1 : 0))
        #expect(found.first?.cures.first?.command == test.cure)
    }

    struct Local: CustomTestStringConvertible, Sendable {
        var testDescription: String
        var conditions: [RuleMatch.Condition]
        var isPartial = false
        var isAnswered = false
        var hasTwin = false
        var source: UInt32 = 0x0A00_0101
        var isFound = false
    }

    private static let destination = RuleMatch.Condition(subject: .destination, values: ["10.0.1.1/32"], isNegated: false)
    private static let others = RuleMatch.Condition(subject: .destination, values: ["10.0.1.1/32"], isNegated: true)
    private static let port = RuleMatch.Condition(subject: .destinationPort, values: ["8000:8090"], isNegated: false)
    private static let otherPorts = RuleMatch.Condition(subject: .destinationPort, values: ["8080"], isNegated: true)

    @Test(
        "a local process misses a redirection only if the rule certainly means its packets, and nothing answers",
        arguments: [
            Local(testDescription: "the address", conditions: [destination], isFound: true),
            Local(testDescription: "the address and a range of ports", conditions: [destination, port], isFound: true),
            Local(testDescription: "all addresses but this one", conditions: [others]),
            Local(testDescription: "all ports but this one", conditions: [destination, otherPorts]),
            Local(testDescription: "no address", conditions: [port]),
            Local(testDescription: "conditions that are not understood", conditions: [destination], isPartial: true),
            Local(testDescription: "a connection that works", conditions: [destination], isAnswered: true),
            Local(testDescription: "a rule for local packets", conditions: [destination], hasTwin: true),
            Local(testDescription: "a loopback source", conditions: [destination], source: 0x7F00_0001),
        ])
    func local(_ test: Local) throws {
        var scene = Scene()
        var facts = NamespaceFacts()
        let match = RuleMatch(conditions: test.conditions, isPartial: test.isPartial)
        facts.redirections = [
            NamespaceFacts.Redirection(
                family: .ipv4, backend: .nft, chain: "PREROUTING", match: match, isReachedFromPrerouting: true,
                isReachedFromOutput: false,
                outputArguments: ["-d", "10.0.1.1/32", "-j", "DNAT", "--to-destination", "10.0.2.2"], text: "")
        ]
        if test.hasTwin {
            facts.redirections.append(
                NamespaceFacts.Redirection(
                    family: .ipv4, backend: .nft, chain: "OWN", match: match, isReachedFromPrerouting: false,
                    isReachedFromOutput: true, outputArguments: nil,
                    text: ""))
        }
        facts.chains = [
            NamespaceFacts.Chain(
                family: .ipv4, backend: .nft, table: "nat", name: "OUTPUT", probesAtHead: 1, hasRules: true,
                acceptsEstablished: false, dropsTheRestOnly: false)
        ]
        scene.layout.namespaces[1].facts = facts
        let asked = tuple(test.source, 0x0A00_0101, 1000, 8080)
        scene.add([scene.leg(1, ["raw/OUTPUT", "nat/OUTPUT", "filter/INPUT"], asked)], .delivered)
        if test.isAnswered {
            scene.add(
                [scene.leg(1, ["raw/OUTPUT", "filter/INPUT"], tuple(0x0A00_0101, test.source, 8080, 1000))], .delivered)
        }
        let found = scene.findings("dnat-missing-for-local")
        #expect(found.count == (test.isFound ? 1 : 0))
        let cure = "iptables-nft -t nat -I OUTPUT 2 -d 10.0.1.1/32 -j DNAT --to-destination 10.0.2.2"
        #expect(found.allSatisfy { $0.cures.first?.command == cure && $0.packets == 1 && $0.journeys.count == 1 })
    }

    @Test(
        "sysctl takes names of interfaces with dots, and patterns make no command",
        arguments: [
            ("br0", "sysctl -w net.ipv4.conf.br0.rp_filter=2"), ("eth0.100", "sysctl -w net/ipv4/conf/eth0.100/rp_filter=2"),
            ("e*", nil), ("a=b", nil),
        ] as [(String, String?)])
    func reversePath(_ interface: String, _ cure: String?) throws {
        var scene = Scene()
        scene.layout.namespaces[1].interfaces[2] = Interface(name: interface)
        var facts = NamespaceFacts()
        facts.strictInterfaces = [interface]
        scene.layout.namespaces[1].facts = facts
        let next = ["mangle/INPUT", "mangle/FORWARD"].compactMap { scene.probe(1, $0) }
        scene.add([scene.leg(1, ["raw/PREROUTING", "mangle/PREROUTING"], request)], .dropped, expected: next)
        #expect(try #require(scene.findings("reverse-path-filter").first).cures.first?.command == cure)
        // A table with rules before the routing decision may have been it.
        scene.layout.namespaces[1].decidingChains = [
            BuiltInChain(family: .ipv4, table: .mangle, hook: .prerouting, backend: .nft)
        ]
        #expect(try #require(scene.findings("reverse-path-filter").first).cures.first?.command == nil)
    }

    @Test("facts of older recordings, which knew no negation, are read")
    func olderRecordings() throws {
        let json = """
            {"redirections": [
              {"family": 2, "chain": "PREROUTING", "destination": "10.0.2.15", "port": 8080, "text": "-A PREROUTING -d 10.0.2.15/32"},
              {"family": 2, "chain": "PREROUTING", "text": "-A PREROUTING ! -d 10.0.2.15/32"}],
             "shadows": [{"family": 2, "table": "filter", "chain": "FORWARD", "earlier": "a", "later": "b", "number": 1,
              "isRedundant": true, "transport": "tcp", "destination": "10.0.0.0/8", "port": "80:90"}]}
            """
        let facts = try JSONDecoder().decode(NamespaceFacts.self, from: Data(json.utf8))
        var packet = RuleMatch.Packet(tuple(0x0A00_020F, 0x0A00_020F, 40000, 8080))
        packet.transport = TransportProtocol.tcp
        #expect(facts.redirections.map { $0.match.admits(packet) } == [true, nil])
        #expect(facts.redirections.allSatisfy { $0.outputArguments == nil })
        #expect(facts.shadows.map { $0.match.admits(packet) } == [false])
        packet.destinationPort = 80
        #expect(facts.shadows.map { $0.match.admits(packet) } == [true] && facts.shadows[0].deletion == nil)
        #expect(try JSONDecoder().decode(NamespaceFacts.self, from: JSONEncoder().encode(facts)) == facts)
    }
}
