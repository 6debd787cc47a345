import Aggregation
import Foundation
import Glibc
import Lab
import Reports
import Testing

/// A thousand drops a second for six causes, beside ten thousand packets a second that arrive.
@Suite(.serialized, .enabled(if: reasonsObstacle == nil, "\(reasonsObstacle ?? "")"))
struct DropReasonAccuracyTests {
    private struct Cause {
        var name: String
        /// What the journeys' cause is; `nil` for a rule's drop, of which the kernel says no reason of its own.
        var cause: String?
        var destination: String
        var faults: [String]
        var payload = 64
    }

    /// Each of a client of its own, so that its interface of the router tells which it is.
    private static let causes = [
        Cause(name: "noroute", cause: "no-route", destination: "10.90.0.1", faults: []),
        Cause(
            name: "black", cause: "blackhole-route", destination: "10.91.0.1",
            faults: ["ip -n router route add blackhole 10.91.0.0/24"]),
        Cause(
            name: "prohibit", cause: "prohibit-route", destination: "10.92.0.1",
            faults: ["ip -n router route add prohibit 10.92.0.0/24"]),
        Cause(
            name: "spent", cause: "ttl-spent", destination: "10.0.2.2",
            faults: ["ip netns exec spent sysctl -qw net.ipv4.ip_default_ttl=1"]),
        Cause(
            name: "reverse", cause: "reverse-path-filter", destination: "10.0.2.2",
            faults: [
                "ip netns exec router sysctl -qw net.ipv4.conf.reverse.rp_filter=1",
                "ip -n reverse addr add 10.77.0.1/32 dev lo",
                "ip -n reverse route replace default via 10.1.5.1 src 10.77.0.1",
                "ip -n router route add 10.77.0.0/24 via 10.0.2.2",
                // A router that would send packets elsewhere answers no question for its address.
                "ip -n router link set reverse address 02:00:00:00:00:05",
                "ip -n reverse neigh replace 10.1.5.1 lladdr 02:00:00:00:00:05 dev eth0",
            ]),
        Cause(
            name: "rule", cause: nil, destination: "10.0.2.2",
            faults: ["ip netns exec router iptables-nft -A FORWARD -i rule -j DROP"]),
    ]

    private static let sink = """
        import socket
        taker = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        taker.setsockopt(socket.SOL_SOCKET, 33, 1 << 24)  # SO_RCVBUFFORCE
        taker.bind(("", 9))
        print("listening", flush=True)
        while True:
            taker.recv(100)
        """

    private static func build(_ sandbox: Sandbox) async throws {
        for name in ["router", "server"] { try await sandbox.sh("ip netns add \(name)") }
        try await sandbox.sh("ip netns exec router sysctl -qw net.ipv4.ip_forward=1")
        try await sandbox.sh("ip link add eth0 netns server type veth peer name wan netns router")
        for command in [
            "-n router addr add 10.0.2.1/24 dev wan", "-n router link set wan up", "-n server addr add 10.0.2.2/24 dev eth0",
            "-n server link set eth0 up", "-n server link set lo up", "-n server route add default via 10.0.2.1",
        ] {
            try await sandbox.sh("ip \(command)")
        }
        for (index, name) in (causes.map(\.name) + ["bulk"]).enumerated() {
            for command in [
                "netns add \(name)", "link add eth0 netns \(name) type veth peer name \(name) netns router",
                "-n router addr add 10.1.\(index + 1).1/24 dev \(name)", "-n router link set \(name) up",
                "-n \(name) addr add 10.1.\(index + 1).2/24 dev eth0", "-n \(name) link set eth0 up",
                "-n \(name) link set lo up",
                "-n \(name) route add default via 10.1.\(index + 1).1",
            ] {
                try await sandbox.sh("ip \(command)")
            }
        }
        for fault in causes.flatMap(\.faults) { try await sandbox.sh(fault) }
    }

    @Test("nine of ten are named, and none wrongly")
    func beside() async throws {
        let perCause = 500
        try await Sandbox.with { sandbox in
            try await Self.build(sandbox)
            _ = try await sandbox.trace("install-probes")
            let server = try SandboxProcess(["ip", "netns", "exec", "server", "python3", "-c", Self.sink], in: sandbox)
            try await waiting { server.output.contains("listening") }
            let report = try await sandbox.collecting("--rule-traces", "off") { _ in
                try await Task.sleep(for: .seconds(2))
                try await withThrowingTaskGroup(of: Void.self) { group in
                    func send(_ name: String, _ destination: String, _ count: Int, _ rate: Int) {
                        let words = [
                            "ip", "netns", "exec", name, Live.flood, destination, "9", "\(count)", "64", "1", "\(rate)",
                        ]
                        group.addTask { try await sandbox.require(words) }
                    }
                    send("bulk", "10.0.2.2", 30_000, 10_000)
                    for cause in Self.causes { send(cause.name, cause.destination, perCause, 167) }
                    try await group.waitForAll()
                }
                let wanted = UInt64(perCause * Self.causes.count)
                return try await sandbox.paths("?proto=udp&outcome=dropped&netns=router&limit=1000") { report in
                    report.paths.reduce(0) { $0 + $1.packets } >= wanted
                }
            }
            await server.stop(signal: SIGKILL)
            var named = 0
            var wrong: [String] = []
            for cause in Self.causes {
                let paths = report.paths.filter { path in path.steps.contains { $0.netns == "router" && $0.in == cause.name } }
                let packets = paths.reduce(0) { $0 + Int($1.packets) }
                #expect(packets == perCause, "\(cause.name): \(packets)")
                for path in paths where path.decidedBy?.evidence == "drop_reason" {
                    if let expected = cause.cause, path.droppedBetween?.causes == [expected] {
                        named += Int(path.packets)
                    } else {
                        wrong.append("\(path.packets) of \(cause.name): \(path.decidedBy?.reason ?? "?")")
                    }
                }
            }
            let all = perCause * Self.causes.count { $0.cause != nil }
            print(
                "drop reasons: \(named) of \(all) named, \(wrong.count) wrong, \(report.completeness.dropReasonsAmbiguous ?? 0) ambiguous"
            )
            #expect(wrong == [])
            #expect(named * 10 >= all * 9)
            #expect(report.completeness.lost == 0)
        }
    }
}
