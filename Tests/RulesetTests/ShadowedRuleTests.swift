import Ruleset
import Testing
import TraceModel

extension NamespaceFacts {
    /// Facts read from rules alone.
    init(rules text: String, _ family: AddressFamily = .ipv4) throws {
        var result = ProbeSurvey.Result()
        for content in try RuleDump(parsing: text).tables {
            guard let table = content.table else { continue }
            ProbeSurvey.survey(content, table, family, .nft, namespace: 0, into: &result)
        }
        self = result.facts
    }
}

@Suite struct ShadowedRuleTests {
    struct Case: CustomTestStringConvertible, Sendable {
        var testDescription: String
        var rules: [String]
        /// Indices of the shadowed rules.
        var shadowed: Set<Int>
        /// Those of them that may be deleted.
        var removable: Set<Int>

        init(_ name: String, _ rules: [String], shadowed: Set<Int> = [], removable: Set<Int> = []) {
            testDescription = name
            self.rules = rules
            self.shadowed = shadowed
            self.removable = removable
        }
    }

    static let cases: [Case] = [
        Case(
            "a narrower rule of another verdict",
            ["-p tcp -m tcp --dport 80 -j DROP", "-s 10.0.2.2/32 -p tcp -m tcp --dport 80 -j ACCEPT"], shadowed: [1]),
        Case("a narrower prefix", ["-s 10.0.0.0/8 -j DROP", "-s 10.0.2.0/24 -j ACCEPT"], shadowed: [1]),
        Case("a narrower prefix as a mask", ["-s 10.0.0.0/255.0.0.0 -j DROP", "-s 10.0.2.0/24 -j ACCEPT"], shadowed: [1]),
        Case("a mask with gaps", ["-s 10.0.0.0/255.0.255.0 -j DROP", "-s 10.0.0.1/32 -j ACCEPT"]),
        Case("a wider prefix", ["-s 10.0.2.0/24 -j DROP", "-s 10.0.0.0/8 -j ACCEPT"]),
        Case("everything", ["-j DROP", "-p icmp -j ACCEPT"], shadowed: [1]),
        Case("the same verdict", ["-p icmp -j DROP", "-s 10.0.0.1/32 -p icmp -j DROP"], shadowed: [1], removable: [1]),
        Case(
            "a port in a range", ["-p tcp -m tcp --dport 1000:2000 -j DROP", "-p tcp -m tcp --dport 1500 -j ACCEPT"],
            shadowed: [1]),
        Case("ranges that overlap", ["-p tcp -m tcp --dport 1000:2000 -j DROP", "-p tcp -m tcp --dport 500:1500 -j ACCEPT"]),
        Case(
            "a port of a list",
            ["-p tcp -m multiport --dports 80,443,8000:8010 -j DROP", "-p tcp -m tcp --dport 8005 -j ACCEPT"], shadowed: [1]),
        Case(
            "a list with one port more",
            ["-p tcp -m multiport --dports 80,443 -j DROP", "-p tcp -m multiport --dports 80,22 -j ACCEPT"]),
        Case("ports of the other direction", ["-p tcp -m tcp --sport 80 -j DROP", "-p tcp -m tcp --dport 80 -j ACCEPT"]),
        Case("interfaces by pattern", ["-i eth+ -j DROP", "-i eth0 -j ACCEPT"], shadowed: [1]),
        Case("a negated source", ["! -s 10.0.2.2/32 -j DROP", "-s 10.0.2.3/32 -j ACCEPT"]),
        Case("a negated source, twice", ["! -s 10.0.2.2/32 -j DROP", "! -s 10.0.2.2/32 -p tcp -j ACCEPT"], shadowed: [1]),
        Case("a negation as old versions print it", ["-s ! 10.0.2.2/32 -j DROP", "-s 10.0.2.2/32 -j DROP"]),
        Case("a negated port", ["-p tcp -m tcp ! --dport 80 -j DROP", "-p tcp -m tcp --dport 80 -j DROP"]),
        Case(
            "a negated list", ["-p tcp -m multiport ! --dports 80,443 -j DROP", "-p tcp -m multiport --dports 80,443 -j DROP"]),
        Case("a negated protocol", ["! -p tcp -j DROP", "-p tcp -j DROP"]),
        Case("a negated interface", ["! -i lo -j DROP", "-i lo -j DROP"]),
        Case("a negated state", ["-m conntrack ! --ctstate NEW -j DROP", "-m conntrack --ctstate NEW -j DROP"]),
        Case("a rate", ["-m limit --limit 5/sec -j ACCEPT", "-p tcp -j ACCEPT"]),
        Case("a rate, twice", ["-m limit --limit 5/sec -j ACCEPT", "-m limit --limit 5/sec -j ACCEPT"]),
        Case(
            "chance",
            ["-m statistic --mode random --probability 0.5 -j DROP", "-m statistic --mode random --probability 0.5 -j DROP"]),
        Case("a set", ["-m set --match-set a src -j DROP", "-m set --match-set a src -j DROP"]),
        Case("what was seen before", ["-m recent --rcheck --name a -j DROP", "-m recent --rcheck --name a -j DROP"]),
        Case("time", ["-m time --timestart 01:00:00 -j DROP", "-m time --timestart 01:00:00 -j DROP"]),
        Case("a program", ["-m bpf --bytecode \"1,6 0 0 1\" -j DROP", "-m bpf --bytecode \"1,6 0 0 1\" -j DROP"]),
        Case("bytes", ["-m u32 --u32 \"0=0\" -j DROP", "-m u32 --u32 \"0=0\" -j DROP"]),
        Case("a type of address", ["-m addrtype --dst-type LOCAL -j DROP", "-m addrtype --dst-type LOCAL -j DROP"]),
        Case("a module that asks without options", ["-m socket -j ACCEPT", "-m socket -j ACCEPT"]),
        Case("an option that nothing knows", ["--frobnicate -j DROP", "--frobnicate -j DROP"]),
        Case("a jump is no end", ["-p tcp -j USER", "-p tcp -m tcp --dport 80 -j ACCEPT"]),
        Case("a state of many", ["-m conntrack --ctstate ESTABLISHED -j ACCEPT", "-p tcp -j ACCEPT"]),
        Case(
            "a state of those before",
            ["-m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT", "-m conntrack --ctstate ESTABLISHED -j ACCEPT"],
            shadowed: [1], removable: [1]),
        Case(
            "states in another order",
            ["-m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT", "-m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT"],
            shadowed: [1], removable: [1]),
        Case(
            "a state that another processor changes",
            ["-m conntrack --ctstate DNAT -j ACCEPT", "-m conntrack --ctstate DNAT -j ACCEPT"]),
        Case(
            "marks of the packet and of its connection", ["-m mark --mark 0x1 -j ACCEPT", "-m connmark --mark 0x1 -j ACCEPT"]),
        Case("the mark of a connection, twice", ["-m connmark --mark 0x1 -j ACCEPT", "-m connmark --mark 0x1 -j ACCEPT"]),
        Case("a mark, twice", ["-m mark --mark 0x1 -j ACCEPT", "-m mark --mark 0x1 -j ACCEPT"], shadowed: [1], removable: [1]),
        Case(
            "a mark that a jump may set between", ["-m mark --mark 0x1 -j RETURN", "-j USER", "-m mark --mark 0x1 -j RETURN"]),
        Case(
            "a mark that a goto may set between",
            ["-m mark --mark 0x1 -j RETURN", "-p tcp -g USER", "-m mark --mark 0x1 -j RETURN"]),
        Case(
            "a mark that is restored between",
            ["-m mark --mark 0x1 -j ACCEPT", "-j CONNMARK --restore-mark", "-m mark --mark 0x1 -j ACCEPT"]),
        Case(
            "a field that is changed between",
            ["-m dscp --dscp 0x0a -j ACCEPT", "-p udp -j DSCP --set-dscp 0x0a", "-m dscp --dscp 0x0a -j ACCEPT"]),
        Case(
            "hops that are changed between", ["-m ttl --ttl-eq 1 -j DROP", "-j TTL --ttl-set 1", "-m ttl --ttl-eq 1 -j DROP"]),
        Case(
            "tracking that is switched off between",
            ["-m conntrack --ctstate NEW -j ACCEPT", "-j CT --notrack", "-m conntrack --ctstate NEW -j ACCEPT"]),
        Case(
            "addresses that nothing changes between",
            ["-s 10.0.0.1/32 -j DROP", "-j USER", "-j MARK --set-xmark 0x1/0x1", "-s 10.0.0.1/32 -p tcp -j DROP"],
            shadowed: [3], removable: [3]),
        Case(
            "a target between that nothing knows",
            ["-s 10.0.0.1/32 -j DROP", "-j RAWSNAT --to-source 10.0.0.1", "-s 10.0.0.1/32 -j DROP"]),
        Case(
            "a queue between", ["-s 10.0.0.1/32 -j DROP", "-j NFQUEUE --queue-num 1 --queue-bypass", "-s 10.0.0.1/32 -j DROP"]),
        Case(
            "a user chain with a target that nothing knows", ["-s 10.0.0.1/32 -j DROP", "-j STRANGE", "-s 10.0.0.1/32 -j DROP"]),
        Case("equal rules in a row", ["-p tcp -j DROP", "-p tcp -j DROP"], shadowed: [1], removable: [1]),
        // Deletion by words would take the first, and lay the middle one bare.
        Case(
            "equal rules around another", ["-p tcp -j DROP", "-p tcp -s 10.0.0.1/32 -j ACCEPT", "-p tcp -j DROP"],
            shadowed: [1, 2]),
        Case(
            "a rule that counts what it does not match", ["-p tcp -j DROP", "-p tcp -m recent --set --name a -j DROP"],
            shadowed: [1]),
        Case(
            "other options of the same target", ["-p tcp -j REJECT --reject-with tcp-reset", "-p tcp -j REJECT"], shadowed: [1]),
        Case("fragments have no header", ["-p tcp -m tcp -j DROP", "-p tcp -j DROP"]),
        Case(
            "a port needs the header", ["-p tcp -m tcp -j DROP", "-p tcp -m tcp --dport 80 -j DROP"], shadowed: [1],
            removable: [1]),
        Case(
            "a comment that looks like options",
            [
                "-m comment --comment \"-s 10.0.0.1 -j DROP\" -j LOG", "-m comment --comment -j -j ACCEPT",
                "-p tcp -m comment --comment \"! -d\" -j ACCEPT",
            ], shadowed: [2], removable: [2]),
    ]

    @Test("a rule is shadowed by one that ends the traversal for all that it would match", arguments: cases)
    func shadows(_ test: Case) throws {
        let rules = test.rules.map { "-A FORWARD \($0)" }
        let strange =
            test.rules.contains { $0.contains("STRANGE") }
            ? ":STRANGE - [0:0]\n-A STRANGE -j RAWDNAT --to-destination 10.0.0.1\n" : ""
        let text = "*filter\n:FORWARD ACCEPT [0:0]\n:USER - [0:0]\n\(strange)\(rules.joined(separator: "\n"))\nCOMMIT\n"
        let facts = try NamespaceFacts(rules: text)
        #expect(facts.shadows.map(\.later).sorted() == test.shadowed.map { rules[$0] }.sorted())
        let deletions = facts.shadows.compactMap(\.deletion).map { "-A FORWARD \(RuleWords.join($0))" }
        #expect(try deletions.map { try RuleWords.split($0) } == test.removable.map { try RuleWords.split(rules[$0]) })
    }

    @Test("each verdict of a policy chain is asked for anew, since a jump between may set the mark")
    func policyChain() throws {
        let accepted = "-m comment --comment \"Return if profile accepted\" -m mark --mark 0x10000/0x10000 -j RETURN"
        let facts = try NamespaceFacts(
            rules: """
                *filter
                :FORWARD DROP [0:0]
                :workload - [0:0]
                :profile-a - [0:0]
                :profile-b - [0:0]
                -A FORWARD -j workload
                -A workload -j MARK --set-xmark 0x0/0x10000
                -A workload -j profile-a
                -A workload \(accepted)
                -A workload -j profile-b
                -A workload \(accepted)
                -A workload -j DROP
                -A profile-b -p tcp -m tcp --dport 80 -j MARK --set-xmark 0x10000/0x10000
                COMMIT
                """)
        #expect(facts.shadows == [])
    }
}

@Suite struct RedirectionTests {
    struct Case: CustomTestStringConvertible, Sendable {
        var testDescription: String
        var match: String
        var admits: Bool?
        var outputArguments: String?

        init(_ match: String, _ admits: Bool?, _ outputArguments: String? = nil) {
            testDescription = match
            self.match = match
            self.admits = admits
            self.outputArguments = outputArguments
        }
    }

    static let target = "-j DNAT --to-destination 10.0.2.2:80"
    static let cases: [Case] = [
        Case("-d 10.0.1.1/32 -i lan0 -p tcp -m tcp --dport 8080", true, "-d 10.0.1.1/32 -p tcp -m tcp --dport 8080"),
        Case("-d 10.0.1.1/32 ! -i eth0 -p tcp -m tcp --dport 8080", true, "-d 10.0.1.1/32 -p tcp -m tcp --dport 8080"),
        Case("! -d 10.0.1.1/32 -p tcp -m tcp --dport 8080", false, "! -d 10.0.1.1/32 -p tcp -m tcp --dport 8080"),
        Case("-d ! 10.0.1.1/32 -p tcp -m tcp --dport 8080", false, "-d ! 10.0.1.1/32 -p tcp -m tcp --dport 8080"),
        Case("-d 10.0.0.0/16 -p tcp -m tcp --dport 8000:8090", true, "-d 10.0.0.0/16 -p tcp -m tcp --dport 8000:8090"),
        Case("-d 10.0.1.1/32 -p tcp -m tcp ! --dport 8080", false, "-d 10.0.1.1/32 -p tcp -m tcp ! --dport 8080"),
        Case(
            "-d 10.0.1.1/32 -p tcp -m multiport --dports 80,8080", true, "-d 10.0.1.1/32 -p tcp -m multiport --dports 80,8080"),
        Case(
            "-d 10.0.1.1/32 -p tcp -m multiport ! --dports 80,8080", false,
            "-d 10.0.1.1/32 -p tcp -m multiport ! --dports 80,8080"),
        Case("-p tcp -m iprange --dst-range 10.0.1.0-10.0.1.9", true, "-p tcp -m iprange --dst-range 10.0.1.0-10.0.1.9"),
        Case("-p tcp -m iprange ! --dst-range 10.0.1.0-10.0.1.9", false, "-p tcp -m iprange ! --dst-range 10.0.1.0-10.0.1.9"),
        Case(
            "-m addrtype --dst-type LOCAL -p tcp -m tcp --dport 8080", true,
            "! -d 127.0.0.0/8 -m addrtype --dst-type LOCAL -p tcp -m tcp --dport 8080"),
        Case("-m addrtype ! --dst-type LOCAL", false, "! -d 127.0.0.0/8 -m addrtype ! --dst-type LOCAL"),
        Case("-m addrtype --dst-type BROADCAST", nil, "! -d 127.0.0.0/8 -m addrtype --dst-type BROADCAST"),
        Case("-d 10.0.1.1/32 -m set --match-set a dst", nil),
        Case("-d 10.0.1.1/32 -m mark --mark 0x1", nil),
        Case("-d 10.0.1.1/32 -m statistic --mode nth --every 2 --packet 0", nil),
        Case("-s 10.9.0.0/16 -d 10.0.1.1/32", false, "-s 10.9.0.0/16 -d 10.0.1.1/32"),
        Case("-d 10.0.1.1/32 -p udp -m udp --dport 8080", false, "-d 10.0.1.1/32 -p udp -m udp --dport 8080"),
        Case("-d 10.0.1.1/32 ! -p udp", true, "-d 10.0.1.1/32 ! -p udp"),
        Case("-d 10.0.1.1/255.0.255.255", nil, "-d 10.0.1.1/255.0.255.255"),
        Case("-d 10.0.1.1/32 -p tcp -m tcp --dport http-alt", nil, "-d 10.0.1.1/32 -p tcp -m tcp --dport http-alt"),
        Case(
            "-d 10.0.1.1/32 -m comment --comment \"web server (old) ! -d\"", true,
            "-d 10.0.1.1/32 -m comment --comment \"web server (old) ! -d\""),
    ]

    @Test(
        "a redirection keeps its conditions with their negations, and no rule of OUTPUT names an input interface",
        arguments: cases)
    func redirection(_ test: Case) throws {
        let facts = try NamespaceFacts(
            rules: "*nat\n:PREROUTING ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n-A PREROUTING \(test.match) \(Self.target)\nCOMMIT\n")
        let redirection = try #require(facts.redirections.first)
        let address = IPAddress(ipv4: 0x0A00_0101)
        var packet = RuleMatch.Packet(
            PacketTuple(
                source: address, destination: address, sourcePort: 40000, destinationPort: 8080,
                transport: TransportProtocol.tcp))
        packet.isLocal = true
        #expect(redirection.match.admits(packet) == test.admits)
        #expect(redirection.outputArguments == (try test.outputArguments.map { try RuleWords.split("\($0) \(Self.target)") }))
        #expect(!redirection.isReachedFromOutput)
    }

    @Test("conditions of the jumps that lead to a rule are conditions of its redirection, for each way")
    func jumps() throws {
        let facts = try NamespaceFacts(
            rules: """
                *nat
                :PREROUTING ACCEPT [0:0]
                :OUTPUT ACCEPT [0:0]
                :DOCKER - [0:0]
                -A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER
                -A OUTPUT ! -d 127.0.0.0/8 -m addrtype --dst-type LOCAL -j DOCKER
                -A DOCKER -i docker0 -j RETURN
                -A DOCKER ! -i docker0 -p tcp -m tcp --dport 8080 \(Self.target)
                COMMIT

                """)
        #expect(facts.redirections.map(\.isReachedFromPrerouting) == [true, false])
        #expect(facts.redirections.map(\.isReachedFromOutput) == [false, true])
        #expect(facts.redirections.allSatisfy { $0.chain == "DOCKER" && $0.match.namesDestination })
        let words = "! -d 127.0.0.0/8 -m addrtype --dst-type LOCAL -p tcp -m tcp --dport 8080 \(Self.target)"
        #expect(facts.redirections[0].outputArguments == (try RuleWords.split(words)))
        let loopback = IPAddress(ipv4: 0x7F00_0001)
        var packet = RuleMatch.Packet(
            PacketTuple(
                source: loopback, destination: loopback, sourcePort: 1, destinationPort: 8080, transport: TransportProtocol.tcp)
        )
        packet.isLocal = true
        #expect(facts.redirections.map { $0.match.admits(packet) } == [true, false])
    }

    @Test("a rule whose jump has an option that iptables takes once only is offered to nobody")
    func repeatedOption() throws {
        let facts = try NamespaceFacts(
            rules: """
                *nat
                :PREROUTING ACCEPT [0:0]
                :SERVICES - [0:0]
                -A PREROUTING -d 10.96.0.1/32 -p tcp -m tcp --dport 443 -j SERVICES
                -A SERVICES -p tcp -m tcp \(Self.target)
                COMMIT

                """)
        #expect(facts.redirections.count == 1 && facts.redirections[0].outputArguments == nil)
    }

    @Test("a chain that OUTPUT jumps to is reached from there")
    func reached() throws {
        let facts = try NamespaceFacts(
            rules: """
                *nat
                :PREROUTING ACCEPT [0:0]
                :OUTPUT ACCEPT [0:0]
                :DOCKER - [0:0]
                -A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER
                -A OUTPUT ! -d 127.0.0.0/8 -m addrtype --dst-type LOCAL -j DOCKER
                -A DOCKER ! -i docker0 -p tcp -m tcp --dport 8080 -j DNAT --to-destination 172.17.0.2:80
                COMMIT
                """)
        #expect(facts.redirections.map(\.isReachedFromOutput) == [false, true])
    }
}

@Suite struct AnswersTests {
    struct Case: CustomTestStringConvertible, Sendable {
        var testDescription: String
        var rules: String
        var acceptsEstablished: Bool
        var dropsTheRestOnly: Bool
    }

    static let cases = [
        Case(testDescription: "nothing but a policy", rules: "", acceptsEstablished: false, dropsTheRestOnly: true),
        Case(
            testDescription: "a rule of the chain", rules: "-A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
            acceptsEstablished: true, dropsTheRestOnly: true),
        Case(
            testDescription: "a rule of a chain that is jumped to",
            rules: "-A FORWARD -j A\n-A A -m state --state ESTABLISHED -j ACCEPT", acceptsEstablished: true,
            dropsTheRestOnly: true),
        Case(
            testDescription: "a jump for established connections",
            rules: "-A FORWARD -m conntrack --ctstate ESTABLISHED -g A\n-A A -j ACCEPT",
            acceptsEstablished: true, dropsTheRestOnly: true),
        Case(
            testDescription: "every state but two", rules: "-A FORWARD -m conntrack ! --ctstate NEW,INVALID -j ACCEPT",
            acceptsEstablished: true, dropsTheRestOnly: true),
        Case(
            testDescription: "every state but ESTABLISHED", rules: "-A FORWARD -m conntrack ! --ctstate ESTABLISHED -j ACCEPT",
            acceptsEstablished: false, dropsTheRestOnly: true),
        Case(
            testDescription: "a comment alone", rules: "-A FORWARD -m comment --comment ESTABLISHED -j ACCEPT",
            acceptsEstablished: false, dropsTheRestOnly: true),
        Case(
            testDescription: "a rule that drops on purpose", rules: "-A FORWARD -s 10.0.0.1/32 -j DROP",
            acceptsEstablished: false, dropsTheRestOnly: false),
        Case(
            testDescription: "a rule that drops in a chain that is jumped to",
            rules: "-A FORWARD -j A\n-A A -m conntrack --ctstate INVALID -j DROP", acceptsEstablished: false,
            dropsTheRestOnly: false),
        Case(
            testDescription: "a last rule that refuses", rules: "-A FORWARD -p icmp -j ACCEPT\n-A FORWARD -j REJECT",
            acceptsEstablished: false, dropsTheRestOnly: true),
        Case(
            testDescription: "a queue", rules: "-A FORWARD -j NFQUEUE --queue-num 0", acceptsEstablished: false,
            dropsTheRestOnly: false),
    ]

    @Test("a chain tells whether established connections pass it, and which packets it drops", arguments: cases)
    func answers(_ test: Case) throws {
        let facts = try NamespaceFacts(rules: "*filter\n:FORWARD DROP [0:0]\n:A - [0:0]\n\(test.rules)\nCOMMIT\n")
        let chain = try #require(facts.chains?.first)
        #expect(chain.acceptsEstablished == test.acceptsEstablished && chain.dropsTheRestOnly == test.dropsTheRestOnly)
    }
}

@Suite struct RemovedRuleTests {
    @Test("deleting a rule that may be deleted changes nothing for any packet, and shadowed rules match none")
    func generated() throws {
        var deletions = 0
        var shadows = 0
        for seed in 0..<4000 as Range<UInt64> {
            var generated = GeneratedTable(seed: seed)
            let text = generated.text()
            let table = try #require(try RuleDump(parsing: text)[.filter])
            let found = try NamespaceFacts(rules: text).shadows
            guard !found.isEmpty else { continue }
            let before = RuleInterpreter(table)
            let others = found.compactMap { shadow in
                shadow.deletion.map { (shadow.later, before.deleting($0, from: shadow.chain)) }
            }
            var matched: Set<Int> = []
            for _ in 0..<100 {
                let packet = generated.packet()
                let result = before.run(packet, from: "FORWARD", matched: &matched)
                for (rule, other) in others {
                    var ignored: Set<Int> = []
                    let changed = try #require(other).run(packet, from: "FORWARD", matched: &ignored)
                    #expect(changed == result, "seed \(seed), without \"\(rule)\", \(packet):\n\(text)")
                }
            }
            for shadow in found {
                let alike = table.rules.indices.filter { table.rules[$0].text == shadow.later }
                // Of rules that read the same it cannot be said here which one is meant.
                if alike.count == 1 {
                    #expect(!matched.contains(alike[0]), "seed \(seed), \"\(shadow.later)\" matched:\n\(text)")
                }
            }
            deletions += others.count
            shadows += found.count
        }
        #expect(deletions > 500 && shadows > 2000, "\(deletions) of \(shadows)")
    }

    @Test("the interpreter tells rules apart that differ in effect")
    func interpreter() throws {
        let text =
            "*filter\n:FORWARD ACCEPT [0:0]\n:A - [0:0]\n-A FORWARD -j A\n-A FORWARD -m mark --mark 1 -j DROP\n"
            + "-A A -p tcp -m tcp ! --dport 80 -j RETURN\n-A A -j MARK --set-xmark 1\nCOMMIT\n"
        let table = RuleInterpreter(try #require(try RuleDump(parsing: text)[.filter]))
        var packet = RuleInterpreter.Packet(
            transport: "tcp", source: 0, destination: 0, port: 80, inInterface: "eth0", state: "NEW", mark: 0, seed: 0)
        var matched: Set<Int> = []
        #expect(table.run(packet, from: "FORWARD", matched: &matched).verdict == "-j DROP")
        #expect(matched == [0, 1, 3])
        packet.port = 81
        #expect(table.run(packet, from: "FORWARD", matched: &matched).verdict == "ACCEPT")
    }
}
