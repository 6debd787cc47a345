import Correlation
import Engine
import Testing
import TraceModel
import WireFormat

/// A reader of a running machine's kernel log, with rules in two namespaces.
private struct Fixture: ~Copyable {
    let registry = LayoutRegistry(.live)
    var correlator = Correlator()
    var reader: LogReader

    init() {
        func probe(_ namespace: Int, _ table: Table, _ chain: String, _ hook: Hook, _ prefix: String) -> Probe {
            Probe(
                namespace: namespace, family: .ipv4, table: table, chain: chain, hook: hook, backend: .nft, prefix: prefix,
                coverage: .some)
        }
        registry.update(
            namespaces: [
                NamespaceLayout(name: "host", inode: 1),
                NamespaceLayout(
                    name: "host", inode: 1, interfaces: [7: Interface(name: "eth0", linkDomain: 1)], channel: .kernelLog),
                NamespaceLayout(name: "guest", inode: 2, channel: .kernelLog),
            ],
            openLinkDomains: [],
            probes: [
                probe(0, .filter, "INPUT", .input, "nflog only"), probe(1, .filter, "INPUT", .input, "in: "),
                probe(1, .filter, "X", .input, "user "), probe(1, .filter, "X", .forward, "user "),
                probe(1, .filter, "INPUT", .input, "both "), probe(2, .filter, "INPUT", .input, "both "),
                probe(2, .filter, "FORWARD", .forward, "shared "), probe(2, .mangle, "POSTROUTING", .postrouting, "shared "),
                probe(1, .filter, "deny", .input, "[BLOCK] "), probe(1, .filter, "after", .input, "[BLOCK] "),
                probe(1, .filter, "after", .forward, "[BLOCK] "), probe(1, .filter, "deny", .input, "[INVALID] "),
                probe(1, .mangle, "INPUT", .input, "[TWO] "), probe(1, .filter, "INPUT", .input, "[TWO] "),
            ])
        reader = LogReader(seed: 1, registry: registry)
        correlator.update(registry.current)
    }

    mutating func read(_ prefix: String, _ input: String = "eth0", _ output: String = "", id: Int = 1) {
        let bytes = Array(
            "\(prefix)IN=\(input) OUT=\(output) SRC=10.0.0.1 DST=10.0.0.2 LEN=84 TTL=64 ID=\(id) PROTO=UDP SPT=1 DPT=2".utf8)
        _ = try? reader.read(bytes.octets, 0..<bytes.count, now: 1, into: &correlator)
    }

    /// Of each journey, in the order of `steps`.
    var isEachAmbiguous: [Bool] {
        mutating get {
            var found: [Bool] = []
            correlator.forEachOpen(limit: 100) { found.append($0.isAmbiguous) }
            return found
        }
    }

    /// Steps of all journeys: `namespace table/chain hook interface`.
    mutating func steps() -> [[String]] {
        let layout = registry.current
        var found: [[String]] = []
        let stepTrie = correlator.stepTrie
        correlator.forEachOpen(limit: 100) { journey in
            found.append(
                journey.legs.flatMap { stepTrie.steps(of: $0.stepPath) }.map { step in
                    let probe = layout.probes[Int(step.probe)]
                    let input = layout.interfaceName(step.inInterface, namespace: probe.namespace) ?? "-"
                    return "\(probe.namespace) \(probe.table.name)/\(probe.chain) \(probe.hook.name) \(input)"
                })
        }
        return found
    }
}

@Suite struct LogReaderTests {
    @Test func aPrefixIsLookedUpInTheRulesForTheKernelLog() {
        var fixture = Fixture()
        fixture.read("in: ")
        #expect(fixture.steps() == [["1 filter/INPUT INPUT eth0"]])
        // A rule for NFLOG writes nothing into the log.
        fixture.read("nflog only")
        #expect(fixture.reader.unresolved.events == ["nflog only": 1])
    }

    @Test func aBlankAtTheEndMayHaveBeenCut() {
        var fixture = Fixture()
        fixture.read("in:")
        #expect(fixture.steps() == [["1 filter/INPUT INPUT eth0"]])
    }

    @Test func aChainThatSeveralHooksReachIsTakenByItsInterfaces() {
        var fixture = Fixture()
        fixture.read("user ", "eth0", "eth1", id: 1)
        fixture.read("user ", "eth0", "", id: 2)
        fixture.read("shared ", "eth0", "eth1", id: 3)
        #expect(
            fixture.steps() == [
                ["1 filter/X FORWARD eth0"], ["1 filter/X INPUT eth0"], ["2 filter/FORWARD FORWARD eth0"],
            ])
    }

    @Test("of several chains with one prefix, what can be said is the built-in one that leads to them")
    func sharedByChains() {
        var fixture = Fixture()
        fixture.read("[BLOCK] ")
        #expect(fixture.steps() == [["1 filter/INPUT INPUT eth0"]])
        #expect(fixture.isEachAmbiguous == [true])
        // In FORWARD there is but one.
        fixture = Fixture()
        fixture.read("[BLOCK] ", "eth0", "eth1")
        #expect(fixture.steps() == [["1 filter/after FORWARD eth0"]])
        #expect(fixture.isEachAmbiguous == [false])
    }

    @Test("a packet is in the chain where it was a moment before")
    func sharedByTheChainItIsIn() {
        var fixture = Fixture()
        fixture.read("[INVALID] ")
        fixture.read("[BLOCK] ")
        #expect(fixture.steps() == [["1 filter/deny INPUT eth0", "1 filter/deny INPUT eth0"]])
        #expect(fixture.isEachAmbiguous == [false])
    }

    @Test("of several tables with one prefix one is shown, and it is said that it may be another")
    func sharedByTables() {
        var fixture = Fixture()
        fixture.read("[TWO] ")
        #expect(fixture.isEachAmbiguous == [true])
    }

    @Test("a rule of INPUT reports no packet that leaves by an interface")
    func impossibleInterface() {
        var fixture = Fixture()
        fixture.read("in: ", "eth0", "eth1")
        #expect(fixture.steps().isEmpty && fixture.reader.unresolved.events == ["in: ": 1])
    }

    @Test func aPrefixOfTwoNamespacesIsNotPlaced() {
        var fixture = Fixture()
        for _ in 0..<3 { fixture.read("both ") }
        #expect(fixture.steps().isEmpty && fixture.reader.unresolved.events == ["both ": 3])
        #expect(fixture.reader.counters.unresolved == 3 && fixture.reader.counters.events == 3)
    }

    @Test func wordsAreNotBelievedWhileTheRulesCanBeRead() {
        var fixture = Fixture()
        fixture.read("HOST_FILTER_INPUT ")
        #expect(fixture.steps().isEmpty)
        // The survey looks at the rules again.
        #expect(fixture.registry.takeSurveyWish())
    }

    @Test func aNewLayoutIsTakenUp() {
        var fixture = Fixture()
        fixture.read("late ")
        var layout = fixture.registry.current
        layout.probes.append(
            Probe(
                namespace: 2, family: .ipv4, table: .raw, chain: "PREROUTING", hook: .prerouting, backend: .nft,
                prefix: "late ", coverage: .some))
        fixture.registry.update(namespaces: layout.namespaces, openLinkDomains: [], probes: layout.probes)
        fixture.correlator.update(fixture.registry.current)
        fixture.reader.layoutChanged()
        fixture.read("late ")
        #expect(fixture.steps() == [["2 raw/PREROUTING PREROUTING eth0"]])
    }

    @Test func interfacesThatNobodyKnowsKeepTheirNamesWhenTheMachineIsReadAgain() {
        var fixture = Fixture()
        fixture.read("in: ", "tun7")
        let layout = fixture.registry.current
        var fresh = layout.namespaces
        fresh[1].interfaces = [7: Interface(name: "eth0", linkDomain: 1)]
        fixture.registry.update(namespaces: fresh, openLinkDomains: [], probes: layout.probes)
        #expect(fixture.steps() == [["1 filter/INPUT INPUT tun7"]])
    }

    @Test("a prefix past the bound of those remembered keeps its probe, and takes no other's")
    func manyPrefixes() {
        var fixture = Fixture()
        fixture.reader = LogReader(seed: 1, registry: fixture.registry, mostResolutions: 4)
        for number in 0..<20 {
            fixture.read("in: ", id: number * 10)
            fixture.read("unknown \(number): ", id: number * 10 + 1)
            fixture.read("user ", id: number * 10 + 2)
        }
        let steps = fixture.steps().flatMap(\.self)
        #expect(steps.count == 40)
        #expect(steps.count { $0 == "1 filter/INPUT INPUT eth0" } == 20)
        #expect(steps.count { $0.hasPrefix("1 filter/X") } == 20)
        #expect(fixture.reader.counters.unresolved == 20)
    }

    @Test func manyPrefixesAreCountedTogetherPastALimit() {
        var unresolved = UnresolvedPrefixes()
        for number in 0..<1000 { unresolved.count(unresolved.number(of: "p\(number)")) }
        #expect(unresolved.events.count == UnresolvedPrefixes.limit + 1)
        #expect(unresolved.events.values.reduce(0, +) == 1000)
        #expect(unresolved.events[UnresolvedPrefixes.others] == UInt64(1000 - UnresolvedPrefixes.limit))
    }
}
