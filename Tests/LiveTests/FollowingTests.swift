import Aggregation
import Foundation
import Glibc
import Lab
import LinuxSupport
import Reports
import Testing

/// `collect --follow-netns`, and the filters of `trace`.
@Suite(.serialized, .enabled(if: Live.obstacle == nil, "\(Live.obstacle ?? "")"))
struct FollowingTests {
    /// Adds a namespace and waits for its probes.
    private static func appear(_ name: String, _ collector: SandboxProcess, _ sandbox: Sandbox) async throws {
        try await sandbox.sh("ip netns add \(name)")
        try await sandbox.sh("ip netns exec \(name) ip link set lo up")
        for _ in 0..<300 where !collector.output.contains("probes put into namespace \(name)") {
            try await Task.sleep(for: .milliseconds(50))
        }
        try #require(collector.output.contains("probes put into namespace \(name)"), "\(collector.output)")
    }

    /// Names of the journals: one file for each installation (`ProbeJournal`).
    private static func journals(_ sandbox: Sandbox) async throws -> [String] {
        try await sandbox.require(["ls", "/run/ipt-trace/probes"]).standardOutput.split(separator: "\n").map(String.init).filter
        {
            $0.hasSuffix(".json")
        }
    }

    @Test("a packet that leaves by an interface which has just been added is not called sent where another namespace loses it")
    func newInterface() async throws {
        try await Sandbox.with { sandbox in
            try await sandbox.sh("ip netns add peer")
            // Before any probe.
            try await sandbox.sh("ip netns exec peer nft add table ip early")
            try await sandbox.sh(
                "ip netns exec peer nft add chain ip early pre { type filter hook prerouting priority -310 ; }")
            try await sandbox.sh("ip netns exec peer nft add rule ip early pre udp dport 443 drop")
            _ = try await sandbox.trace("install-probes", "--family", "ipv4")
            let report = try await sandbox.collecting { _ in
                for number in 1...5 {
                    for command in [
                        "ip link add new\(number) type veth peer name far\(number) netns peer",
                        "ip addr add 10.7.\(number).1/24 dev new\(number)", "ip link set new\(number) up",
                        "ip netns exec peer ip addr add 10.7.\(number).2/24 dev far\(number)",
                        "ip netns exec peer ip link set far\(number) address 02:00:00:00:00:0\(number) up",
                        "ip neigh add 10.7.\(number).2 lladdr 02:00:00:00:00:0\(number) dev new\(number)",
                    ] {
                        try await sandbox.sh(command)
                    }
                    _ = try await sandbox.run(["bash", "-c", "echo x > /dev/udp/10.7.\(number).2/443"])
                }
                return try await sandbox.paths("?port=443") { $0.paths.reduce(0) { $0 + $1.packets } == 5 }
            }
            #expect(report.paths.reduce(0) { $0 + $1.packets } == 5)
            #expect(
                report.paths.allSatisfy { ["dropped", "incomplete"].contains($0.outcome) }, "\(report.paths.map(\.outcome))")
        }
    }

    @Test("probes go into namespaces that appear, and out again when the collector ends", arguments: [SIGINT, SIGKILL])
    func follow(_ signal: Int32) async throws {
        try await Sandbox.with { sandbox in
            _ = try await sandbox.trace("install-probes", "--family", "ipv4")
            let before = try await sandbox.rules()
            let journals = try await Self.journals(sandbox)
            #expect(journals.count == 1)
            let collector = try SandboxProcess([Live.program, "collect", "--follow-netns"], in: sandbox)
            for _ in 0..<3000 where !collector.output.contains("serving http") { try await Task.sleep(for: .milliseconds(20)) }
            try await Self.appear("late", collector, sandbox)
            try await Self.appear("short", collector, sandbox)
            #expect(try await sandbox.rules("late").contains { $0.contains("ipt-trace:t") })
            #expect(try await sandbox.rules("late", tool: "ip6tables-nft-save").contains { $0.contains("ipt-trace:t") })
            for _ in 0..<100 {
                let namespaces = try await sandbox.get(NamespacesReport.self, "/namespaces").namespaces
                if namespaces.count == 3, namespaces.allSatisfy({ $0.probes > 0 }) { break }
                try await Task.sleep(for: .milliseconds(50))
            }
            try await sandbox.sh("ip netns exec late ping -c 1 127.0.0.1")
            let report = try await sandbox.paths("?netns=late&proto=icmp") { $0.paths.reduce(0) { $0 + $1.packets } == 2 }
            #expect(report.paths.map(\.outcome) == ["delivered"])
            // One that goes again is not kept alive, and leaves no record behind.
            try await sandbox.sh("ip netns del short")
            for _ in 0..<200 where !collector.output.contains("namespace short has vanished") {
                try await Task.sleep(for: .milliseconds(50))
            }
            #expect(collector.output.contains("namespace short has vanished"), "\(collector.output)")
            try await Self.appear("next", collector, sandbox)
            try await waiting { try await Self.journals(sandbox).count == 3 }
            #expect(try await Self.journals(sandbox).count == 3)

            await collector.stop(signal: signal)
            try await waiting { try await Self.journals(sandbox) == journals }
            #expect(try await Self.journals(sandbox) == journals)
            for name in ["late", "next"] {
                #expect(try await sandbox.rules(name).isEmpty)
                #expect(try await sandbox.rules(name, tool: "ip6tables-nft-save").isEmpty)
            }
            // Those that the user put in stay.
            #expect(try await sandbox.rules() == before)
            #expect(try await sandbox.trace("remove-probes", "--verify").isSuccess)
        }
    }

    @Test func aCollectorOutlivesItsGuardianAndPutsNoMoreProbesIn() async throws {
        try await Sandbox.with { sandbox in
            try await sandbox.collecting("--follow-netns") { collector in
                try await sandbox.require(["pkill", "-KILL", "-f", "ipt-trace guard"])
                try await sandbox.sh("ip netns add late")
                try await waiting { collector.output.contains("namespace late gets no probes") || !collector.isRunning }
                #expect(collector.isRunning, "\(collector.output)")
                #expect(collector.output.contains("the process that would take the probes out has ended"))
            }
            #expect(try await sandbox.rules("late").isEmpty)
        }
    }

    @Test func withoutTheOptionAWarningNamesTheWayOut() async throws {
        try await Sandbox.with { sandbox in
            try await sandbox.collecting { collector in
                try await sandbox.sh("ip netns add late")
                for _ in 0..<200 where !collector.output.contains("--follow-netns") {
                    try await Task.sleep(for: .milliseconds(50))
                }
                #expect(collector.output.contains("install-probes --netns late, or start collect with --follow-netns"))
            }
            let refused = try await sandbox.trace("collect", "--netns", "host", "--follow-netns")
            #expect(refused.exitCode == 64 && refused.standardError.contains("leave --netns out"))
        }
    }

    @Test("a trace shows the packets that were asked for, through NAT too")
    func filteredTrace() async throws {
        try await Sandbox.with { sandbox in
            try await sandbox.sh("ip link set lo up")
            try await sandbox.sh("ip address add 127.0.0.2/8 dev lo")
            try await sandbox.sh("iptables -t nat -A OUTPUT -d 127.0.0.9 -j DNAT --to-destination 127.0.0.1")
            try await sandbox.sh("iptables -A INPUT -d 127.0.0.2 -j DROP")
            func traced(_ filter: [String]) async throws -> String {
                let trace = try SandboxProcess([Live.program, "trace", "--match", "-p icmp"] + filter, in: sandbox)
                for _ in 0..<500 where !trace.output.contains("tracing with") { try await Task.sleep(for: .milliseconds(20)) }
                for address in ["127.0.0.1", "127.0.0.2", "127.0.0.9"] {
                    _ = try await sandbox.run(["ping", "-c", "1", "-W", "1", address])
                }
                try await Task.sleep(for: .seconds(1))
                await trace.stop()
                return trace.output
            }
            func requests(_ output: String) -> Int { output.components(separatedBy: "icmp 127.0.0.1 → 127.0.0").count - 1 }

            let all = try await traced([])
            #expect(requests(all) == 5, "\(all)")
            let dropped = try await traced(["--outcome", "dropped"])
            #expect(requests(dropped) == 1 && dropped.contains("icmp 127.0.0.1 → 127.0.0.2 echo request"), "\(dropped)")
            let translated = try await traced(["--address", "127.0.0.9"])
            #expect(translated.contains("icmp 127.0.0.1 → 127.0.0.9 echo request"), "\(translated)")
            #expect(translated.contains("echo reply") && requests(translated) == 2, "\(translated)")
            #expect(requests(try await traced(["--proto", "udp"])) == 0)
            let refused = try await sandbox.trace("trace", "--address", "300.1.2.3")
            #expect(refused.exitCode == 64 && refused.standardError.contains("--address is an address or a prefix"))
        }
    }
}
