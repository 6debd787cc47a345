import Aggregation
import Foundation
import Glibc
import Lab
import LinuxSupport
import Reports
import Testing

/// Firewalls that reload their rules under traffic: a packet that arrived is never called dropped.
@Suite(.serialized, .enabled(if: Live.obstacle == nil, "\(Live.obstacle ?? "")"))
struct ReloadTests {
    struct Reload: Sendable {
        var name: String
        var isLegacy = false
        /// Run in the router's namespace; `/run/base` has its rules without probes, as the backend's save prints them.
        var script: String
        /// Whether the probes are there again afterwards.
        var keepsProbes = false

        var tool: String { isLegacy ? "iptables-legacy" : "iptables-nft" }
    }

    static let reloads = [
        Reload(name: "nft flushes the rule set and loads one without probes", script: "nft -f /run/base.nft"),
        Reload(
            name: "nft saves, flushes and loads the rule set with the probes",
            script: "(echo flush ruleset; nft list ruleset) > /run/all; nft -f /run/all", keepsProbes: true),
        Reload(name: "iptables-nft-restore replaces tables by some without probes", script: "iptables-nft-restore < /run/base"),
        Reload(
            name: "iptables-nft flushes its tables, and restores them with the probes a moment later",
            script: """
                iptables-nft-save > /run/all; for t in raw mangle filter; do iptables-nft -t $t -F; done; sleep 0.2
                iptables-nft-restore < /run/all
                """, keepsProbes: true),
        Reload(
            name: "iptables-legacy-restore replaces tables by some without probes", isLegacy: true,
            script: "iptables-legacy-restore < /run/base"),
        Reload(
            name: "iptables-legacy flushes its tables, and restores them with the probes a moment later", isLegacy: true,
            script: """
                iptables-legacy-save > /run/all; for t in raw mangle filter; do iptables-legacy -t $t -F; done; sleep 0.2
                iptables-legacy-restore < /run/all
                """, keepsProbes: true),
        Reload(
            name: "iptables-nft puts a rule before a probe",
            script: "iptables-nft -I FORWARD -p icmp -j ACCEPT", keepsProbes: true),
    ]

    /// The sandbox's own namespace, behind a router, and a server behind that.
    private func setUp(_ sandbox: Sandbox, _ reload: Reload) async throws {
        for command in [
            "ip link set lo up", "ip netns add router", "ip netns add server",
            "ip link add eth0 type veth peer name lan netns router",
            "ip link add eth0 netns server type veth peer name wan netns router",
            "ip addr add 10.0.1.2/24 dev eth0", "ip -n router addr add 10.0.1.1/24 dev lan",
            "ip -n server addr add 10.0.2.2/24 dev eth0", "ip -n router addr add 10.0.2.1/24 dev wan",
            "ip link set eth0 up", "ip -n router link set lan up", "ip -n router link set wan up",
            "ip -n server link set eth0 up", "ip route add 10.0.2.0/24 via 10.0.1.1",
            "ip -n server route add default via 10.0.2.1", "ip netns exec router sysctl -qw net.ipv4.ip_forward=1",
        ] {
            try await sandbox.sh(command)
        }
        // Tables that hold rules are those that get probes of their backend.
        for (table, chain) in [("raw", "PREROUTING"), ("mangle", "FORWARD"), ("filter", "FORWARD"), ("filter", "INPUT")] {
            try await sandbox.sh("ip netns exec router \(reload.tool) -t \(table) -A \(chain) -p tcp --dport 1 -j ACCEPT")
        }
        try await inRouter(
            sandbox, "\(reload.tool)-save > /run/base; (echo flush ruleset; nft list ruleset) > /run/base.nft")
        #expect(try await sandbox.trace("install-probes", "--family", "ipv4").isSuccess)
    }

    private func inRouter(_ sandbox: Sandbox, _ script: String) async throws {
        try await sandbox.require(["ip", "netns", "exec", "router", "sh", "-c", script])
    }

    @Test("packets that arrive while a firewall reloads are not called dropped", arguments: [false, true])
    func underTraffic(isLegacy: Bool) async throws {
        let reloads = Self.reloads.filter { $0.isLegacy == isLegacy }
        try await Sandbox.with { sandbox in
            try await setUp(sandbox, reloads[0])
            try await sandbox.collecting { _ in
                let ping = try SandboxProcess(["ping", "-q", "-i", "0.005", "10.0.2.2"], in: sandbox)
                for reload in reloads + reloads {
                    try await Task.sleep(for: .milliseconds(500))
                    try await inRouter(sandbox, reload.script)
                    guard !reload.keepsProbes else { continue }
                    try await Task.sleep(for: .milliseconds(300))
                    #expect(try await sandbox.trace("install-probes", "--family", "ipv4").isSuccess)
                }
                try await Task.sleep(for: .milliseconds(500))
                await ping.stop(signal: SIGINT)
                #expect(ping.output.contains(" 0% packet loss"), "\(ping.output)")
                // Until a packet that waits for its next hop would have been given up.
                try await Task.sleep(for: .milliseconds(4500))
                let report = try await sandbox.get(PathsReport.self, "/paths?proto=icmp&limit=1000")
                let dropped = report.paths.filter { $0.outcome == "dropped" }
                #expect(dropped.isEmpty, "\(dropped.map { "\($0.packets) \($0.brief)" })")
                #expect(report.completeness.lost == 0)
                let delivered = report.paths.filter { $0.outcome == "delivered" }.reduce(0) { $0 + $1.packets }
                #expect(delivered > 100)
            }
        }
    }

    @Test("rules that concern no probe, however often they change, cast no doubt on drops")
    func unconcerned() async throws {
        try await Sandbox.with { sandbox in
            try await setUp(sandbox, Reload(name: "", script: ""))
            try await inRouter(
                sandbox, "iptables-nft -N USER; iptables-nft -A FORWARD -j USER; iptables-nft -A FORWARD -p icmp -j DROP")
            try await sandbox.collecting { _ in
                let ping = try SandboxProcess(["ping", "-q", "-i", "0.02", "-c", "150", "-W", "1", "10.0.2.2"], in: sandbox)
                for number in 1...15 {
                    try await inRouter(
                        sandbox,
                        "iptables-nft -A USER -s 192.0.2.\(number) -j DROP; iptables-nft -A FORWARD -s 192.0.2.\(number) -j DROP"
                    )
                    try await Task.sleep(for: .milliseconds(150))
                }
                for _ in 0..<500 where ping.isRunning { try await Task.sleep(for: .milliseconds(20)) }
                let report = try await sandbox.paths("?proto=icmp&limit=1000") { report in
                    report.paths.reduce(0) { $0 + $1.packets } >= 150
                }
                // Those whose rule a trace has named are a path of their own.
                #expect(report.paths.allSatisfy { $0.outcome == "dropped" })
                #expect(report.paths.reduce(0) { $0 + $1.packets } == 150)
                let rules = Set(report.paths.compactMap { $0.decidedBy?.rule })
                #expect(rules.isSubset(of: ["-A FORWARD -p icmp -j DROP"]), "\(rules)")
            }
        }
    }
}
