import Diagnosis
import Foundation
import Glibc
import Lab
import LinuxSupport
import Reports
import Testing

/// Packets that the kernel drops where it routes them, and at sockets: the reason is that of its own counters.
@Suite(.serialized, .enabled(if: Live.obstacle == nil, "\(Live.obstacle ?? "")"))
struct DropCounterLiveTests {
    struct Case: Sendable, CustomTestStringConvertible {
        var testDescription: String
        /// What is wrong, besides a client, a router and a server.
        var faults: [String]
        /// Of `ping`.
        var arguments = ""
        var destination = "10.0.2.2"
        /// `nil` where the counters tell nothing.
        var cause: String?
        var finding: String?
    }

    static let cases = [
        Case(
            testDescription: "no route", faults: [], destination: "10.99.0.1", cause: "no-route", finding: "no-route"),
        Case(
            testDescription: "no hop left", faults: [], arguments: "-t 1", cause: "ttl-spent", finding: "hops-spent"),
        Case(
            testDescription: "no hop left, IPv6", faults: [], arguments: "-t 1", destination: "fd02::2", cause: "ttl-spent",
            finding: "hops-spent"),
        Case(
            testDescription: "forwarding is off", faults: ["ip netns exec router sysctl -qw net.ipv4.ip_forward=0"],
            cause: "forwarding-disabled", finding: "forwarding-disabled"),
        Case(
            testDescription: "the source would be answered by another interface",
            faults: [
                "ip netns exec router sysctl -qw net.ipv4.conf.lan.rp_filter=1", "ip -n client addr add 10.77.0.1/32 dev lo",
                "ip -n router route add 10.77.0.0/24 via 10.0.2.2",
            ], arguments: "-I 10.77.0.1", cause: "reverse-path-filter", finding: "reverse-path-filter"),
        Case(
            testDescription: "larger than the next link, and not to be cut",
            faults: [
                "ip -n router link set wan mtu 1280", "ip -n server link set eth0 mtu 1280",
                "ip netns exec client iptables-nft -A INPUT -p icmp --icmp-type fragmentation-needed -j DROP",
            ], arguments: "-M do -s 1400", cause: "too-large", finding: "packet-too-large"),
        Case(
            testDescription: "larger than the next link, IPv6",
            faults: [
                "ip -n router link set wan mtu 1280", "ip -n server link set eth0 mtu 1280",
                "ip netns exec client ip6tables-nft -A INPUT -p icmpv6 --icmpv6-type packet-too-big -j DROP",
            ], arguments: "-M do -s 1400", destination: "fd02::2", cause: "too-large", finding: "packet-too-large"),
        Case(
            testDescription: "a blackhole, which nothing counts", faults: ["ip -n router route add blackhole 10.0.2.2/32"]),
        Case(
            testDescription: "a prohibited destination, which nothing counts",
            faults: ["ip -n router route add prohibit 10.0.2.2/32"]),
    ]

    static func build(_ sandbox: Sandbox) async throws {
        for name in ["client", "router", "server"] {
            try await sandbox.sh("ip netns add \(name)")
            try await sandbox.sh("ip -n \(name) link set lo up")
        }
        for command in [
            "ip link add eth0 netns client type veth peer name lan netns router",
            "ip link add eth0 netns server type veth peer name wan netns router", "ip -n client addr add 10.0.1.2/24 dev eth0",
            "ip -n router addr add 10.0.1.1/24 dev lan", "ip -n router addr add 10.0.2.1/24 dev wan",
            "ip -n server addr add 10.0.2.2/24 dev eth0", "ip -n client addr add fd01::2/64 dev eth0 nodad",
            "ip -n router addr add fd01::1/64 dev lan nodad", "ip -n router addr add fd02::1/64 dev wan nodad",
            "ip -n server addr add fd02::2/64 dev eth0 nodad", "ip -n router link set lan address 02:00:00:00:00:01",
            "ip -n client link set eth0 up", "ip -n router link set lan up", "ip -n router link set wan up",
            "ip -n server link set eth0 up", "ip -n client route add default via 10.0.1.1",
            "ip -n server route add default via 10.0.2.1", "ip -n client route add default via fd01::1",
            "ip -n server route add default via fd02::1",
            // A router that would send packets elsewhere answers no question for its address.
            "ip -n client neigh replace 10.0.1.1 lladdr 02:00:00:00:00:01 dev eth0",
            "ip netns exec router sysctl -qw net.ipv4.ip_forward=1",
            "ip netns exec router sysctl -qw net.ipv6.conf.all.forwarding=1",
        ] {
            try await sandbox.sh(command)
        }
    }

    @Test("the reason is the one that the kernel counted, and none where it counts none", arguments: cases)
    func reason(_ example: Case) async throws {
        try await Sandbox.with { sandbox in
            try await Self.build(sandbox)
            for fault in example.faults { try await sandbox.sh(fault) }
            // Drops of before are no reason for later ones.
            _ = try await sandbox.run(["ip", "netns", "exec", "client", "ping", "-c", "1", "-W", "1", "10.99.99.99"])
            _ = try await sandbox.trace("install-probes")
            let (drops, findings) = try await sandbox.collecting(
                "--drop-reasons", "off", "--record", "/run/counters.pcapng"
            ) { _ in
                let ping = ["ip", "netns", "exec", "client", "ping", "-c", "3", "-i", "0.3", "-W", "1"]
                let arguments = example.arguments.split(separator: " ").map(String.init)
                let output = try await sandbox.run(ping + arguments + [example.destination])
                #expect(!output.isSuccess)
                _ = try await sandbox.paths("?outcome=dropped&netns=router&address=\(example.destination)") { report in
                    report.paths.reduce(0) { $0 + $1.packets } == 3
                }
                return (
                    try await sandbox.get(DropsReport.self, "/drops"),
                    try await sandbox.get(FindingsReport.self, "/findings").findings
                )
            }
            let lost = drops.drops.filter { $0.example.destination == example.destination }
            #expect(lost.reduce(0) { $0 + $1.packets } == 3)
            for drop in lost {
                #expect(drop.droppedBetween.evidence == (example.cause == nil ? nil : "counter"))
                // Where nothing is counted, it is unknown, and nothing is said to have done it.
                #expect(drop.decidedBy?.kind == (example.cause == nil ? "unknown" : "kernel"))
                #expect(drop.decidedBy?.evidence == (example.cause == nil ? "none" : "counter"))
                #expect((drop.decidedBy?.reason == nil) == (example.cause == nil))
                if let cause = example.cause {
                    #expect(drop.droppedBetween.causes == [cause] && drop.droppedBetween.suspects == ["routing"])
                }
            }
            let kinds = findings.map(\.kind)
            #expect(example.finding.map(kinds.contains) ?? (kinds == ["packets-dropped"]), "\(kinds)")
            // A recording has the counters, too.
            let output = try await sandbox.trace("analyze", "/run/counters.pcapng", "--report", "drops", "--json")
            let recorded = try ReportJSON.decode(DropsReport.self, from: Data(output.standardOutput.utf8)).drops.filter {
                $0.example.destination == example.destination
            }
            #expect(recorded.map(\.decidedBy) == lost.map(\.decidedBy), "\(output.standardError)")
            // The error that the sender never got explains why it goes on.
            #expect(kinds.contains("path-mtu-blocked") == (example.cause == "too-large"), "\(kinds)")
        }
    }

    /// Takes nothing of what comes.
    private static let server = """
        import socket, time
        datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        datagrams.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        datagrams.bind(("", 9000))
        connections = socket.socket()
        connections.bind(("", 9001))
        connections.listen(0)
        print("listening", flush=True)
        time.sleep(60)
        """

    private static let client = """
        import socket, struct
        datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        for _ in range(50):
            datagrams.sendto(b"x" * 1000, ("10.0.1.1", 9000))
        waiting = []
        for _ in range(6):
            connection = socket.socket()
            connection.settimeout(0.2)
            waiting.append(connection)
            try:
                connection.connect(("10.0.1.1", 9001))
            except OSError:
                pass
        raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_UDP)
        raw.sendto(struct.pack("!HHHH", 1234, 9000, 12, 0x1234) + b"abcd", ("10.0.1.1", 0))
        """

    @Test("what passes all chains and is lost at a socket is found, with counts that are the kernel's own")
    func sockets() async throws {
        try await Sandbox.with { sandbox in
            try await Self.build(sandbox)
            _ = try await sandbox.trace("install-probes", "--netns", "router")
            let server = try SandboxProcess(
                ["ip", "netns", "exec", "router", "python3", "-c", Self.server], in: sandbox)
            try await waiting { server.output.contains("listening") }
            let findings = try await sandbox.collecting("--netns", "router", "--listen", "127.0.0.1:9100") { _ in
                #expect(try await sandbox.get(FindingsReport.self, "/findings").findings.isEmpty)
                _ = try await sandbox.require(["ip", "netns", "exec", "client", "python3", "-c", Self.client])
                var findings: [FindingReport] = []
                try await waiting {
                    findings = try await sandbox.get(FindingsReport.self, "/findings").findings
                    return findings.count >= 3
                }
                return findings
            }
            await server.stop(signal: SIGKILL)
            let counts = Dictionary(findings.map { ($0.kind, $0.packets) }) { first, _ in first }
            func counter(_ group: String, _ name: String) async throws -> UInt64? {
                let text = try await sandbox.require(
                    ["ip", "netns", "exec", "router", "cat", "/proc/net/snmp", "/proc/net/netstat"]
                ).standardOutput
                let lines = text.split(separator: "\n").map { $0.split(separator: " ") }.filter { $0.first == "\(group):" }
                guard lines.count == 2, let column = lines[0].firstIndex(of: Substring(name)) else { return nil }
                return UInt64(lines[1][column])
            }
            #expect(try await counts["receive-buffer-full"] == counter("Udp", "RcvbufErrors"))
            #expect(try await counts["listen-queue-full"] == counter("TcpExt", "ListenOverflows"))
            #expect(counts["bad-checksum"] == 1)
            // No answer comes to datagrams that nobody reads, either.
            #expect(
                Set(counts.keys).subtracting(["one-way"]) == ["receive-buffer-full", "listen-queue-full", "bad-checksum"],
                "\(counts)")
        }
    }

    /// Entries for as many connections as may be tracked, and for some more.
    private static let connections = """
        import sys
        for number in range(int(sys.argv[1]) + 100):
            place, port = number >> 14, 1024 + (number & 16383)
            print(f"-A -p udp -s 10.9.{place >> 8}.{place & 255} -d 10.9.255.1 --sport {port} --dport 53 -t 600 -u {sys.argv[2]}")
        """

    @Test(
        "a full connection table is named as what drops packets, by its own statistics; connections that made room are told of",
        arguments: ["SEEN_REPLY,ASSURED", "SEEN_REPLY"])
    func tracking(status: String) async throws {
        let isAssured = status.hasSuffix("ASSURED")
        try await Sandbox.with { sandbox in
            try await Self.build(sandbox)
            let router = ["ip", "netns", "exec", "router"]
            // What matches states has connections tracked.
            try await sandbox.require(
                router + ["iptables-nft", "-t", "mangle", "-A", "FORWARD", "-m", "conntrack", "--ctstate", "INVALID"])
            let limit = try await sandbox.require(router + ["sysctl", "-n", "net.netfilter.nf_conntrack_max"]).standardOutput
                .split(separator: "\n").first.flatMap { Int($0) }
            guard let limit, limit <= 1 << 20 else {
                print("skipped: \(limit ?? 0) connections are too many to fill a table with")
                return
            }
            try await sandbox.require(
                ["sh", "-ec", "python3 -c '\(Self.connections)' \(limit) \(status) > /run/connections"])
            _ = try await sandbox.run(router + ["conntrack", "-R", "/run/connections"])
            func count(_ name: String) async throws -> UInt64 {
                let words = try await sandbox.require(router + ["conntrack", "-S"]).standardOutput
                    .split(whereSeparator: \.isWhitespace).map { $0.split(separator: "=") }
                return words.reduce(0) { $1.first == Substring(name) ? $0 + (UInt64($1.last ?? "") ?? 0) : $0 }
            }
            // Filling the table has thrown out some, too.
            let before = try await count("early_drop")
            _ = try await sandbox.trace("install-probes", "--netns", "router")
            try await sandbox.collecting("--netns", "router") { _ in
                let ping = try await sandbox.run(
                    ["ip", "netns", "exec", "client", "ping", "-c", "20", "-i", "0.02", "-W", "1", "10.0.2.2"])
                #expect(ping.isSuccess != isAssured)
                for number in 0..<40 where !isAssured {
                    _ = try await sandbox.run(
                        ["ip", "netns", "exec", "client", "bash", "-c", "echo > /dev/udp/10.0.2.2/\(number + 9)"])
                }
                var findings: [FindingReport] = []
                let kind = isAssured ? "connection-table-full" : "connections-thrown-out"
                let counted = try await isAssured ? count("drop") : count("early_drop") - before
                #expect(counted >= (isAssured ? 20 : 1))
                // Connections are not packets.
                func isTold(_ finding: FindingReport) -> Bool {
                    isAssured ? finding.packets == counted : finding.reason.contains("has thrown out \(counted) connections")
                }
                // Counters may be those of two seconds before.
                try await waiting {
                    findings = try await sandbox.get(FindingsReport.self, "/findings").findings
                    return findings.contains { $0.kind == kind && isTold($0) }
                }
                let finding = try #require(findings.first { $0.kind == kind }, "\(findings)")
                #expect(isTold(finding), "\(finding)")
                guard isAssured else { return }
                #expect(finding.cures.map(\.command) == ["sysctl -w net.netfilter.nf_conntrack_max=\(limit * 2)"])
                #expect(!findings.contains { $0.kind == "packets-dropped" }, "\(findings)")
                let drop = try #require(
                    try await sandbox.get(DropsReport.self, "/drops").drops.first { $0.example.destination == "10.0.2.2" })
                #expect(drop.decidedBy?.kind == "conntrack" && drop.decidedBy?.reason == "table full")
                #expect(drop.decidedBy?.evidence == "counter" && drop.decidedBy?.explanation?.contains("(\(limit))") == true)
                let metrics = try await sandbox.require(["curl", "-sSf", "http://127.0.0.1:9100/metrics"]).standardOutput
                #expect(metrics.contains(#"ipt_trace_decided_drops_total{kind="conntrack",owner="none"} 20"#))
            }
        }
    }

    /// Holds the packets of NFQUEUE 7 until there are two, and then lets both go on (linux/netfilter/nfnetlink_queue.h).
    private static let queue = """
        import socket, struct, time
        def attribute(kind, data): return struct.pack("=HH", 4 + len(data), kind) + data + b"\\0" * (-len(data) % 4)
        def message(kind, body):
            body = struct.pack("=BBH", 0, 0, socket.htons(7)) + body
            return struct.pack("=IHHII", 16 + len(body), 3 << 8 | kind, 1, 0, 0) + body
        netlink = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12)
        netlink.bind((0, 0))
        netlink.send(message(2, attribute(1, struct.pack("!BBH", 1, 0, 2))))
        netlink.send(message(2, attribute(2, struct.pack("!IB", 64, 2))))
        print("listening", flush=True)
        held = []
        while len(held) < 2:
            data = netlink.recv(65536)
            length, place = struct.unpack("=I", data[:4])[0], 20
            while place + 4 <= length:
                size, kind = struct.unpack("=HH", data[place:place + 4])
                if kind == 1: held.append(data[place + 4:place + 8])
                place += size + 3 & ~3
        for number in held: netlink.send(message(1, attribute(2, struct.pack("!I", 1) + number)))
        time.sleep(60)
        """

    @Test("of two packets that open one connection at once, to two servers, the second is lost behind all chains, as counted")
    func insertion() async throws {
        try await Sandbox.with { sandbox in
            try await sandbox.require(["sh", "-ec", routedNetwork])
            for command in [
                "ip -n s address add 10.0.2.3/24 dev eth0",
                "iptables-nft -t nat -A PREROUTING -d 10.0.9.9 -p icmp -m statistic --mode nth --every 2 --packet 0 -j DNAT --to 10.0.2.2",
                "iptables-nft -t nat -A PREROUTING -d 10.0.9.9 -p icmp -j DNAT --to 10.0.2.3",
            ] {
                try await sandbox.sh(command)
            }
            let holding = try await sandbox.run(
                ["iptables-nft", "-A", "FORWARD", "-d", "10.0.2.0/24", "-p", "icmp", "-j", "NFQUEUE", "--queue-num", "7"])
            guard holding.isSuccess else { return print("skipped: the kernel has no NFQUEUE: \(holding.standardError)") }
            let queue = try SandboxProcess(["python3", "-c", Self.queue], in: sandbox)
            try await waiting { queue.output.contains("listening") }
            _ = try await sandbox.trace("install-probes", "--netns", "all")
            try await sandbox.collecting("--netns", "all") { _ in
                let ping = ["ip", "netns", "exec", "c", "ping", "-c", "2", "-i", "0.2", "-W", "2", "10.0.9.9"]
                let output = try await sandbox.run(ping)
                #expect(output.standardOutput.contains("1 received"), "\(output.standardOutput)")
                let counted = try await sandbox.sh("cat /proc/net/stat/nf_conntrack")
                let column = counted.split(separator: "\n").first?.split(separator: " ").firstIndex(of: "insert_failed")
                let failed = counted.split(separator: "\n").dropFirst().compactMap { line in
                    column.flatMap { UInt64(line.split(separator: " ")[$0], radix: 16) }
                }
                #expect(failed.reduce(0, +) == 1)
                let report = try await sandbox.paths("?outcome=dropped&proto=icmp") { !$0.paths.isEmpty }
                let lost = try #require(report.paths.first)
                #expect(
                    lost.packets == 1 && lost.decidedBy?.kind == "conntrack" && lost.decidedBy?.reason == "insertion failed"
                        && lost.decidedBy?.evidence == "counter" && lost.decidedBy?.netns == "host", "\(lost)")
                let findings = try await sandbox.get(FindingsReport.self, "/findings").findings.filter { $0.netns == "host" }
                #expect(findings.map(\.kind) == ["insertion-failed"] && findings.first?.packets == 1, "\(findings)")
            }
            await queue.stop(signal: SIGKILL)
        }
    }
}
