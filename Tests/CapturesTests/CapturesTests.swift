import Captures
import Foundation
import Testing
import TraceModel
import WireFormat

let layout: Layout = {
    var layout = Layout(
        namespaces: [
            NamespaceLayout(
                name: "host", inode: 7, interfaces: [2: Interface(name: "eth0", linkDomain: 3, mtu: 1500)],
                tracksConnections: true,
                decidingChains: [BuiltInChain(family: .ipv6, table: .filter, hook: .input, backend: .legacy)]),
            NamespaceLayout(name: "guest", inode: 8, channel: .kernelLog),
        ], openLinkDomains: [3])
    layout.probes = [
        Probe(
            namespace: 0, family: .ipv4, table: .raw, chain: "PREROUTING", hook: .prerouting, backend: .nft, prefix: "a",
            coverage: .every(Condition(text: "-p tcp", dependence: .source), until: 99)),
        Probe(
            namespace: 1, family: .ipv6, table: .filter, chain: "X", hook: .input, backend: .legacy, prefix: "b",
            coverage: .some),
        Probe(
            namespace: 1, family: .ipv4, table: .nat, chain: "OUTPUT", hook: .output, backend: .nft, prefix: "c",
            coverage: .everyRule),
    ]
    layout.isInForce = [true, true, true]
    layout.namespaces[1].unread = "too many open files"
    layout.unfollowedLinkDomains = [3]
    layout.leftOut = [LeftOutNamespace(name: "other", inode: 9, reason: "too few file descriptors")]
    return layout
}()

let tuple = PacketTuple(
    source: IPAddress(ipv4: 0xAC10_0002), destination: IPAddress(ipv4: 0x0808_0808), sourcePort: 1000, destinationPort: 53,
    transport: 17)
let tuple6 = PacketTuple(
    source: IPAddress(ipv6High: 1, low: 2), destination: IPAddress(ipv6High: 3, low: 4), sourcePort: 5, destinationPort: 6,
    transport: 6)

/// One NFLOG message of `count` bytes within a netlink frame.
private func message(_ number: UInt8, count: Int = 40) -> [UInt8] {
    let length = UInt32(16 + count)
    let header =
        (0..<4).map { UInt8(truncatingIfNeeded: length >> (8 * UInt32($0))) } + [0, 4] + [UInt8](repeating: 0, count: 10)
    return header + [2, 0, 0, 5] + [UInt8](repeating: number, count: count - 4)
}

func datagram(_ numbers: [UInt8], time: Int64, tags: [UInt64], namespace: Int = 0, count: Int = 40) -> RecordItem {
    let bytes = numbers.flatMap { message($0, count: count) }
    return .events(RecordedDatagram(bytes.octets, namespace: namespace, time: time, tags: tags))
}

/// A recorder in a folder of its own.
private func recording(
    _ limits: RecordingLimits = RecordingLimits(), _ body: (Recorder) -> Void
) throws -> (files: [String: [UInt8]], counters: Recorder.Counters, problem: String?) {
    let folder = "\(NSTemporaryDirectory())ipt-trace-test-\(UUID().uuidString)"
    try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(atPath: folder) }
    let recorder = try Recorder(path: "\(folder)/trace.pcapng", limits: limits, run: 9)
    try recorder.begin()
    body(recorder)
    recorder.close()
    var files: [String: [UInt8]] = [:]
    for name in try FileManager.default.contentsOfDirectory(atPath: folder) {
        files[name] = FileManager.default.contents(atPath: "\(folder)/\(name)").map { Array($0) } ?? []
    }
    return (files, recorder.status.counters, recorder.status.problem)
}

/// The numbers of a capture's packets, its own blocks, and whether it is whole.
func read(_ bytes: [UInt8]) -> (numbers: [UInt8], blocks: [TraceBlock], names: [String?], isWhole: Bool) {
    guard var decoder = CaptureDecoder(beginning: bytes.octets) else { return ([], [], [], false) }
    var offset = 0
    var numbers: [UInt8] = []
    var blocks: [TraceBlock] = []
    var isWhole = true
    while let item = decoder.next(in: bytes.octets, at: &offset, isLast: true) {
        switch item {
        case .packet(let packet): numbers.append(bytes[packet.data.lowerBound + 4])
        case .trace(let body): if let block = TraceBlock(bytes.octets, body) { blocks.append(block) }
        case .damage: isWhole = false
        case .other, .loss: break
        }
    }
    return (numbers, blocks, decoder.interfaces.map(\.name), isWhole)
}

private func occurrences(of text: String, in bytes: [UInt8]) -> Int {
    String(decoding: bytes, as: Unicode.ASCII.self).components(separatedBy: text).count - 1
}

@Suite struct RecorderTests {
    @Test func messagesAreWrittenWithTheirPathOnceItIsKnown() throws {
        let found = try recording { recorder in
            recorder.take([
                .layout(layout, ownPort: OwnPort(namespaces: [0], port: 9100)),
                datagram([1, 2], time: 1_000_000, tags: [10, 11]), datagram([3], time: 1_000_001, tags: [10], namespace: 1),
            ])
            recorder.take([.ended(leg: 10, path: 0xABC), .ended(leg: 11, path: 0)])
        }
        #expect(found.counters.written == 3 && found.counters.dropped == 0 && found.counters.withoutPath == 0)
        let bytes = try #require(found.files["trace.pcapng"])
        let capture = read(bytes)
        #expect(capture.numbers == [1, 2, 3] && capture.isWhole)
        #expect(capture.names == ["host", "guest"])
        // Path 0 stands for none.
        #expect(occurrences(of: "path 0000000000000abc", in: bytes) == 2 && occurrences(of: "path ", in: bytes) == 2)
    }

    @Test func whatWasNeverResolvedIsWrittenWithoutComment() throws {
        let found = try recording { recorder in
            recorder.take([.layout(layout, ownPort: nil), datagram([1, 2], time: 5, tags: [1, UInt64.max])])
        }
        #expect(found.counters.written == 2 && found.counters.withoutPath == 1)
        #expect(read(try #require(found.files["trace.pcapng"])).numbers == [1, 2])
    }

    @Test func packetsWaitForTheirPathsAndKeepTheirOrder() throws {
        let found = try recording { recorder in
            recorder.take([.layout(layout, ownPort: nil)])
            for number in 0..<100 { recorder.take([datagram([UInt8(number)], time: Int64(number), tags: [UInt64(number)])]) }
            for number in (0..<100).reversed() { recorder.take([.ended(leg: UInt64(number), path: UInt64(number + 1))]) }
        }
        #expect(found.counters.written == 100 && found.counters.withoutPath == 0)
        #expect(read(try #require(found.files["trace.pcapng"])).numbers == Array(0..<100))
    }

    @Test func filesAreRotatedBySizeAndTheOldestGo() throws {
        let limits = RecordingLimits(fileSize: 4096, total: 12_000)
        let found = try recording(limits) { recorder in
            recorder.take([.layout(layout, ownPort: nil)])
            for number in 0..<200 {
                recorder.take([
                    datagram([UInt8(number)], time: Int64(number), tags: [UInt64.max], count: 200)
                ])
            }
        }
        #expect(found.counters.written == 200 && found.problem == nil)
        let names = found.files.keys.sorted()
        #expect(names.count > 1 && !names.contains("trace-00001.pcapng"))
        #expect(found.files.values.reduce(0) { $0 + $1.count } <= 12_000)
        // Each file can be read alone, and together they end with the last packets.
        let numbers = names.flatMap { read(found.files[$0] ?? []).numbers }
        #expect(numbers == Array(UInt8(200 - numbers.count)..<200))
        for name in names {
            let capture = read(found.files[name] ?? [])
            #expect(capture.isWhole && capture.names == ["host"] && capture.blocks.count >= 1)
        }
    }

    @Test func filesAreRotatedByTime() throws {
        let found = try recording(RecordingLimits(fileSeconds: 10)) { recorder in
            recorder.take([.layout(layout, ownPort: nil)])
            for number in 0..<30 {
                recorder.take([datagram([UInt8(number)], time: Int64(number) * 1_000_000, tags: [UInt64.max])])
            }
        }
        #expect(found.files.keys.sorted() == ["trace-00001.pcapng", "trace-00002.pcapng", "trace-00003.pcapng"])
        #expect(read(found.files["trace-00002.pcapng"] ?? []).numbers == Array(10..<20))
    }

    @Test func theLimitEndsARecordingThatIsOneFileAndSaysSo() throws {
        let found = try recording(RecordingLimits(total: 4096)) { recorder in
            recorder.take([.layout(layout, ownPort: nil)])
            for number in 0..<200 { recorder.take([datagram([UInt8(number)], time: 1, tags: [UInt64.max], count: 200)]) }
        }
        #expect(found.counters.written > 0 && found.counters.written + found.counters.dropped == 200)
        #expect(found.problem?.contains("limit") == true)
        #expect(found.files["trace.pcapng"].map(\.count) ?? .max <= 4096)
        #expect(read(found.files["trace.pcapng"] ?? []).isWhole)
    }

    @Test func aFullQueueNeverBlocksAndIsCounted() throws {
        let found = try recording { recorder in
            // More than the queue takes, in one call.
            recorder.take((0..<40).map { datagram([UInt8($0)], time: 1, tags: [UInt64.max], count: 1 << 20) })
        }
        #expect(found.counters.dropped > 0 && found.counters.written + found.counters.dropped == 40)
    }

    @Test func aDeviceThatTakesNothingEndsItWithItsReason() throws {
        let recorder = try Recorder(path: "/dev/full", limits: RecordingLimits(), run: 1)
        try recorder.begin()
        recorder.take([.layout(layout, ownPort: nil), datagram([1], time: 1, tags: [UInt64.max])])
        recorder.close()
        #expect(recorder.status.problem?.contains("no space left") == true)
        #expect(recorder.status.state == .ended && recorder.status.counters.drops[.noSpace] == 1)
        #expect(throws: CaptureError.self) { try Recorder(path: "/nonexistent/x.pcapng", limits: RecordingLimits(), run: 1) }
    }

    @Test func whatTheCorrelatorWasToldIsThereToo() throws {
        let accepting = AcceptingRule(
            text: "-A FORWARD -p udp -m mark --mark 0x1 -j ACCEPT",
            match: RuleMatch(
                conditions: [RuleMatch.Condition(subject: .transport, values: ["udp"], isNegated: false)], isPartial: true),
            others: ["--mark 0x1"])
        let drop = RuleDrop(
            packet: Packet(
                tuple: tuple6, fingerprint: Fingerprint(header: 1, payload: 2), length: 60, timeToLive: 64, tcpFlags: .syn),
            time: 1_700_000_000_123_457,
            decision: RuleDecision(
                .rule, at: RulePlace(tableFamily: "ip6", table: "filter", chain: "FORWARD", number: 3, backend: .legacy),
                text: "-A FORWARD -j DROP", position: 2, accepting: [accepting]))
        let lookup = RouteLookup(namespace: 3, tuple: tuple6, inInterface: 4, mark: 7)
        let decision = RoutingDecision(
            route: Route(
                prefix: "fd00::/64", type: "unicast", nextHops: [Route.NextHop(gateway: nil, device: "a \"b\"")], table: "100",
                metric: 1024), preferredSource: "fd00::1", rule: "900: from all lookup 100", passedOver: [])
        let place = RulePlace(tableFamily: "ip6", table: "filter", chain: "FORWARD", handle: 7)
        let walk = RuleWalk(
            namespace: 2, tableFamily: "ip6", table: "filter", chain: "FORWARD",
            rules: [MetRule(place, .jump), MetRule(place, .drop)])
        let rule = RecordedRule(place: place, text: "-A FORWARD -j \"x\"", position: 2, isProbe: false)
        let notes: [RecordedNote] = [
            .connection(namespace: 1, original: tuple, reply: tuple6, isNew: true),
            .connection(namespace: 300, original: tuple6, reply: tuple, isNew: false), .loss(namespace: 2),
            .complete(1_700_000_000_123_456), .drop(namespace: 2, try #require(RecordedTrace(drop, isDescribed: false))),
            .kernelDrop(
                KernelDrop(
                    time: 1_700_000_000_123_458, family: .ipv6,
                    decision: KernelDecision(reason: "IP_INNOROUTES", function: "ip6_pkt_prohibit", route: .prohibit),
                    endpoints: KernelDrop.Endpoints(source: tuple6.source, destination: tuple6.destination, destinationPort: 80)
                )),
            .kernelDrop(
                KernelDrop(
                    time: 1_700_000_000_123_459, family: .ipv4, decision: KernelDecision(reason: "IP_RPFILTER", function: ""))),
            .kernelDropsMissing(1_700_000_000_123_460),
            .route(
                namespace: 3,
                try #require(
                    RecordedRoute(decision, of: lookup, since: 1_700_000_000_000_000, asked: 1_700_000_000_123_461))),
            .routesChanged(namespace: 3, after: 1_700_000_000_123_462),
            .walk(namespace: 2, try #require(RecordedTrace(walk, of: drop.packet, time: 1_700_000_000_123_463))),
            .rule(namespace: 2, json: try #require(rule.json)),
            .counters(namespace: 3, json: Array(#"{"ipv4":{"noRoutes":3}}"#.utf8)),
        ]
        let restoredWalk = try #require(RecordedTrace(walk, of: drop.packet, time: 1))
        #expect(try restoredWalk.walk(namespace: 2) == walk && restoredWalk.packet.tuple == drop.packet.tuple)
        #expect(try RecordedRule(json: try #require(rule.json)) == rule)
        let route = try #require(RecordedRoute(decision, of: lookup, since: 1, asked: 2)).restored(namespace: 3)
        #expect(route.lookup == lookup && route.decision == decision)
        let restored = try #require(RecordedTrace(drop, isDescribed: false)).drop()
        #expect(restored.decision == drop.decision && restored.decision.accepting == drop.decision.accepting)
        #expect(restored.packet.tuple == drop.packet.tuple && restored.packet.tcpFlags == .syn && restored.packet.length == 60)
        let found = try recording { recorder in
            recorder.take([.layout(layout, ownPort: OwnPort(namespaces: [0], port: 9100))] + notes.map { .note($0) })
        }
        let blocks = read(try #require(found.files["trace.pcapng"])).blocks
        var read: [RecordedNote] = []
        var layouts: [RecordedLayout] = []
        for block in blocks {
            switch block {
            case .note(let note): read.append(note)
            case .layout(let json): layouts.append(try RecordedLayout(json: json))
            }
        }
        #expect(read.dropLast() == [.begin(part: 1, time: 0, gap: nil)] + notes)
        guard case .end(.closed, time: 1_700_000_000_123_456, leftOut: 0) = read.last else {
            Issue.record("the last note is \(String(describing: read.last))")
            return
        }
        let last = try #require(layouts.last)
        #expect(last.layout.isSame(as: layout) && last.run == 9 && last.ownPort?.port == 9100)
    }

    @Test("a name with control characters comes back from a recording unchanged")
    func hostileName() throws {
        var hostile = layout
        hostile.namespaces[0].name = "a\u{1B}[31mb\n"
        let json = try RecordedLayout(hostile, run: 1, machine: MachineIdentity(), ownPort: nil).json()
        #expect(try RecordedLayout(json: json).layout.namespaces[0].name == "a\u{1B}[31mb\n")
    }
}
