import LinuxSupport
import Ruleset
import Testing
import TraceModel
import WireFormat

/// nf_tables messages as the kernel sends them.
private enum Message {
    static func chain(
        _ table: String, _ name: String, hook: UInt32? = nil, policy: UInt32 = 1, family: UInt8 = 2, device: String? = nil,
        devices: [String] = []
    ) throws -> ChainMessage {
        var message = NetlinkRequest()
        message.append(NetlinkRequest.nfgenmsg(family: family))
        message.attribute(1, text: table)
        message.attribute(3, text: name)
        if let hook {
            message.nest(4) {
                $0.attribute(1, big: hook)
                $0.attribute(2, big: UInt32(0))
                if let device { $0.attribute(3, text: device) }
                if !devices.isEmpty { $0.nest(4) { list in for name in devices { list.attribute(1, text: name) } } }
            }
            message.attribute(5, big: policy)
        }
        let bytes = message.bytes
        return try ChainMessage(parsing: bytes.octets, body: 0..<bytes.count)
    }

    static func flowtable(_ table: String, _ name: String, family: UInt8, devices: [String]) throws -> FlowtableMessage {
        var message = NetlinkRequest()
        message.append(NetlinkRequest.nfgenmsg(family: family))
        message.attribute(1, text: table)
        message.attribute(2, text: name)
        message.nest(3) {
            $0.attribute(1, big: UInt32(0))
            $0.attribute(2, big: UInt32(0))
            $0.nest(3) { list in for name in devices { list.attribute(1, text: name) } }
        }
        let bytes = message.bytes
        return try FlowtableMessage(parsing: bytes.octets, body: 0..<bytes.count)
    }

    static func expression(_ name: String, _ fill: (inout NetlinkRequest) -> Void) -> [UInt8] {
        var list = NetlinkRequest()
        list.nest(1) {
            $0.attribute(1, text: name)
            $0.nest(2, fill)
        }
        return list.bytes
    }

    static func counter(_ packets: UInt64) -> [UInt8] {
        expression("counter") {
            $0.attribute(1, big: packets * 84)
            $0.attribute(2, big: packets)
        }
    }

    static func log(_ prefix: String, group: UInt16?) -> [UInt8] {
        expression("log") {
            if let group { $0.attribute(1, big: group) }
            $0.attribute(2, text: prefix)
        }
    }

    static func verdict(_ code: Int32, _ chain: String? = nil) -> [UInt8] {
        expression("immediate") {
            $0.attribute(1, big: UInt32(0))
            $0.nest(2) {
                $0.nest(2) {
                    $0.attribute(1, big: UInt32(bitPattern: code))
                    if let chain { $0.attribute(2, text: chain) }
                }
            }
        }
    }

    /// An x_tables target LOG (`struct xt_log_info`).
    static func xtLog(_ prefix: String) -> [UInt8] {
        expression("target") {
            $0.attribute(1, text: "LOG")
            $0.attribute(2, big: UInt32(0))
            $0.attribute(3, [4, 0] + Array(prefix.utf8) + [UInt8](repeating: 0, count: 30 - prefix.utf8.count))
        }
    }

    static func rule(
        _ table: String, _ chain: String, _ handle: UInt64, _ expressions: [[UInt8]], comment: String? = nil, family: UInt8 = 2
    ) throws -> RuleMessage {
        var message = NetlinkRequest()
        message.append(NetlinkRequest.nfgenmsg(family: family))
        message.attribute(1, text: table)
        message.attribute(2, text: chain)
        message.attribute(3, big: handle)
        message.attribute(4, expressions.flatMap(\.self))
        if let comment { message.attribute(7, text: comment) }
        let bytes = message.bytes
        return try RuleMessage(parsing: bytes.octets, body: 0..<bytes.count)
    }

    static func probe(_ table: String, _ chain: String, _ handle: UInt64, run: String = "abc123", packets: UInt64 = 0) throws
        -> RuleMessage
    {
        try rule(table, chain, handle, [counter(packets), log("ipt-trace:\(run):\(table):\(chain)", group: 5)])
    }
}

@Suite struct RuleMessageTests {
    @Test("a rule's log statement, verdict and counter are read, native or of x_tables")
    func contents() throws {
        let native = try Message.rule("filter", "INPUT", 7, [Message.counter(3), Message.log("a b", group: 5)])
        #expect(native.log == RuleMessage.Log(prefix: "a b", group: 5) && native.packets == 3 && native.handle == 7)
        #expect(native.isOnlyLogging && native.verdict == nil)
        let kernelLog = try Message.rule("filter", "INPUT", 8, [Message.counter(0), Message.xtLog("drop ")])
        #expect(kernelLog.log == RuleMessage.Log(prefix: "drop ", group: nil) && kernelLog.isOnlyLogging)
        let jump = try Message.rule("filter", "INPUT", 9, [Message.counter(0), Message.verdict(-3, "WEB")])
        #expect(jump.verdict == RuleMessage.Verdict(code: RuleMessage.Verdict.jump, chain: "WEB"))
    }

    @Test("a rule that logs and then decides is not only logging")
    func logAndDrop() throws {
        let rule = try Message.rule("filter", "INPUT", 7, [Message.log("x", group: 5), Message.verdict(0)])
        #expect(rule.log != nil && !rule.isOnlyLogging)
    }

    @Test("the digest leaves counters out and keeps everything else")
    func digest() throws {
        let one = try Message.rule("filter", "INPUT", 1, [Message.counter(1), Message.verdict(0)], comment: "x")
        let counted = try Message.rule("filter", "INPUT", 2, [Message.counter(99), Message.verdict(0)], comment: "x")
        let accepting = try Message.rule("filter", "INPUT", 1, [Message.counter(1), Message.verdict(1)], comment: "x")
        let renamed = try Message.rule("filter", "INPUT", 1, [Message.counter(1), Message.verdict(0)], comment: "y")
        #expect(one.digest == counted.digest)
        #expect(one.digest != accepting.digest && one.digest != renamed.digest)
    }

    @Test("a truncated message is an error, never a trap")
    func truncated() throws {
        var message = NetlinkRequest()
        message.append(NetlinkRequest.nfgenmsg(family: 2))
        message.attribute(4, Message.counter(1) + Message.log("abc", group: 5) + Message.verdict(-3, "WEB"))
        let bytes = message.bytes
        let errors = (0..<bytes.count).count { length in
            do {
                _ = try RuleMessage(parsing: bytes.octets.extracting(0..<length), body: 0..<length)
                return false
            } catch { return true }
        }
        // A message may end behind its header, or where fewer bytes than an attribute's header are left.
        #expect(errors >= bytes.count - 8)
    }
}

@Suite struct NFTablesRemovalTests {
    /// `filter` with a user's INPUT (a rule behind the probe) and FORWARD that came with the probes; `mangle` all ours.
    static func listing() throws -> NFTablesListing {
        var listing = NFTablesListing()
        listing.tables = [
            NFTable(family: 2, name: "filter"), NFTable(family: 2, name: "mangle"), NFTable(family: 1, name: "mine"),
            NFTable(family: 2, name: "ipt-trace-abc123"), NFTable(family: 2, name: "ipt-trace-def456"),
        ]
        listing.chains = [
            try Message.chain("filter", "INPUT", hook: 1), try Message.chain("filter", "FORWARD", hook: 2),
            try Message.chain("mangle", "OUTPUT", hook: 3), try Message.chain("filter", "WEB"),
        ]
        listing.rules = [
            try Message.probe("filter", "INPUT", 1), try Message.rule("filter", "INPUT", 2, [Message.verdict(1)]),
            try Message.probe("filter", "FORWARD", 3), try Message.probe("mangle", "OUTPUT", 4),
            try Message.probe("filter", "INPUT", 5, run: "def456"),
        ]
        return listing
    }

    static let input = NFChain(family: 2, table: "filter", name: "INPUT")
    static let forward = NFChain(family: 2, table: "filter", name: "FORWARD")
    static let output = NFChain(family: 2, table: "mangle", name: "OUTPUT")
    static let both: Set<NFTable> = [NFTable(family: 2, name: "filter"), NFTable(family: 2, name: "mangle")]

    @Test("with a record, removal takes the rules added since, and nothing else")
    func recorded() throws {
        let record = NFTablesRemoval.Record(
            chainsBefore: [Self.input], tablesBefore: [NFTable(family: 2, name: "filter")], tables: Self.both)
        let removal = NFTablesRemoval(try Self.listing(), record: record) { $0 == "abc123" }
        #expect(removal.rules.map(\.handle) == [1, 3, 4])
        #expect(removal.ownTables == [NFTable(family: 2, name: "ipt-trace-abc123")])
        #expect(removal.emptyChains == [Self.forward, Self.output])
        #expect(removal.emptyTables == [NFTable(family: 2, name: "mangle")])
    }

    @Test("with a record, an empty chain that was there before stays")
    func emptyBefore() throws {
        let record = NFTablesRemoval.Record(
            chainsBefore: [Self.input, Self.forward, Self.output], tablesBefore: Self.both, tables: Self.both)
        let removal = NFTablesRemoval(try Self.listing(), record: record) { $0 == "abc123" }
        #expect(removal.emptyChains.isEmpty && removal.emptyTables.isEmpty && removal.rules.count == 3)
    }

    @Test("without a record, chains that held probes alone go")
    func unrecorded() throws {
        let removal = NFTablesRemoval(try Self.listing(), record: nil) { $0 == "abc123" }
        #expect(removal.emptyChains == [Self.forward, Self.output])
        #expect(removal.emptyTables == [NFTable(family: 2, name: "mangle")])
    }

    @Test("a chain with a policy other than ACCEPT stays, with its table")
    func policy() throws {
        var listing = try Self.listing()
        listing.chains[2] = try Message.chain("mangle", "OUTPUT", hook: 3, policy: 0)
        let removal = NFTablesRemoval(listing, record: nil) { $0 == "abc123" }
        #expect(removal.emptyChains == [Self.forward] && removal.emptyTables.isEmpty)
    }

    @Test("a chain that another run still has a probe in stays")
    func otherRun() throws {
        var listing = try Self.listing()
        listing.rules.append(try Message.probe("mangle", "OUTPUT", 9, run: "def456"))
        let removal = NFTablesRemoval(listing, record: nil) { $0 == "abc123" }
        #expect(!removal.emptyChains.contains(Self.output) && removal.emptyTables.isEmpty)
    }

    @Test(
        "a rule that only logs with a prefix of ours is a probe wherever it stands; one that decides is not",
        arguments: [
            ("in its chain", "INPUT", "ipt-trace:abc123:filter:INPUT", false),
            ("in a chain that was renamed", "WEB", "ipt-trace:abc123:filter:SHOP", false),
            ("copied to another chain", "FORWARD", "ipt-trace:abc123:filter:INPUT", false),
            ("copied from another table", "INPUT", "ipt-trace:abc123:mangle:INPUT", false),
            ("deciding as well", "INPUT", "ipt-trace:abc123:filter:INPUT", true),
            ("with another program's prefix", "INPUT", "ipt-tracer:abc123:filter:INPUT", false),
        ])
    func ownRules(_ name: String, _ chain: String, _ prefix: String, _ drops: Bool) throws {
        var listing = NFTablesListing()
        listing.tables = [NFTable(family: 2, name: "filter")]
        listing.chains = [try Message.chain("filter", chain, hook: 1)]
        listing.rules = [
            try Message.rule(
                "filter", chain, 1, [Message.log(prefix, group: 5)] + (drops ? [Message.verdict(0)] : []))
        ]
        let isProbe = !drops && prefix.hasPrefix("ipt-trace:")
        #expect(NFTablesRemoval(listing, record: nil) { _ in true }.rules.count == (isProbe ? 1 : 0))
    }

    @Test("two listings compare equal where only counters, handles and probes differ")
    func comparable() throws {
        let before = try Self.listing()
        var after = before
        after.rules = [try Message.rule("filter", "INPUT", 44, [Message.verdict(1)])]
        after.chains.remove(at: 1)
        #expect(before.comparable(.ipv4, users: [Self.input]) == after.comparable(.ipv4, users: [Self.input]))
        after.rules[0] = try Message.rule("filter", "INPUT", 44, [Message.verdict(0)])
        #expect(before.comparable(.ipv4, users: [Self.input]) != after.comparable(.ipv4, users: [Self.input]))
    }
}

@Suite struct NFTablesInsertionTests {
    @Test("a copied probe has the new prefix, a counter at zero, and all else of its template")
    func copy() throws {
        let match = Message.expression("meta") { $0.attribute(1, big: UInt32(16)) }
        let template = match + Message.counter(77) + Message.log("ipt-trace:abc123:filter:INPUT", group: 5)
        let copied = try NFTablesInsertion.copy(template, prefix: "ipt-trace:abc123:filter:INPUT<WEB")
        #expect(copied == match + Message.counter(0) + Message.log("ipt-trace:abc123:filter:INPUT<WEB", group: 5))
    }

    @Test(
        "the protocol of a match is known by name and number",
        arguments: [
            ("-p tcp --dport 80", 6), ("--protocol UDP", 17), ("-p 132", 132), ("! -p tcp", 0), ("-s 10.0.0.1", 0),
            ("-p ipv6-icmp", 58), ("-p", 0), ("-p nonsense", 0),
        ])
    func transport(_ match: String, _ number: Int) {
        let options = ProbeOptions(match: match.split(separator: " ").map(String.init))
        #expect(Int(options.transport) == number)
    }
}

/// Base chains and flowtables that other programs have made.
@Suite struct OtherChainTests {
    struct Case: CustomTestStringConvertible, Sendable {
        var testDescription: String
        var family: UInt8
        var table = "t"
        var hook: UInt32?
        var device: String?
        var devices: [String] = []
        /// The hook that it is listed with; `nil` where it is not listed.
        var listed: String?
        var listedDevices: [String]?
    }

    @Test(
        "base chains of every family are listed with their hook and interfaces",
        arguments: [
            Case(testDescription: "of both IP families", family: 1, hook: 2, listed: "FORWARD"),
            Case(testDescription: "of IPv6", family: 10, hook: 0, listed: "PREROUTING"),
            Case(testDescription: "of iptables", family: 2, table: "filter", hook: 2),
            Case(testDescription: "no base chain", family: 2),
            Case(
                testDescription: "at an interface", family: 5, hook: 0, device: "br0", listed: "INGRESS", listedDevices: ["br0"]
            ),
            Case(
                testDescription: "at several interfaces", family: 5, hook: 0, device: "a", devices: ["a", "b"],
                listed: "INGRESS",
                listedDevices: ["a", "b"]),
            Case(
                testDescription: "behind POSTROUTING", family: 5, hook: 1, device: "a", listed: "EGRESS", listedDevices: ["a"]),
            Case(
                testDescription: "of inet at an interface", family: 1, hook: 5, device: "a", listed: "INGRESS",
                listedDevices: ["a"]),
            Case(testDescription: "of bridges", family: 7, hook: 2, listed: "BRIDGE-FORWARD"),
            Case(testDescription: "of ARP", family: 3, hook: 0),
        ])
    func chains(_ test: Case) throws {
        var listing = NFTablesListing()
        listing.chains = [
            try Message.chain(
                test.table, "c", hook: test.hook, family: test.family, device: test.device, devices: test.devices)
        ]
        let found = listing.otherChains
        #expect(found.map(\.hook.name) == (test.listed.map { [$0] } ?? []))
        #expect(found.first?.devices == test.listedDevices)
    }

    @Test("a flowtable is listed with its interfaces")
    func flowtables() throws {
        var listing = NFTablesListing()
        listing.flowtables = [try Message.flowtable("fw", "ft", family: 1, devices: ["lan0", "wan0"])]
        #expect(
            listing.offloads == [NamespaceFacts.Flowtable(family: nil, table: "fw", name: "ft", devices: ["lan0", "wan0"])])
    }
}
