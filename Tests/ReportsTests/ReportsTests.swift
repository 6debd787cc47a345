import Aggregation
import Foundation
import Reports
import Testing
import TraceModel

@Suite struct GoneNamespaceTests {
    @Test("namespaces that are gone are in no list and no series, and their paths stay")
    func forgotten() throws {
        var scene = Scene()
        scene.add(
            [scene.leg(0, ["filter/OUTPUT"], request)], .dropped, expected: [try #require(scene.probe(0, "security/OUTPUT"))])
        for number in 0..<200 {
            var gone = NamespaceLayout(name: "pid:\(number)", inode: UInt64(number + 100))
            gone.isGone = true
            scene.layout.namespaces.append(gone)
        }
        scene.layout.namespaces.append(NamespaceLayout(name: "pid:7", inode: 7))
        #expect(scene.snapshot.namespacesReport().namespaces.map(\.name) == ["guest", "host", "pid:7"])
        let series = scene.snapshot.metrics().split(separator: "\n").filter { $0.hasPrefix("ipt_trace_probes{") }
        #expect(series.count == 3 && series.count { $0.contains("pid:7") } == 1)
        #expect(scene.snapshot.precedenceReport().notes.count { $0.hasPrefix("pid:") } == 1)
        scene.layout.namespaces[0].isGone = true
        #expect(!scene.snapshot.metrics().contains("ipt_trace_drops_total{netns=\"guest\""))
        #expect(scene.snapshot.pathsReport().paths.first?.steps.first?.netns == "guest")
    }
}

@Suite struct PathsReportTests {
    @Test func journeysOfOneWayAreOnePathWithItsTranslation() throws {
        var scene = Scene()
        for _ in 0..<3 {
            scene.add(
                [
                    scene.leg(0, ["raw/OUTPUT", "mangle/POSTROUTING"], request),
                    scene.leg(1, ["raw/PREROUTING", "mangle/POSTROUTING", "nat/POSTROUTING"], request, translated),
                ], .sent)
        }
        let report = scene.snapshot.pathsReport()
        #expect(
            String(decoding: try report.json(), as: UTF8.self) == String(decoding: try ReportJSON.encode(report), as: UTF8.self)
        )
        let path = try #require(report.paths.first)
        #expect(report.paths.count == 1 && path.packets == 3 && path.bytes == 252)
        #expect(path.steps.map { "\($0.netns) \($0.table)/\($0.chain)" }.last == "host nat/POSTROUTING")
        #expect(path.translations.map(\.kind) == ["snat"])
        #expect(path.translations.map(\.from) == ["172.16.0.2"] && path.translations.map(\.to) == ["10.0.2.15"])
        // Behind the last of the five steps.
        #expect(path.translations.map(\.step) == [5])
    }

    @Test func theJSONHasTheFieldsThatOthersRelyOn() throws {
        var scene = Scene()
        scene.add(
            [scene.leg(1, ["raw/PREROUTING"], request)], .dropped,
            expected: [try #require(scene.probe(1, "mangle/PREROUTING"))])
        let report = scene.snapshot.pathsReport()
        #expect(
            String(decoding: try report.json(), as: UTF8.self) == String(decoding: try ReportJSON.encode(report), as: UTF8.self)
        )
        let text = String(decoding: try ReportJSON.encode(scene.snapshot.pathsReport()), as: UTF8.self)
        for field in [
            "\"schema\":1", "\"generated_at\":\"2026-11-21T08:09:12.499217Z\"", "\"completeness\":{", "\"outcome\":\"dropped\"",
            "\"dropped_between\":{\"after\":",
            "\"decided_by\":{\"evidence\":\"none\",", "\"suspects\":[\"raw/PREROUTING\",\"connection tracking\"]",
            "\"steps\":[{\"backend\":\"nft\",\"chain\":\"PREROUTING\",\"family\":\"ipv4\",\"hook\":\"PREROUTING\",\"in\":\"br0\"",
            "\"priority\":-300,\"table\":\"raw\",\"table_family\":\"ip\"}",
            "\"example\":{\"destination\":\"8.8.8.8\",\"destination_port\":53,\"journey\":\"0000000000000abc0000000000000001\"",
        ] {
            #expect(text.contains(field), "\(field) is not in \(text)")
        }
    }

    @Test func aPathHasTheSameIdInEveryRun() {
        func id(_ prepare: (inout Scene) -> Void) -> String? {
            var scene = Scene()
            prepare(&scene)
            scene.add([scene.leg(1, ["raw/PREROUTING"], request)], .dropped)
            return scene.snapshot.pathsReport().paths.last?.id
        }
        let plain = id { _ in }
        let behindOthers = id { $0.add([$0.leg(0, ["raw/OUTPUT"], request)], .sent) }
        #expect(plain != nil && plain == behindOthers)
    }

    @Test func filtersChoosePaths() throws {
        var scene = Scene()
        scene.add([scene.leg(0, ["raw/OUTPUT"], request)], .sent)
        scene.add([scene.leg(1, ["raw/PREROUTING"], tuple(1, 2, 3, 4))], .dropped)
        let snapshot = scene.snapshot
        func count(_ words: [(TraceFilter.Field, String)]) throws -> Int {
            var filter = TraceFilter()
            for (field, value) in words { try filter.add(field, value) }
            return snapshot.pathsReport(filter).paths.count
        }
        #expect(try count([]) == 2)
        #expect(try count([(.outcome, "dropped")]) == 1)
        #expect(try count([(.outcome, "dropped"), (.outcome, "sent")]) == 2)
        #expect(try count([(.netns, "guest")]) == 1)
        #expect(try count([(.port, "53")]) == 1)
        #expect(try count([(.address, "0.0.0.2")]) == 1)
        #expect(try count([(.address, "0.0.0.0/8")]) == 1)
        #expect(try count([(.address, "0.0.0.0/8"), (.address, "8.8.8.8")]) == 2)
        #expect(try count([(.proto, "tcp")]) == 0)
        #expect(try count([(.since, "1.5")]) == 1)
        #expect(try count([(.until, "1.5")]) == 1)
        #expect(try count([(.limit, "1")]) == 1)
    }

    @Test func theTextShowsEachStepAndWhereAPacketWasLost() throws {
        var scene = Scene()
        scene.add(
            [scene.leg(1, ["raw/PREROUTING", "filter/FORWARD"], request)], .dropped,
            expected: [try #require(scene.probe(1, "security/FORWARD"))])
        #expect(
            scene.snapshot.pathsReport().text() == """
                0 events, 0 journeys, nothing lost

                1. udp 172.16.0.2:1000 → 8.8.8.8:53  1 packet, 84 bytes  dropped
                    1  host  raw     PREROUTING  br0 → eth0
                    2  host  filter  FORWARD     br0 → eth0
                   dropped: behind filter/FORWARD in host, before security/FORWARD in host: lost in filter/FORWARD
                """)
    }

    @Test func namesCannotBreakOutOfMermaidOrMarkdown() {
        var scene = Scene()
        scene.layout.namespaces[1].name = "a\"]; click x \"javascript:1\" | <b>"
        scene.add([scene.leg(1, ["raw/PREROUTING"], request)], .sent)
        let report = scene.snapshot.pathsReport()
        #expect(
            "\(Diagram.mermaid(report.diagrams))".contains("[\"a#34;#93;#59; click x #34;javascript:1#34; #124; #60;b#62;\"]"))
        #expect("\(report.markdown)".contains("| a\"\\]; click x \"javascript:1\" &#124; &lt;b&gt; |"))
    }
}

@Suite struct FlowTests {
    @Test func aReplyIsTiedToItsOriginalAlthoughTranslationChangedTheAddresses() throws {
        var scene = Scene()
        let arriving = tuple(0x0808_0808, 0x0A00_020F, 53, 1000)
        let restored = tuple(0x0808_0808, 0xAC10_0002, 53, 1000)
        scene.add(
            [
                scene.leg(0, ["raw/OUTPUT"], request),
                scene.leg(1, ["raw/PREROUTING", "nat/POSTROUTING"], request, translated),
            ],
            .sent)
        scene.add(
            [
                scene.leg(1, ["raw/PREROUTING", "mangle/FORWARD"], arriving, restored),
                scene.leg(0, ["mangle/INPUT"], restored),
            ],
            .delivered)
        let flows = scene.snapshot.flowsReport().flows
        let flow = try #require(flows.first)
        #expect(flows.count == 1 && flow.directionKnown)
        #expect(flow.original.source == "172.16.0.2" && flow.original.outcomes == ["sent": 1])
        #expect(flow.reply?.destination == "10.0.2.15" && flow.reply?.outcomes == ["delivered": 1])
        #expect(scene.snapshot.pathsReport().paths.map(\.direction).sorted() == ["original", "reply"])
        #expect(Set(flow.translations.map(\.kind)) == ["snat", "snat_reply"])
    }

    @Test func theTableOfFlowsIsBounded() {
        var limits = TraceAggregate.Limits()
        limits.flows = 8
        var scene = Scene()
        scene.aggregate = TraceAggregate(limits: limits)
        for port in 0..<100 { scene.add([scene.leg(0, ["raw/OUTPUT"], tuple(1, 2, UInt16(port), 9))], .sent) }
        #expect(scene.snapshot.flowsReport(TraceFilter(limit: 1000)).flows.count == 8)
        #expect(scene.snapshot.flowsReport(TraceFilter(limit: 1000)).flows.compactMap(\.original.sourcePort).min() == 92)
    }
}

@Suite struct PrecedenceTests {
    @Test func packetsThatPassedDifferentChainsGiveOneOrder() throws {
        var scene = Scene()
        let first = ["raw/OUTPUT", "mangle/OUTPUT", "nat/OUTPUT", "filter/OUTPUT", "mangle/POSTROUTING", "nat/POSTROUTING"]
        scene.add([scene.leg(1, first, request)], .sent)
        scene.add([scene.leg(1, first.filter { !$0.hasPrefix("nat") }, request)], .sent)
        let report = scene.snapshot.precedenceReport()
        let role = try #require(report.roles.first)
        #expect(role.netns == "host" && role.role == "client")
        #expect(role.orders.map(\.direction) == ["out"] && role.orders.map(\.packets) == [2])
        #expect(role.orders.first?.chains == first)
        #expect(report.conflicts.isEmpty)
        #expect(report.notes.contains { $0.contains("the nat chains saw 1 of 2 packets") })
    }

    @Test func packetsThatDisagreeAreAConflict() throws {
        var scene = Scene()
        for _ in 0..<2 { scene.add([scene.leg(1, ["filter/INPUT", "nat/INPUT"], request)], .delivered) }
        scene.add([scene.leg(1, ["nat/INPUT", "filter/INPUT"], request)], .delivered)
        let report = scene.snapshot.precedenceReport()
        let conflict = try #require(report.conflicts.first)
        #expect(report.conflicts.count == 1)
        #expect(conflict.first == "filter/INPUT" && conflict.packets == 2 && conflict.packetsOtherwise == 1)
        #expect(report.roles.first?.orders.first?.chains == ["filter/INPUT", "nat/INPUT"])
    }

    @Test("chains that no packet passed both of are in orders of their own")
    func unseenOrders() throws {
        var scene = Scene()
        for places in [["raw/OUTPUT", "mangle/OUTPUT"], ["raw/OUTPUT", "mangle/OUTPUT"], ["raw/OUTPUT", "filter/OUTPUT"]] {
            scene.add([scene.leg(1, places, request)], .sent)
        }
        scene.add([scene.leg(1, ["security/OUTPUT"], request)], .sent)
        let role = try #require(scene.snapshot.precedenceReport().roles.first)
        let orders = Set(role.orders.map { "\($0.packets): \($0.chains.joined(separator: " "))" })
        #expect(orders == ["2: raw/OUTPUT mangle/OUTPUT", "1: raw/OUTPUT filter/OUTPUT", "1: security/OUTPUT"])
    }

    @Test func rolesFollowFromWhatPacketsDid() {
        var scene = Scene()
        scene.add(
            [scene.leg(0, ["raw/OUTPUT"], request), scene.leg(1, ["raw/PREROUTING", "mangle/FORWARD"], request)], .sent)
        #expect(scene.snapshot.precedenceReport().roles.map(\.role) == ["client", "router"])
        var other = Scene()
        other.add([other.leg(1, ["raw/PREROUTING", "mangle/INPUT"], request)], .delivered)
        #expect(other.snapshot.precedenceReport().roles.map(\.role) == ["server"])
    }

    @Test func aSilentNatIsExplained() {
        var scene = Scene()
        scene.add([scene.leg(0, ["raw/OUTPUT"], request)], .sent)
        #expect(scene.snapshot.precedenceReport().notes.contains { $0.hasPrefix("guest: the nat chains saw nothing: no rule") })
        #expect(scene.snapshot.precedenceReport().notes.contains("host: no packet has passed it"))
        for index in scene.layout.probes.indices where scene.layout.probes[index].namespace == 1 {
            scene.layout.isInForce[index] = false
        }
        #expect(scene.snapshot.precedenceReport().notes.contains { $0.hasPrefix("host: no rules in force there report") })
    }
}

@Suite struct MetricsTests {
    @Test func everySampleHasAFamilyAndHostileNamesStayWithinTheirLabel() throws {
        var scene = Scene()
        scene.layout.namespaces[1].name = "a\"b\\c\nd"
        scene.add([scene.leg(1, ["raw/PREROUTING"], request)], .dropped)
        let text = scene.snapshot.metrics()
        #expect(text.contains("ipt_trace_journeys_total{outcome=\"dropped\"} 1\n"))
        #expect(
            text.contains(
                "ipt_trace_drops_total{netns=\"a\\\"b\\\\c\\nd\",family=\"ipv4\",table=\"raw\",chain=\"PREROUTING\"} 1\n"))
        var families: Set<Substring> = []
        for line in text.split(separator: "\n") {
            let words = line.split(separator: " ")
            if line.hasPrefix("# TYPE ") {
                #expect(families.insert(words[2]).inserted, "\(words[2]) twice")
            } else if !line.hasPrefix("#") {
                let name = line.prefix { $0 != "{" && $0 != " " }
                #expect(families.contains(name), "\(name) has no family")
                #expect(Double(words[words.count - 1]) != nil, "\(line)")
            }
        }
        #expect(families.count > 10)
    }

    @Test("times through namespaces are cumulative buckets in seconds; a packet without two stamps is in none")
    func transitTimes() {
        var scene = Scene()
        var history = EventHistory()
        func event(_ probe: String, _ namespace: Int, at time: Int64, stamped: Bool, after previous: UInt64) -> UInt64 {
            history.append(
                Sighting(
                    time: time, probe: scene.probe(namespace, probe) ?? 0, inInterface: 1, outInterface: 0, mark: 0, order: 0,
                    timeToLive: 64, isStamped: stamped), request, after: previous)
        }
        for time in [3, 60, 2_000_000] as [Int64] {
            let first = event("raw/PREROUTING", 1, at: 1_000_000, stamped: true, after: EventHistory.none)
            let middle = event("filter/FORWARD", 1, at: 1_000_000 + time, stamped: true, after: first)
            let last = event("mangle/POSTROUTING", 1, at: 9_000_000, stamped: false, after: middle)
            var leg = scene.leg(1, ["raw/PREROUTING", "filter/FORWARD", "mangle/POSTROUTING"], request)
            leg.firstEvent = first
            leg.lastEvent = last
            scene.add([leg], .sent, history: history)
        }
        scene.add([scene.leg(1, ["raw/OUTPUT"], request)], .sent, history: history)
        let lines = scene.snapshot.metrics().split(separator: "\n").filter { $0.hasPrefix("ipt_trace_transit") }
        let name = "ipt_trace_transit_seconds"
        func value(_ bound: String) -> Substring? {
            lines.first { $0.hasPrefix("\(name)_bucket{netns=\"host\",until=\"forward\",le=\"\(bound)\"} ") }?.split(
                separator: " "
            ).last
        }
        #expect([value("5e-06"), value("0.0001"), value("1.0"), value("+Inf")] == ["1", "2", "2", "3"], "\(lines)")
        #expect(lines.contains("\(name)_count{netns=\"host\",until=\"forward\"} 3"))
        #expect(lines.contains("\(name)_sum{netns=\"host\",until=\"forward\"} 2.000063"))
        #expect(!lines.contains { $0.contains("next_namespace") || $0.contains("input") })
    }

    private func recording(problem: String? = nil) -> RecordingStatus {
        RecordingStatus(
            state: problem == nil ? "recording" : "suspended", states: ["recording", "suspended", "ended"], problem: problem,
            events: 7, bytes: 900, leftOut: [("no_space", problem == nil ? 0 : 3), ("limit", 0)])
    }

    @Test("a recording's metrics are all there from the start, and none where nothing is recorded")
    func recordingMetrics() {
        let text = Scene().snapshot.metrics(recording: recording())
        for line in [
            "ipt_trace_recorded_events_total 7", "ipt_trace_recorded_bytes_total 900",
            "ipt_trace_recording_left_out_total{reason=\"no_space\"} 0",
            "ipt_trace_recording_left_out_total{reason=\"limit\"} 0", "ipt_trace_recording_state{state=\"recording\"} 1",
            "ipt_trace_recording_state{state=\"suspended\"} 0", "ipt_trace_recording_state{state=\"ended\"} 0",
        ] {
            #expect(text.contains("\n\(line)\n"), "\(line)")
        }
        #expect(!Scene().snapshot.metrics().contains("ipt_trace_record"))
    }

    @Test("health is degraded with the reasons while a recording leaves events out, or something else is not done")
    func health() throws {
        func json(_ recording: RecordingStatus?, _ troubles: [String] = []) throws -> String {
            String(
                decoding: try ReportJSON.encode(HealthReport(recording: recording, troubles: troubles)), as: UTF8.self)
        }
        #expect(try json(nil) == #"{"status":"ok"}"#)
        #expect(try json(recording()) == #"{"status":"ok"}"#)
        #expect(try json(recording(problem: "disk full")) == #"{"reasons":["disk full"],"status":"degraded"}"#)
        #expect(
            try json(recording(problem: "disk full"), ["n7 is not followed"])
                == #"{"reasons":["disk full","n7 is not followed"],"status":"degraded"}"#)
    }

    @Test func theDashboardAsksOnlyForWhatIsServed() throws {
        let file = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
            .appendingPathComponent("../../dashboards/grafana.json")
        let dashboard = try String(contentsOf: file, encoding: .utf8)
        let served = Scene().snapshot.metrics()
        let wanted = Set(dashboard.matches(of: #/ipt_trace_[a-z_]+/#).map { String($0.output) })
        #expect(wanted.count > 8)
        // A histogram's buckets have a name of their own.
        for name in wanted { #expect(served.contains("# TYPE \(name.replacing("_bucket", with: "")) "), "\(name)") }
    }
}

@Suite struct TimestampTests {
    @Test(
        "times print as RFC 3339",
        arguments: [
            (0, "1970-01-01T00:00:00.000000Z"), (-1, "1969-12-31T23:59:59.999999Z"),
            (1_795_248_552_499_217, "2026-11-21T08:09:12.499217Z"), (951_782_400_000_000, "2000-02-29T00:00:00.000000Z"),
            (4_107_542_400_000_001, "2100-03-01T00:00:00.000001Z"),
        ] as [(Int64, String)])
    func text(_ microseconds: Int64, _ text: String) {
        #expect(Timestamp.text(microseconds) == text)
    }
}

@Suite struct DropLocatorTests {
    private static let tuple = PacketTuple(
        source: IPAddress(ipv4: 0xAC10_0002), destination: IPAddress(ipv4: 0x0808_0808), sourcePort: 1, destinationPort: 2,
        transport: 17)

    /// The ending of a packet that passed `places` of the host, whose tables `deciding` have rules.
    private func ending(
        _ places: [String], _ expected: [String], deciding: [String]? = nil, change: (inout NamespaceFacts) -> Void = { _ in },
        source: IPAddress? = nil
    ) throws -> PathReport.Ending {
        var scene = Scene()
        if let deciding {
            var facts = NamespaceFacts()
            change(&facts)
            scene.layout.namespaces[1].facts = facts
            for place in deciding {
                let parts = place.split(separator: "/")
                let table = try #require(Table(name: parts[0]))
                let hook = try #require(Hook(name: parts[1]))
                scene.layout.namespaces[1].decidingChains.insert(
                    BuiltInChain(family: .ipv4, table: table, hook: hook, backend: .nft))
            }
        }
        var tuple = Self.tuple
        if let source { tuple.source = source }
        let probes = expected.compactMap { scene.probe(1, $0) }
        scene.add([scene.leg(1, places, tuple)], .dropped, expected: probes)
        return try #require(scene.snapshot.pathsReport().paths.first?.droppedBetween)
    }

    @Test func betweenTwoTablesItIsTheFirst() throws {
        #expect(try ending(["filter/FORWARD"], ["security/FORWARD"]).suspects == ["filter/FORWARD"])
    }

    @Test("between raw and mangle connection tracking is a suspect where the namespace tracks connections, else not")
    func connectionTrackingBetweenRawAndMangle() throws {
        for tracks in [true, false] {
            var scene = Scene()
            scene.layout.namespaces[1].tracksConnections = tracks
            scene.layout.namespaces[1].facts = NamespaceFacts()
            scene.layout.namespaces[1].decidingChains = [
                BuiltInChain(family: .ipv4, table: .raw, hook: .prerouting, backend: .nft)
            ]
            let expected = try #require(scene.probe(1, "mangle/PREROUTING"))
            scene.add([scene.leg(1, ["raw/PREROUTING"], Self.tuple)], .dropped, expected: [expected])
            let found = try #require(scene.snapshot.pathsReport().paths.first?.droppedBetween)
            #expect(found.suspects == ["raw/PREROUTING"] + (tracks ? ["connection tracking"] : []))
        }
    }

    @Test("packets that were dropped are a finding where no fault explains them")
    func dropsWithoutFinding() throws {
        var scene = Scene()
        #expect("\(scene.snapshot.findingsReport().text())".contains("Nothing was found to be wrong."))
        let expected = try #require(scene.probe(1, "security/FORWARD"))
        scene.add([scene.leg(1, ["filter/FORWARD"], Self.tuple)], .dropped, expected: [expected])
        let report = scene.snapshot.findingsReport()
        let finding = try #require(report.findings.first)
        #expect(report.findings.count == 1 && finding.kind == "packets-dropped")
        #expect(finding.packets == 1 && finding.paths == scene.snapshot.pathsReport().paths.map(\.id))
        #expect(finding.decidedBy == nil && finding.cures.isEmpty && finding.firstSeen != nil)
        #expect(!"\(report.text())".contains("Nothing was found"))
    }

    @Test func whereNoTableHasRulesItIsRouting() throws {
        let found = try ending(["raw/PREROUTING", "mangle/PREROUTING"], ["mangle/INPUT", "mangle/FORWARD"], deciding: [])
        #expect(found.suspects == ["routing"] && found.causes == [])
    }

    @Test func aTableWithRulesBeforeRoutingMayHaveBeenIt() throws {
        let found = try ending(
            ["raw/PREROUTING", "mangle/PREROUTING"], ["mangle/INPUT", "mangle/FORWARD"], deciding: ["mangle/PREROUTING"])
        #expect(found.suspects == ["mangle/PREROUTING", "routing"])
    }

    @Test func anotherProgramsChainMayHaveBeenIt() throws {
        let found = try ending(["filter/FORWARD"], ["security/FORWARD"], deciding: []) {
            $0.otherChains = [
                NamespaceFacts.OtherChain(
                    family: nil, table: "firewalld", name: "filter_FORWARD", hook: .ip(.forward), priority: 10),
                NamespaceFacts.OtherChain(family: .ipv6, table: "six", name: "forward", hook: .ip(.forward), priority: 20),
                NamespaceFacts.OtherChain(family: nil, table: "late", name: "forward", hook: .ip(.forward), priority: 200),
            ]
        }
        #expect(found.suspects == ["firewalld/filter_FORWARD of nftables"])
    }

    @Test func whatRoutingDropsIsNamedAsFarAsItIsKnown() throws {
        let places = (["raw/PREROUTING", "mangle/PREROUTING"], ["mangle/INPUT", "mangle/FORWARD"])
        #expect(try ending(places.0, places.1, deciding: []) { $0.forwardsIPv4 = false }.causes == ["forwarding-disabled"])
        #expect(
            try ending(places.0, places.1, deciding: []) { $0.strictInterfaces = ["br0"] }.causes == ["reverse-path-filter"])
        let loopback = IPAddress(ipv4: 0x7F00_0001)
        #expect(
            try ending(places.0, places.1, deciding: [], change: { $0.forwardsIPv4 = false }, source: loopback).causes
                == ["martian-source"])
    }
}
