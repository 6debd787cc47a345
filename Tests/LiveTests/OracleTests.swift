import Foundation
import Lab
import Namespaces
import Reports
import Testing

/// Every network of the gallery against what others say of the same packets: the kernel's own trace of the chains, the
/// connections that `conntrack` lists, and the counters of the probes' rules.
@Suite(.serialized, .enabled(if: Live.obstacle == nil, "\(Live.obstacle ?? "")"))
struct OracleTests {
    @Test func everyNetworkIsSeenAsTheKernelSeesIt() async throws {
        let entries = GalleryTests.entries
        try await withThrowingTaskGroup(of: Void.self) { group in
            for (index, entry) in entries.enumerated() {
                if index >= 4 { try await group.next() }
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

/// One network with everything that watches it.
struct Oracle {
    var network: LabNetwork
    var name: String
    var sandbox: Sandbox

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
        let collector = try SandboxProcess([Live.program, "collect"] + places, in: sandbox)
        try await wait { collector.output.contains("serving http") }
        var servers: [SandboxProcess] = []
        for command in network.servers {
            let server = try SandboxProcess(command.map { $0 == "ipt-trace" ? Live.program : $0 }, in: sandbox)
            servers.append(server)
            try await wait { server.output.contains("serving") }
        }
        for item in network.traffic {
            var command = item.command.map { $0 == "ipt-trace" ? Live.program : $0 }
            if let index = command.firstIndex(of: "--count") { command[index + 1] = String(Self.mostConnections) }
            #expect(try await sandbox.run(command).isSuccess == item.succeeds, "\(name): \(item.command)")
        }
        try await Task.sleep(for: .milliseconds(900))
        // Before anything else is asked for, so that only the traffic is in it.
        let journeys = try await sandbox.get(JourneysReport.self, "/journeys?limit=5000")
        let paths = try await sandbox.get(PathsReport.self, "/paths?limit=5000")
        for process in servers { await process.stop() }
        // What they sent at their end is on its way.
        try await Task.sleep(for: .milliseconds(100))
        await collector.stop()
        for process in traces.values { await process.stop(signal: 9) }
        for process in connections.values { await process.stop(signal: 9) }

        #expect(paths.completeness.lost == 0, "\(name)")
        var background = 0
        for netns in network.traced {
            let trace = KernelTrace(traces[netns]?.output ?? "")
            background += trace.background
            chains(of: netns, journeys.journeys, trace)
            translations(of: netns, paths.paths, connections[netns]?.output ?? "")
        }
        try await counters(collector.output, background: background)
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
    private func chains(of netns: String, _ journeys: [JourneyReport], _ trace: KernelTrace) {
        var branches: Set<Branch> = []
        var visits: [[KernelTrace.Visit]] = []
        for journey in journeys {
            let own = journey.steps.filter { $0.netns == netns && $0.isBuiltIn }.map { KernelTrace.Visit($0, of: journey) }
            // The journeys of one multicast packet share their beginning.
            guard branches.insert(Branch(serial: String(journey.id.suffix(14)), visits: own)).inserted else { continue }
            visits.append(own.filter { !$0.isBackground })
        }
        // The longest first, so that a short one does not take a part of what belongs together.
        for run in trace.runs.sorted(by: { $0.count > $1.count }) {
            let found = visits.indices.lazy.compactMap { index in visits[index].firstRange(matching: run).map { (index, $0) } }
                .first
            guard let (index, range) = found else {
                Issue.record("\(name): the kernel's trace of \(netns) has \(run), and no journey has")
                continue
            }
            // What is before and behind stays apart.
            visits.append(Array(visits[index][range.upperBound...]))
            visits[index].removeSubrange(range.lowerBound...)
        }
        let unseen = visits.filter { !$0.isEmpty }
        #expect(unseen.isEmpty, "\(name): in \(netns) the kernel's trace does not have \(unseen)")
    }

    // MARK: Translations

    private struct Translation: Hashable {
        var kind: String
        var from: String
        var to: String
    }

    /// What connection tracking translated and what was seen to be have to be the same.
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
                // A connection whose first packet is dropped is never confirmed, and so never reported; an ICMP error is put
                // back without one of its own.
                if path.outcome != "dropped", !["icmp", "icmpv6"].contains(path.example.protocol) || !isReply {
                    seen.insert(record)
                }
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
        if destinations[1] != sources[0] { found.append(Translation(kind: "snat", from: sources[0], to: destinations[1])) }
        return found
    }

    // MARK: Counters

    /// The rules of the probes have counted what the collector has received.
    ///
    /// - Parameter background: how many events there may be that came before or after the collector.
    private func counters(_ output: String, background: Int) async throws {
        struct Listing: Decodable {
            struct Probe: Decodable { var packets: UInt64 }
            var probes: [Probe]
        }
        let listed = try await sandbox.require([Live.program, "probes", "--json"]).standardOutput
        let counted = try JSONDecoder().decode(Listing.self, from: Data(listed.utf8)).probes.reduce(0) { $0 + $1.packets }
        let summary = try #require(output.split(separator: "\n").last { $0.contains(" events, ") })
        let received = try #require(UInt64(summary.prefix { $0.isNumber }))
        #expect(counted >= received && counted - received <= background, "\(name): \(counted) counted, \(summary)")
    }
}

extension JourneyReport.Step {
    /// Of iptables' own chains, which is what a base chain of the kernel's trace is.
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
