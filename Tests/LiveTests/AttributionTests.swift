import Aggregation
import Foundation
import Lab
import LinuxSupport
import Reports
import Ruleset
import Testing
import TraceModel

/// Which rule dropped how many packets, against the rules' own counters: rules and traffic by chance, everything traced.
/// `RANDOM_RULES=200` tries so many, `RANDOM_SEED=7` begins with that one.
@Suite(.serialized, .enabled(if: Live.obstacle == nil, "\(Live.obstacle ?? "")"))
struct AttributionTests {
    /// What dropped packets: a rule by its place in its chain, or a policy.
    private struct Decider: Hashable, CustomStringConvertible {
        var netns: String
        var family: String
        var table: String
        var chain: String
        /// `nil` for the policy.
        var position: Int?
        var rule: String

        var description: String { "\(netns) \(family) \(table) \(position.map { "\($0) " } ?? "")\(rule)" }
    }

    private static let namespaces: [(name: String, own: [String])] = [
        ("guest", ["172.16.0.2"]), ("host", ["172.16.0.1", "10.0.2.15"]), ("inet", ["10.0.2.2", "8.8.8.8"]),
    ]

    private static let traffic = [
        "ip netns exec guest ping -c 3 -i 0.3 -W 1 8.8.8.8", "ip netns exec guest ping -c 1 -W 1 172.16.0.1",
        "ip netns exec inet ping -c 2 -i 0.3 -W 1 172.16.0.2", "ping -c 1 -W 1 172.16.0.2", "ping -c 1 -W 1 10.0.2.15",
        "ip netns exec guest ipt-trace lab connect 10.0.2.2 5001",
        "ip netns exec guest ipt-trace lab connect 10.0.2.2 5002 --udp",
        "ip netns exec inet ipt-trace lab connect 172.16.0.2 5001", "ip netns exec inet ipt-trace lab connect 10.0.2.15 5002",
        "ip netns exec inet ipt-trace lab connect 10.0.2.15 5001 --udp", "ipt-trace lab connect 10.0.2.2 5002",
        "ipt-trace lab connect 172.16.0.2 5001 --udp",
    ]

    @Test(
        "packets by rule are what the rule itself counts, and no rule is named that dropped fewer", arguments: Backend.allCases)
    func counters(_ backend: Backend) async throws {
        let environment = ProcessInfo.processInfo.environment
        let first = environment["RANDOM_SEED"].flatMap { UInt64($0) } ?? 1
        let count = environment["RANDOM_RULES"].flatMap { UInt64($0) } ?? 3
        var network = try #require(Gallery.network(named: "forwarding"))
        network.traced = Self.namespaces.map(\.name)
        let plain = network
        var total = Attribution()
        for seed in first..<first + count {
            try await Sandbox.with { sandbox in
                try await plain.setUp(in: sandbox)
                var rules = RandomRules(seed: seed)
                for (netns, own) in Self.namespaces {
                    try await sandbox.require(
                        Self.enter(netns) + ["iptables-\(backend.rawValue)-restore", "--noflush"], input: rules.text(own: own))
                }
                total.add(try await Self.compare(sandbox, backend, "\(backend.rawValue), seed \(seed)"))
            }
        }
        // Of two packets that look alike and that different rules drop at the same time none is named.
        #expect(total.named * 10 >= total.dropped * 9, "\(total)")
    }

    /// Packets that rules dropped, by the rules' own counters, and those of them that are told with their rule.
    private struct Attribution {
        var named: UInt64 = 0
        var dropped: UInt64 = 0
        /// Rules that are named for fewer packets than they dropped, as text.
        var unnamed: [String] = []

        mutating func add(_ other: Attribution) {
            named += other.named
            dropped += other.dropped
            unnamed += other.unnamed
        }
    }

    private static func enter(_ netns: String) -> [String] { netns == "host" ? [] : ["ip", "netns", "exec", netns] }

    private static func compare(_ sandbox: Sandbox, _ backend: Backend, _ name: String) async throws -> Attribution {
        let places = namespaces.flatMap { ["--netns", $0.name] }
        try await sandbox.require([Live.program, "install-probes", "--sentinels"] + places)
        let collector = try SandboxProcess(
            [Live.program, "collect", "--rule-traces", "1"] + places, in: sandbox)
        try await waiting { collector.output.contains("serving http") }
        // Each namespace has its table now.
        for (netns, _) in namespaces {
            let table = try await sandbox.require(enter(netns) + ["nft", "list", "table", "inet", "ipt-trace-rules"])
            try #require(table.standardOutput.contains("symhash"))
        }
        // Rules of iptables-legacy have to be known for a while before a trace of them counts.
        try await Task.sleep(for: .milliseconds(300))
        var servers: [SandboxProcess] = []
        for (netns, _) in namespaces {
            for port in ["5001", "5002"] {
                let server = try SandboxProcess(enter(netns) + [Live.program, "lab", "serve", port], in: sandbox)
                servers.append(server)
                try await waiting { server.output.contains("serving") }
            }
        }
        let before = try await counted(sandbox, backend)
        try await withThrowingTaskGroup(of: Void.self) { group in
            for item in traffic {
                let command = item.split(separator: " ").map { $0 == "ipt-trace" ? Live.program : String($0) }
                group.addTask { _ = try await sandbox.run(command) }
            }
            try await group.waitForAll()
        }
        for server in servers { await server.stop() }
        let after = try await counted(sandbox, backend)
        let expected = after.reduce(0) { $0 + $1.value - (before[$1.key] ?? 0) }
        var report = try await sandbox.get(RulesReport.self, "/rules?limit=5000")
        // Beside other tests a journey may take some seconds to end.
        for _ in 0..<20 where report.unnamed + report.rules.reduce(0, { $0 + $1.packets }) < expected {
            try await Task.sleep(for: .milliseconds(500))
            report = try await sandbox.get(RulesReport.self, "/rules?limit=5000")
        }
        await collector.stop()
        #expect(report.completeness.lost == 0, "\(name)")

        var named: [Decider: UInt64] = [:]
        for rule in report.rules where rule.decidedBy.backend == backend.rawValue {
            let decided = rule.decidedBy
            named[
                Decider(
                    netns: decided.netns, family: decided.tableFamily ?? "?", table: decided.table ?? "?",
                    chain: decided.chain ?? "?",
                    position: decided.position, rule: decided.rule ?? "?"), default: 0] += rule.packets
        }
        let dropped = after.filter { $0.value > before[$0.key] ?? 0 }.mapValues { $0 }
        var total = Attribution()
        for (decider, packets) in dropped {
            let delta = packets - (before[decider] ?? 0)
            total.dropped += delta
            let count = named.removeValue(forKey: decider) ?? 0
            total.named += count
            #expect(count <= delta, "\(name): \(decider) dropped \(delta), named for \(count)")
            if count < delta { total.unnamed.append("\(name): \(count) of \(delta) by \(decider)") }
        }
        // A rule that dropped nothing must not be named.
        #expect(named.isEmpty, "\(name): \(named)")
        print(
            "\(name): \(total.named) of \(total.dropped) dropped packets have their rule's name, \(report.unnamed) drops without"
        )
        return total
    }

    /// What rules and policies that drop have counted.
    private static func counted(_ sandbox: Sandbox, _ backend: Backend) async throws -> [Decider: UInt64] {
        var counts: [Decider: UInt64] = [:]
        for (netns, _) in namespaces {
            for (family, tool) in [("ip", "iptables"), ("ip6", "ip6tables")] {
                let text = try await sandbox.require(enter(netns) + ["\(tool)-\(backend.rawValue)-save", "-c"]).standardOutput
                var table = ""
                var positions: [String: Int] = [:]
                for line in text.split(separator: "\n") {
                    if line.hasPrefix("*") {
                        table = String(line.dropFirst())
                        positions = [:]
                    } else if line.hasPrefix(":") {
                        // :FORWARD DROP [3:252]
                        let words = line.dropFirst().split(separator: " ")
                        guard words.count == 3, words[1] == "DROP" else { continue }
                        let chain = String(words[0])
                        let packets = words[2].dropFirst().prefix { $0 != ":" }
                        counts[
                            Decider(
                                netns: netns, family: family, table: table, chain: chain, position: nil,
                                rule: "-P \(chain) DROP")] = UInt64(packets)
                    } else if line.hasPrefix("["), let end = line.firstIndex(of: "]") {
                        let rule = String(line[line.index(end, offsetBy: 2)...])
                        guard !rule.contains("ipt-trace:") else { continue }
                        let chain = String(rule.split(separator: " ")[1])
                        positions[chain, default: 0] += 1
                        guard rule.contains("-j DROP") || rule.contains("-j REJECT") else { continue }
                        counts[
                            Decider(
                                netns: netns, family: family, table: table, chain: chain, position: positions[chain],
                                rule: rule)] = UInt64(line.dropFirst().prefix { $0 != ":" })
                    }
                }
            }
        }
        return counts
    }
}
