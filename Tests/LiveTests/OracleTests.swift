import Aggregation
import Foundation
import Lab
import LinuxSupport
import Reports
import Testing
import TraceModel

/// Every network of the gallery against what others say of the same packets: the kernel's own trace of the chains, the
/// connections that `conntrack` lists, and the counters of the probes' rules.
@Suite(.serialized, .enabled(if: Live.obstacle == nil, "\(Live.obstacle ?? "")"))
struct OracleTests {
    @Test func everyNetworkIsSeenAsTheKernelSeesIt() async throws {
        let entries = GalleryTests.entries
        try await withThrowingTaskGroup(of: Void.self) { group in
            for (index, entry) in entries.enumerated() {
                if index >= 3 { try await group.next() }
                group.addTask {
                    let network = try #require(Gallery.network(named: entry.network))
                    let variant = entry.variant.flatMap { network.variant(named: $0) }
                    try await Sandbox.with { sandbox in
                        do {
                            try await network.setUp(in: sandbox, variant: variant)
                        } catch let error as LabNetwork.Unmet {
                            print("skipped \(entry): \(error)")
                            return
                        }
                        try await Oracle(network: network.with(variant), name: "\(entry)", sandbox: sandbox).compare()
                    }
                }
            }
            try await group.waitForAll()
        }
    }
}

/// Rules and traffic by chance. `RANDOM_RULES=200` tries so many, `RANDOM_SEED=7` begins with that one.
@Suite(.serialized, .enabled(if: Live.obstacle == nil, "\(Live.obstacle ?? "")"))
struct RandomRulesTests {
    private static func number(_ name: String, _ usual: UInt64) -> UInt64 {
        ProcessInfo.processInfo.environment[name].flatMap { UInt64($0) } ?? usual
    }

    private static let traffic = [
        "ip netns exec guest ping -c 2 -i 0.2 -W 1 8.8.8.8", "ip netns exec guest ping -c 1 -W 1 172.16.0.1",
        "ip netns exec inet ping -c 1 -W 1 172.16.0.2", "ping -c 1 -W 1 172.16.0.2", "ping -c 1 -W 1 10.0.2.15",
        "ip netns exec guest ipt-trace lab connect 10.0.2.2 5001",
        "ip netns exec guest ipt-trace lab connect 10.0.2.2 5002 --udp",
        "ip netns exec inet ipt-trace lab connect 172.16.0.2 5001", "ip netns exec inet ipt-trace lab connect 10.0.2.15 5002",
        "ip netns exec inet ipt-trace lab connect 10.0.2.15 5001 --udp", "ipt-trace lab connect 10.0.2.2 5002",
        "ipt-trace lab connect 172.16.0.2 5001 --udp",
    ]

    @Test func rulesByChanceAreSeenAsTheKernelSeesThem() async throws {
        let first = Self.number("RANDOM_SEED", 1)
        let seeds = first..<first + Self.number("RANDOM_RULES", 4)
        var network = try #require(Gallery.network(named: "forwarding"))
        network.traced = ["host", "guest", "inet"]
        // Without them a packet that a hook's last table drops would count as sent.
        network.extraProbeOptions = ["--sentinels"]
        network.traffic = Self.traffic.map { Traffic($0) }
        network.servers = ["guest", "host", "inet"].flatMap { netns in
            [5001, 5002].map { port in
                (netns == "host" ? [] : ["ip", "netns", "exec", netns]) + ["ipt-trace", "lab", "serve", String(port)]
            }
        }
        let plan = network
        try await withThrowingTaskGroup(of: Void.self) { group in
            for seed in seeds {
                if seed >= first + 4 { try await group.next() }
                group.addTask {
                    try await Sandbox.with { sandbox in
                        try await plan.setUp(in: sandbox)
                        var rules = RandomRules(seed: seed)
                        for (netns, own) in [
                            ("guest", ["172.16.0.2"]), ("host", ["172.16.0.1", "10.0.2.15"]),
                            ("inet", ["10.0.2.2", "8.8.8.8"]),
                        ] {
                            let enter = netns == "host" ? [] : ["ip", "netns", "exec", netns]
                            try await sandbox.require(
                                enter + ["iptables-restore", "--noflush"], input: rules.text(own: own))
                        }
                        try await Oracle(network: plan, name: "seed \(seed)", sandbox: sandbox, isAtOnce: true).compare()
                    }
                }
            }
            try await group.waitForAll()
        }
    }
}

/// One network with everything that watches it.
struct Oracle {
    var network: LabNetwork
    var name: String
    var sandbox: Sandbox
    /// Everything is sent at once, and may fail.
    var isAtOnce = false

    /// Connections one after the other, as many as `nft monitor trace` keeps up with.
    private static let mostConnections = 6

    func compare() async throws {
        let places = network.traced.flatMap { ["--netns", $0] }
        try await sandbox.require([Live.program, "install-probes"] + network.probeOptions + places)
        var traces: [String: SandboxProcess] = [:]
        var connections: [String: SandboxProcess] = [:]
        for netns in network.traced {
            let enter = netns == "host" ? [] : ["ip", "netns", "exec", netns]
            try await sandbox.require(enter + ["nft", "-f", "-"], input: KernelTrace.marking)
            traces[netns] = try SandboxProcess(enter + ["stdbuf", "-oL", "nft", "-nn", "monitor", "trace"], in: sandbox)
            connections[netns] = try SandboxProcess(enter + ["stdbuf", "-oL", "conntrack", "-E", "-e", "NEW"], in: sandbox)
        }
        let beforehand = try await counted()
        let collector = try SandboxProcess([Live.program, "collect"] + places, in: sandbox)
        try await wait { collector.output.contains("serving http") }
        let atStart = try await counted()
        var servers: [SandboxProcess] = []
        for command in network.servers {
            let server = try SandboxProcess(command.map { $0 == "ipt-trace" ? Live.program : $0 }, in: sandbox)
            servers.append(server)
            try await wait { server.output.contains("serving") }
        }
        if isAtOnce { try await sendAtOnce() }
        for item in network.traffic where !isAtOnce {
            var command = item.command.map { $0 == "ipt-trace" ? Live.program : $0 }
            if let index = command.firstIndex(of: "--count") { command[index + 1] = String(Self.mostConnections) }
            #expect(try await sandbox.run(command).isSuccess == item.succeeds, "\(name): \(item.command)")
        }
        if isAtOnce {
            // Else they would answer on and on what finds no way back.
            for process in servers { await process.stop() }
        }
        try await Task.sleep(for: .milliseconds(500))
        // Later packets are in neither, packets meanwhile may be.
        let end = Date.now
        for netns in network.traced {
            try await sandbox.require(
                (netns == "host" ? [] : ["ip", "netns", "exec", netns]) + ["nft", "delete", "table", "inet", "oracle"])
        }
        let afterwards = Date.now
        try await Task.sleep(for: .milliseconds(800))
        var journeys = try await sandbox.get(JourneysReport.self, "/journeys?limit=5000")
        let formatter = ISO8601DateFormatter()
        formatter.formatOptions = [.withInternetDateTime, .withFractionalSeconds]
        journeys.journeys.removeAll { $0.firstSeen > formatter.string(from: afterwards) }
        let late = Set(journeys.journeys.filter { $0.firstSeen > formatter.string(from: end) }.map(\.id))
        let paths = try await sandbox.get(PathsReport.self, "/paths?limit=5000")
        if !isAtOnce { for process in servers { await process.stop() } }
        // Their last messages are on their way.
        try await Task.sleep(for: .milliseconds(100))
        let atEnd = try await counted()
        await collector.stop()
        let afterwardsCounted = try await counted()
        for process in traces.values { await process.stop(signal: 9) }
        for process in connections.values { await process.stop(signal: 9) }

        if let directory = ProcessInfo.processInfo.environment["ORACLE_KEEP"] {
            for (netns, process) in traces {
                try process.output.write(toFile: "\(directory)/\(name).\(netns).trace", atomically: true, encoding: .utf8)
            }
            for (netns, process) in connections {
                try process.output.write(toFile: "\(directory)/\(name).\(netns).conntrack", atomically: true, encoding: .utf8)
            }
            try ReportJSON.encode(journeys, isPretty: true).write(
                to: URL(fileURLWithPath: "\(directory)/\(name).journeys.json"))
        }
        #expect(paths.completeness.lost == 0, "\(name)")
        for netns in network.traced {
            let trace = KernelTrace(traces[netns]?.output ?? "")
            chains(of: netns, journeys.journeys, late: late, unwanted: journeys.completeness.unwanted ?? 0, trace)
            drops(in: netns, journeys.journeys, late: late, trace)
            translations(of: netns, paths.paths, connections[netns]?.output ?? "")
        }
        try counters(atEnd - atStart...afterwardsCounted - beforehand, collector.output)
    }

    private func sendAtOnce() async throws {
        try await withThrowingTaskGroup(of: Void.self) { group in
            for item in network.traffic {
                let command = item.command.map { $0 == "ipt-trace" ? Live.program : $0 }
                group.addTask { _ = try await sandbox.run(command) }
            }
            try await group.waitForAll()
        }
    }

    private func wait(until isDone: () -> Bool) async throws {
        for _ in 0..<500 where !isDone() { try await Task.sleep(for: .milliseconds(20)) }
        try #require(isDone(), "\(name)")
    }

    // MARK: Chains

    private struct Branch: Hashable {
        var serial: String
        var visits: [KernelTrace.Visit]
    }

    /// Each run of the kernel's trace has to be a part of one journey, and nothing of the journeys may be left over.
    ///
    /// - Parameters:
    ///   - late: journeys that the trace may not have.
    ///   - unwanted: copies of multicast packets that are in no journey, in all namespaces.
    private func chains(
        of netns: String, _ journeys: [JourneyReport], late: Set<String>, unwanted: UInt64, _ trace: KernelTrace
    ) {
        var copies: UInt64 = 0
        var branches: Set<Branch> = []
        var visits: [[KernelTrace.Visit]] = []
        var optional: [KernelTrace.Visit] = []
        for journey in journeys {
            let own = journey.steps.filter { $0.netns == netns && $0.isBuiltIn }.map { KernelTrace.Visit($0, of: journey) }
            // The journeys of one multicast packet share their beginning.
            guard branches.insert(Branch(serial: String(journey.id.suffix(14)), visits: own)).inserted else { continue }
            visits.append(own.filter { !$0.isBackground })
            if late.contains(journey.id) { optional += own }
        }
        // The longest first, so that a short one does not take a part of what belongs together.
        for run in trace.runs.sorted(by: { $0.count > $1.count }) {
            let found = visits.indices.lazy.compactMap { index in visits[index].firstRange(matching: run).map { (index, $0) } }
                .first
            guard let (index, range) = found else {
                // Nobody in the namespace had asked for it: it is counted, and in no journey.
                if run.allSatisfy({ $0.chain == "PREROUTING" && IPAddress($0.destination)?.isMulticast == true }) {
                    copies += 1
                    continue
                }
                Issue.record("\(name): the kernel's trace of \(netns) has \(run), and no journey has")
                continue
            }
            // The parts before and behind stay apart.
            visits.append(Array(visits[index][range.upperBound...]))
            visits[index].removeSubrange(range.lowerBound...)
        }
        #expect(copies <= unwanted, "\(name): \(copies) copies ended in \(netns) and \(unwanted) are counted")
        let unseen = visits.filter { !$0.allSatisfy(optional.contains) }
        #expect(unseen.isEmpty, "\(name): in \(netns) the kernel's trace does not have \(unseen)")
    }

    /// Packets that a rule dropped are reported as dropped there, and the other way round.
    private func drops(in netns: String, _ journeys: [JourneyReport], late: Set<String>, _ trace: KernelTrace) {
        var seen: [KernelTrace.Visit: Int] = [:]
        var certain: [KernelTrace.Visit: Int] = [:]
        for journey in journeys where journey.outcome == "dropped" && journey.droppedBetween?.after.netns == netns {
            guard let last = journey.steps.last(where: \.isBuiltIn) else { continue }
            let visit = KernelTrace.Visit(last, of: journey)
            seen[visit, default: 0] += 1
            if journey.droppedBetween?.suspects == ["\(last.table)/\(last.chain)"], last.table != "nat",
                !late.contains(journey.id)
            {
                certain[visit, default: 0] += 1
            }
        }
        let dropped = Dictionary(grouping: trace.drops) { $0 }.mapValues(\.count)
        for (visit, count) in dropped {
            #expect(seen[visit] ?? 0 >= count, "\(name): in \(netns) the kernel dropped \(count) at \(visit)")
        }
        for (visit, count) in certain {
            #expect(dropped[visit] ?? 0 >= count, "\(name): in \(netns) the kernel did not drop \(count) at \(visit)")
        }
    }

    // MARK: Translations

    private struct Translation: Hashable {
        var kind: String
        var from: String
        var to: String
    }

    /// Translations of connection tracking and those observed have to be equal.
    private func translations(of netns: String, _ paths: [PathReport], _ events: String) {
        let tracked = Set(events.split(separator: "\n").flatMap { Self.translations(inEvent: String($0)) })
        var seen: Set<Translation> = []
        var possible: Set<Translation> = []
        for path in paths {
            for translation in path.translations where translation.netns == netns {
                let isReply = translation.kind.hasSuffix("_reply")
                // A reply goes the other way.
                let kind = String(translation.kind.prefix(4))
                let record = Translation(
                    kind: kind, from: isReply ? translation.to : translation.from,
                    to: isReply ? translation.from : translation.to)
                possible.insert(record)
                // A connection whose first packet is dropped is never confirmed, and so never reported.
                if path.outcome != "dropped" { seen.insert(record) }
            }
        }
        #expect(tracked.isSubset(of: possible), "\(name): conntrack in \(netns): \(tracked.subtracting(possible))")
        #expect(seen.isSubset(of: tracked), "\(name): not in conntrack in \(netns): \(seen.subtracting(tracked))")
    }

    /// `[NEW] tcp 6 120 SYN_SENT src=… dst=… sport=… dport=… [UNREPLIED] src=… dst=… sport=… dport=…`.
    private static func translations(inEvent line: String) -> [Translation] {
        func values(_ name: String) -> [String] {
            line.split(separator: " ").filter { $0.hasPrefix("\(name)=") }.map { String($0.dropFirst(name.count + 1)) }
        }
        let sources = values("src")
        let destinations = values("dst")
        guard sources.count == 2, destinations.count == 2, !values("dport").contains("9100") else { return [] }
        let ports = (source: values("sport"), destination: values("dport"))
        var found: [Translation] = []
        let isPortOnly = ports.destination.count == 2 && ports.destination[0] != ports.source[1]
        if sources[1] != destinations[0] || isPortOnly {
            found.append(Translation(kind: "dnat", from: destinations[0], to: sources[1]))
        }
        let isSourcePortOnly = ports.source.count == 2 && ports.source[0] != ports.destination[1]
        if destinations[1] != sources[0] || isSourcePortOnly {
            found.append(Translation(kind: "snat", from: sources[0], to: destinations[1]))
        }
        return found
    }

    // MARK: Counters

    /// The collector's events lie between the counts of the probes' rules while it certainly listened, and while it
    /// may have; mostly the two are the same.
    private func counters(_ counted: ClosedRange<UInt64>, _ output: String) throws {
        let summary = try #require(output.split(separator: "\n").last { $0.contains(" events, ") })
        let received = try #require(UInt64(summary.prefix { $0.isNumber }))
        #expect(counted.contains(received), "\(name): \(counted) counted, \(summary)")
    }

    private func counted() async throws -> UInt64 {
        struct Listing: Decodable {
            struct Probe: Decodable { var packets: UInt64 }
            var probes: [Probe]
        }
        let listed = try await sandbox.require([Live.program, "probes", "--json"]).standardOutput
        return try JSONDecoder().decode(Listing.self, from: Data(listed.utf8)).probes.reduce(0) { $0 + $1.packets }
    }
}

extension JourneyReport.Step {
    /// Built-in chains of iptables, the base chains of the kernel's trace.
    fileprivate var isBuiltIn: Bool { chain == hook && backFrom == nil }
}

extension KernelTrace.Visit {
    fileprivate init(_ step: JourneyReport.Step, of journey: JourneyReport) {
        // Reports of group members come behind a header of options, which nft does not look through.
        let isReport = journey.protocol == "icmpv6" && [130, 131, 132, 143].contains(journey.icmpType)
        let known = ["tcp", "udp", "icmp", "icmpv6"].contains(journey.protocol) && !isReport
        let hasPorts = journey.protocol == "tcp" || journey.protocol == "udp"
        self.init(
            table: step.table, chain: step.chain, source: step.source ?? "", destination: step.destination ?? "",
            transport: known ? journey.protocol : "other", sourcePort: hasPorts ? step.sourcePort : nil,
            destinationPort: hasPorts ? step.destinationPort : nil, icmpType: isReport ? nil : journey.icmpType,
            icmpSequence: [0, 8, 128, 129].contains(journey.icmpType) ? journey.icmpSequence : nil)
    }
}

extension [KernelTrace.Visit] {
    fileprivate func firstRange(matching run: [KernelTrace.Visit]) -> Range<Int>? {
        guard count >= run.count else { return nil }
        return (0...(count - run.count)).first { start in zip(run, self[start...]).allSatisfy { $0.matches($1) } }.map {
            $0..<$0 + run.count
        }
    }
}
