import EventSources
import Foundation
import Glibc
import Lab
import LinuxSupport
import Reports
import Testing

/// Why the kernel cannot be asked here why it drops packets; `nil` where it can.
let reasonsObstacle: String? = Live.obstacle ?? TraceInstance.obstacle

/// Packets that the kernel drops outside all tables, for which it names its reason itself.
@Suite(.serialized, .enabled(if: reasonsObstacle == nil, "\(reasonsObstacle ?? "")"))
struct DropReasonLiveTests {
    struct Case: Sendable, CustomTestStringConvertible {
        var testDescription: String
        /// What is wrong, besides a client, a router and a server.
        var faults: [String] = []
        /// A command in the client.
        var traffic: String
        var reason: String
        var function: String
        var cause: String?
        var finding: String
        /// Where it is dropped.
        var netns = "router"
        /// Whether it was to be dropped by a route whose kind is told besides.
        var explanation: String?
    }

    private static func ping(_ destination: String, _ arguments: String = "") -> String {
        "ping -c 1 -W 1 \(arguments) \(destination)"
    }

    private static func datagram(_ address: String, _ family: String, size: Int = 1) -> String {
        """
        python3 -c 'import socket;s=socket.socket(socket.\(family),socket.SOCK_DGRAM);s.setsockopt(*((41,23,2) if s.family==10 else (0,10,2)));\
        s.sendto(b"x"*\(size),("\(address)",9))'
        """
    }

    private static func connection(_ address: String) -> String {
        "python3 -c 'import socket;socket.create_connection((\"\(address)\",9),1)'"
    }

    static let cases = [
        Case(
            testDescription: "no route", traffic: ping("10.99.0.1"), reason: "IP_INNOROUTES", function: "ip_error",
            cause: "no-route", finding: "no-route"),
        Case(
            testDescription: "no route, IPv6", traffic: ping("fd99::1"), reason: "IP_INNOROUTES", function: "ip6_pkt_discard",
            cause: "no-route", finding: "no-route"),
        Case(
            testDescription: "a blackhole", faults: ["ip -n router route add blackhole 10.0.3.0/24"], traffic: ping("10.0.3.1"),
            reason: "NOT_SPECIFIED", function: "ip_error", cause: "blackhole-route", finding: "blackhole-route"),
        Case(
            testDescription: "a blackhole, IPv6", faults: ["ip -n router route add blackhole fd03::/64"],
            traffic: ping("fd03::1"),
            reason: "NOT_SPECIFIED", function: "dst_discard", cause: "blackhole-route", finding: "blackhole-route"),
        Case(
            testDescription: "a route that prohibits", faults: ["ip -n router route add prohibit 10.0.3.0/24"],
            traffic: ping("10.0.3.1"), reason: "NOT_SPECIFIED", function: "ip_error", cause: "prohibit-route",
            finding: "prohibit-route"),
        Case(
            testDescription: "a route that prohibits, IPv6", faults: ["ip -n router route add prohibit fd03::/64"],
            traffic: ping("fd03::1"), reason: "IP_INNOROUTES", function: "ip6_pkt_prohibit", cause: "prohibit-route",
            finding: "prohibit-route"),
        Case(
            testDescription: "a route that says unreachable", faults: ["ip -n router route add unreachable 10.0.3.0/24"],
            traffic: ping("10.0.3.1"), reason: "NOT_SPECIFIED", function: "ip_error", cause: "unreachable-route",
            finding: "unreachable-route"),
        Case(
            testDescription: "a policy rule that prohibits",
            faults: ["ip -n router rule add from 10.0.1.2 to 10.0.2.2 prohibit"], traffic: ping("10.0.2.2"),
            reason: "NOT_SPECIFIED", function: "ip_error", cause: nil, finding: "packets-dropped"),
        Case(
            testDescription: "no hop left", traffic: ping("10.0.2.2", "-t 1"), reason: "IP_INHDR", function: "ip_forward",
            cause: "ttl-spent", finding: "hops-spent"),
        Case(
            testDescription: "no hop left, IPv6", traffic: ping("fd02::2", "-t 1"), reason: "IP_INHDR", function: "ip6_forward",
            cause: "ttl-spent", finding: "hops-spent"),
        Case(
            testDescription: "forwarding is off", faults: ["ip netns exec router sysctl -qw net.ipv4.ip_forward=0"],
            traffic: ping("10.0.2.2"), reason: "IP_INADDRERRORS", function: "ip_error", cause: "forwarding-disabled",
            finding: "forwarding-disabled"),
        Case(
            testDescription: "forwarding is off, IPv6",
            faults: ["ip netns exec router sysctl -qw net.ipv6.conf.all.forwarding=0"],
            traffic: ping("fd02::2"), reason: "IP_INADDRERRORS", function: "ip6_forward", cause: "forwarding-disabled",
            finding: "forwarding-disabled"),
        Case(
            testDescription: "the source would be answered by another interface",
            faults: [
                "ip netns exec router sysctl -qw net.ipv4.conf.lan.rp_filter=1", "ip -n client addr add 10.77.0.1/32 dev lo",
                "ip -n router route add 10.77.0.0/24 via 10.0.2.2",
            ], traffic: ping("10.0.2.2", "-I 10.77.0.1"), reason: "IP_RPFILTER", function: "ip_rcv_finish_core",
            cause: "reverse-path-filter", finding: "reverse-path-filter"),
        Case(
            testDescription: "the source is the router's own address",
            faults: ["ip -n client addr add 10.0.2.1/32 dev lo"], traffic: ping("10.0.2.2", "-I 10.0.2.1"),
            reason: "IP_LOCAL_SOURCE", function: "ip_rcv_finish_core", cause: "martian-source", finding: "martian-source"),
        Case(
            testDescription: "larger than the next link",
            faults: ["ip -n router link set wan mtu 1280", "ip -n server link set eth0 mtu 1280"],
            traffic: ping("10.0.2.2", "-M do -s 1400"), reason: "PKT_TOO_BIG", function: "ip_forward", cause: "too-large",
            finding: "packet-too-large"),
        Case(
            testDescription: "larger than the next link, IPv6",
            faults: ["ip -n router link set wan mtu 1280", "ip -n server link set eth0 mtu 1280"],
            traffic: datagram("fd02::2", "AF_INET6", size: 1400), reason: "PKT_TOO_BIG", function: "ip6_forward",
            cause: "too-large", finding: "packet-too-large"),
        Case(
            testDescription: "nothing listens: TCP", traffic: connection("10.0.2.2"), reason: "NO_SOCKET",
            function: "tcp_v4_rcv", finding: "nobody-listens", netns: "server"),
        Case(
            testDescription: "nothing listens: TCP, IPv6", traffic: connection("fd02::2"), reason: "NO_SOCKET",
            function: "tcp_v6_rcv", finding: "nobody-listens", netns: "server"),
        Case(
            testDescription: "nothing listens: UDP", traffic: datagram("10.0.2.2", "AF_INET"), reason: "NO_SOCKET",
            function: "__udp4_lib_rcv", finding: "nobody-listens", netns: "server"),
        Case(
            testDescription: "nothing listens: UDP, IPv6", traffic: datagram("fd02::2", "AF_INET6"), reason: "NO_SOCKET",
            function: "__udp6_lib_rcv", finding: "nobody-listens", netns: "server"),
    ]

    @Test("the reason is the kernel's own, without a trace of rules", arguments: cases)
    func reason(_ example: Case) async throws {
        try await Sandbox.with { sandbox in
            try await DropCounterLiveTests.build(sandbox)
            for fault in example.faults { try await sandbox.sh(fault) }
            _ = try await sandbox.trace("install-probes")
            let seen = try await sandbox.collecting("--rule-traces", "off") { _ in
                // The layout has to be that of after the faults.
                try await Task.sleep(for: .seconds(2))
                // Beside other tests' drops one packet's may not be told apart; that of another attempt is.
                var report: PathsReport?
                for _ in 0..<5 where report?.paths.contains(where: { $0.decidedBy?.evidence == "drop_reason" }) != true {
                    _ = try await sandbox.run(["sh", "-c", "exec ip netns exec client \(example.traffic)"])
                    try await Task.sleep(for: .seconds(1.5))
                    report = try await sandbox.get(PathsReport.self, "/paths?outcome=dropped&netns=client")
                }
                return (report?.paths ?? [], try await sandbox.get(FindingsReport.self, "/findings").findings)
            }
            let findings: [FindingReport] = seen.1
            let path: PathReport = try #require(seen.0.first { $0.decidedBy?.evidence == "drop_reason" })
            let decided = try #require(path.decidedBy)
            #expect(decided.kind == "kernel" && decided.reason == example.reason && decided.netns == example.netns)
            #expect(decided.function?.hasPrefix(example.function) == true)
            #expect(path.droppedBetween?.causes == (example.cause.map { [$0] } ?? []))
            let finding = findings.first { $0.kind == example.finding }
            #expect(finding?.reason.contains(example.reason) == true, "\(findings.map(\.kind))")
        }
    }

    /// Packets that the kernel counts for one reason: where, in which of its files, under which names, and how many are sent.
    private struct Counted {
        var reason: String
        var family: String
        var netns: String
        var file: String
        /// `Group Name`, or the name alone where each has a line of its own.
        var counter: String
        var packets: Int
        var traffic: String
    }

    private static let counted = [
        Counted(
            reason: "IP_INNOROUTES", family: "ipv4", netns: "router", file: "netstat", counter: "IpExt InNoRoutes", packets: 7,
            traffic: "ping -c 7 -i 0.1 -W 1 10.99.0.1"),
        Counted(
            reason: "IP_INHDR", family: "ipv4", netns: "router", file: "snmp", counter: "Ip InHdrErrors", packets: 5,
            traffic: "ping -c 5 -i 0.1 -W 1 -t 1 10.0.2.2"),
        Counted(
            reason: "IP_RPFILTER", family: "ipv4", netns: "router", file: "netstat", counter: "TcpExt IPReversePathFilter",
            packets: 4, traffic: "ping -c 4 -i 0.1 -W 1 -I 10.77.0.1 10.0.2.2"),
        Counted(
            reason: "PKT_TOO_BIG", family: "ipv4", netns: "router", file: "snmp", counter: "Ip FragFails", packets: 3,
            traffic: "ping -c 3 -i 0.1 -W 1 -M do -s 1400 10.0.2.2"),
        Counted(
            reason: "IP_INADDRERRORS", family: "ipv6", netns: "router", file: "snmp6", counter: "Ip6InAddrErrors", packets: 6,
            traffic: "ping -c 6 -i 0.1 -W 1 fd02::2"),
        Counted(
            reason: "NO_SOCKET", family: "ipv4", netns: "server", file: "snmp", counter: "Udp NoPorts", packets: 8,
            traffic:
                "python3 -c 'import socket,time;[(socket.socket(2,2).sendto(b\"x\",(\"10.0.2.2\",9)),time.sleep(.1)) for _ in range(8)]'"
        ),
    ]

    private static func value(_ counted: Counted, _ sandbox: Sandbox) async throws -> Int {
        let text = try await sandbox.require(["ip", "netns", "exec", counted.netns, "cat", "/proc/net/\(counted.file)"])
            .standardOutput
        let lines = text.split(separator: "\n").map { $0.split(whereSeparator: \.isWhitespace).map(String.init) }
        let names = counted.counter.split(separator: " ").map(String.init)
        if names.count == 1 { return try #require(lines.first { $0.first == names[0] }.flatMap { Int($0[1]) }) }
        let group = lines.filter { $0.first == "\(names[0]):" }
        let column = try #require(group.first?.firstIndex(of: names[1]))
        return try #require(Int(group[1][column]))
    }

    @Test("packets by reason are as many as the namespaces' own counters say")
    func counts() async throws {
        try await Sandbox.with { sandbox in
            try await DropCounterLiveTests.build(sandbox)
            for command in [
                "ip netns exec router sysctl -qw net.ipv4.conf.lan.rp_filter=1", "ip -n client addr add 10.77.0.1/32 dev lo",
                "ip -n router route add 10.77.0.0/24 via 10.0.2.2", "ip -n router link set wan mtu 1280",
                "ip -n server link set eth0 mtu 1280",
                // Else the client learns of it, and sends no second one.
                "ip netns exec client iptables-nft -A INPUT -p icmp --icmp-type fragmentation-needed -j DROP",
                "ip netns exec router sysctl -qw net.ipv6.conf.all.forwarding=0",
                // An error for each datagram: without one the kernel names no addresses.
                "ip netns exec server sysctl -qw net.ipv4.icmp_ratelimit=0",
            ] {
                try await sandbox.sh(command)
            }
            _ = try await sandbox.trace("install-probes")
            try await sandbox.collecting("--rule-traces", "off") { _ in
                try await Task.sleep(for: .seconds(2))
                var risen: [Int] = []
                for counted in Self.counted {
                    let before = try await Self.value(counted, sandbox)
                    _ = try await sandbox.run(["sh", "-c", "exec ip netns exec client \(counted.traffic)"])
                    risen.append(try await Self.value(counted, sandbox) - before)
                }
                func told(_ counted: Counted, _ report: PathsReport) -> Int {
                    report.paths.reduce(0) { sum, path in
                        let decided = path.decidedBy
                        let isOne =
                            decided?.evidence == "drop_reason" && decided?.reason == counted.reason
                            && decided?.netns == counted.netns && decided?.family == counted.family
                        return isOne ? sum + Int(path.packets) : sum
                    }
                }
                let report = try await sandbox.paths("?outcome=dropped&limit=1000") { report in
                    zip(Self.counted, risen).allSatisfy { told($0, report) >= $1 }
                }
                for (counted, risen) in zip(Self.counted, risen) {
                    #expect(risen == counted.packets, "\(counted.counter)")
                    #expect(told(counted, report) == risen, "\(counted.reason), \(counted.family)")
                }
            }
        }
    }

    /// Names of the instances that a process of a sandbox reads, by its descriptors.
    private static func instances(of collector: SandboxProcess, in sandbox: Sandbox) async throws -> Set<String> {
        let listing = try await sandbox.run(["sh", "-c", "ls -l /proc/[0-9]*/fd 2>/dev/null | grep trace_pipe_raw"])
        return Set(
            listing.standardOutput.split(separator: "\n").compactMap { line in
                line.split(separator: "/").first { $0.hasPrefix("ipt-trace-") }.map(String.init)
            })
    }

    private static func isThere(_ instance: String) async throws -> Bool {
        let command = "mount -t tracefs none /mnt && test -d /mnt/instances/\(instance)"
        return try await Tool.run("unshare", ["--mount", "sh", "-c", command]).isSuccess
    }

    @Test("an instance goes with its collector; one of a collector that was killed goes with the next command, which names it")
    func nothingIsLeft() async throws {
        try await Sandbox.with { sandbox in
            _ = try await sandbox.trace("install-probes")
            let kept = try await sandbox.collecting { collector in
                let instance = try #require(try await Self.instances(of: collector, in: sandbox).first)
                #expect(try await Self.isThere(instance))
                return instance
            }
            #expect(try await !Self.isThere(kept))
            var left = 0
            var named = 0
            for _ in 0..<20 {
                let collector = try SandboxProcess([Live.program, "collect"], in: sandbox)
                try await Task.sleep(for: .milliseconds(Int.random(in: 0...900)))
                let instances = try await Self.instances(of: collector, in: sandbox)
                await collector.stop(signal: SIGKILL)
                let next = try await sandbox.trace("remove-probes")
                for instance in instances {
                    left += 1
                    #expect(try await !Self.isThere(instance))
                    // Another test's command may have been the next one.
                    if next.standardError.contains("removed \(instance) from the kernel's tracing") { named += 1 }
                }
            }
            #expect(left > 5 && named > 0, "\(left) were left, \(named) of them named")
        }
    }

    @Test("a recording has the reasons, and the analysis of it names them")
    func recording() async throws {
        try await Sandbox.with { sandbox in
            try await DropCounterLiveTests.build(sandbox)
            _ = try await sandbox.trace("install-probes")
            let file = "/run/reasons.pcapng"
            let live = try await sandbox.collecting("--rule-traces", "off", "--record", file) { _ in
                try await Task.sleep(for: .seconds(2))
                _ = try await sandbox.run(["sh", "-c", "exec ip netns exec client \(Self.ping("10.99.0.1"))"])
                _ = try await sandbox.run(["sh", "-c", "exec ip netns exec client \(Self.connection("10.0.2.2"))"])
                return try await sandbox.paths("?outcome=dropped&netns=client") { $0.paths.count == 2 }
            }
            #expect(Set(live.paths.compactMap { $0.decidedBy?.reason }) == ["IP_INNOROUTES", "NO_SOCKET"])
            let text = try await sandbox.require(
                [Live.program, "report", "paths", "--json", "--outcome", "dropped", "--netns", "client", file]
            ).standardOutput
            let recorded = try ReportJSON.decode(PathsReport.self, from: Data(text.utf8))
            #expect(recorded.paths.map(\.id).sorted() == live.paths.map(\.id).sorted())
            for path in recorded.paths { #expect(live.paths.contains { $0.decidedBy == path.decidedBy }) }
        }
    }
}
