import Aggregation
import Foundation
import Glibc
import Lab
import LinuxSupport
import Reports
import Testing

/// The rule that drops a packet, named by the kernel's own trace.
@Suite(.serialized, .enabled(if: Live.obstacle == nil, "\(Live.obstacle ?? "")"))
struct RuleTraceLiveTests {
    private static let table = "nft list table inet ipt-trace-rules"

    /// A neighbour at 10.0.1.2 and fd01::2, which a rule in a user's chain of iptables, a chain of nf_tables and a policy keep us from.
    private static func build(_ sandbox: Sandbox) async throws {
        for command in [
            "ip netns add c", "ip link add v type veth peer name e0 netns c", "ip addr add 10.0.1.1/24 dev v",
            "sysctl -qw net.ipv6.conf.v.disable_ipv6=0", "ip addr add fd01::1/64 dev v nodad", "ip link set v up",
            "ip -n c addr add 10.0.1.2/24 dev e0", "ip -n c link set e0 up", "iptables-nft -N BLOCK",
            "iptables-nft -A OUTPUT -j BLOCK", "iptables-nft -A BLOCK -s 10.9.9.9 -j DROP",
            "iptables-nft -A BLOCK -d 10.0.1.2 -p icmp -m comment --comment netops -j DROP", "ip6tables-nft -P OUTPUT DROP",
            "nft add table inet fw", "nft add chain inet fw no", "nft add rule inet fw no ip daddr 10.0.1.3 counter drop",
            "nft add chain inet fw out { type filter hook output priority 10 ; }", "nft add rule inet fw out jump no",
        ] {
            try await sandbox.sh(command)
        }
    }

    /// Pings that nobody answers.
    private static func ping(_ address: String, _ sandbox: Sandbox) async throws {
        let output = try await sandbox.run(["ping", "-c", "3", "-i", "1", "-W", "1", address])
        #expect(!output.isSuccess)
    }

    private static func packets(_ report: PathsReport, _ isMeant: (DecidedBy) -> Bool) -> UInt64 {
        report.paths.filter { $0.decidedBy.map { $0.isRule && isMeant($0) } ?? false }.reduce(0) { $0 + $1.packets }
    }

    @Test("a packet like one that was dropped names the rule or policy: of iptables-nft, of nf_tables, of IPv6")
    func named() async throws {
        try await Sandbox.with { sandbox in
            try await Self.build(sandbox)
            _ = try await sandbox.trace("install-probes", "--netns", "host")
            let rules = try await sandbox.rules()
            try await sandbox.collecting("--netns", "host") { _ in
                // Nothing is there as long as nothing is dropped.
                #expect(try await !sandbox.run(Self.table.split(separator: " ").map(String.init)).isSuccess)
                for address in ["10.0.1.2", "10.0.1.3", "fd01::2"] { try await Self.ping(address, sandbox) }
                #expect(try await sandbox.sh(Self.table).contains("flags owner"))
                let report = try await sandbox.paths("?outcome=dropped") { report in
                    report.paths.reduce(0) { $0 + $1.packets } >= 9 && report.paths.count { $0.decidedBy?.isRule == true } == 3
                }
                let all = report.paths.map { "\($0.packets) \($0.example.destination) \($0.decidedBy?.text ?? "?")" }
                // The first of each arms the trace; those behind it are named.
                let iptables = Self.packets(report) {
                    $0.rule == "-A BLOCK -d 10.0.1.2/32 -p icmp -m comment --comment netops -j DROP" && $0.position == 2
                        && $0.chain == "BLOCK" && $0.tableFamily == "ip" && $0.evidence == "trace"
                }
                #expect((1...2).contains(iptables), "\(all)")
                let native = Self.packets(report) {
                    $0.table == "fw" && $0.chain == "no" && $0.tableFamily == "inet" && $0.kind == "rule"
                        && $0.rule?.hasPrefix("ip daddr 10.0.1.3 counter packets") == true && $0.rule?.hasSuffix("drop") == true
                }
                #expect((1...2).contains(native), "\(all)")
                let policy = Self.packets(report) {
                    $0.kind == "policy" && $0.table == "filter" && $0.chain == "OUTPUT" && $0.tableFamily == "ip6"
                }
                // What the kernel sends by itself is dropped, too.
                #expect(policy >= 1, "\(all)")
                // No drop has a rule that is not its own.
                #expect(Self.packets(report) { _ in true } == iptables + native + policy, "\(all)")
            }
            #expect(try await !sandbox.run(Self.table.split(separator: " ").map(String.init)).isSuccess)
            #expect(try await sandbox.rules() == rules)
        }
    }

    @Test("a drop before the next namespace's first probe is named by one of the next attempts of the same connection")
    func beforeTheFirstProbe() async throws {
        try await Sandbox.with { sandbox in
            try await DropCounterLiveTests.build(sandbox)
            for command in [
                "add table ip early", "add chain ip early pre { type filter hook prerouting priority -310; }",
                "add rule ip early pre tcp dport 443 drop",
            ] {
                try await sandbox.require(["ip", "netns", "exec", "router", "nft", command])
            }
            _ = try await sandbox.trace("install-probes")
            try await sandbox.collecting { _ in
                // Sent at 0, 1 and 3 s; that it is lost is certain after 4 s.
                _ = try await sandbox.run([
                    "ip", "netns", "exec", "client", "timeout", "3.5", "bash", "-c", "exec 3<>/dev/tcp/10.0.2.2/443",
                ])
                let report = try await sandbox.paths("?outcome=dropped&port=443") { report in
                    report.paths.reduce(0) { $0 + $1.packets } >= 3
                }
                let named = report.paths.filter { $0.decidedBy?.evidence == "trace" }
                #expect(
                    named.count == 1 && named[0].decidedBy?.rule == "tcp dport 443 drop"
                        && named[0].decidedBy?.netns == "router",
                    "\(report.paths.map(\.decidedBy))")
            }
        }
    }

    @Test("the table is gone when the collector is killed, and there is none with --rule-traces off")
    func gone() async throws {
        try await Sandbox.with { sandbox in
            try await Self.build(sandbox)
            _ = try await sandbox.trace("install-probes", "--netns", "host")
            let table = Self.table.split(separator: " ").map(String.init)
            try await sandbox.collecting("--netns", "host", "--rule-traces", "off") { _ in
                try await Self.ping("10.0.1.2", sandbox)
                #expect(try await !sandbox.run(table).isSuccess)
            }
            try await sandbox.collecting("--netns", "host") { collector in
                try await Self.ping("10.0.1.2", sandbox)
                try await waiting { try await sandbox.run(table).isSuccess }
                #expect(try await sandbox.run(table).isSuccess)
                await collector.stop(signal: SIGKILL)
                try await waiting { try await !sandbox.run(table).isSuccess }
                #expect(try await !sandbox.run(table).isSuccess)
            }
        }
    }

    @Test(
        "a recording holds the rules that dropped packets: analyze names them as the collector did",
        arguments: ["nft", "legacy"])
    func recorded(_ backend: String) async throws {
        try await Sandbox.with { sandbox in
            try await sandbox.sh("ip link set lo up")
            try await sandbox.sh("iptables-\(backend) -A OUTPUT -d 127.0.0.8 -p icmp -j ACCEPT")
            try await sandbox.sh("iptables-\(backend) -A OUTPUT -d 127.0.0.0/8 -p icmp -m comment --comment netops -j DROP")
            try await sandbox.sh("iptables-\(backend) -A INPUT -d 127.0.0.8 -p udp -j ACCEPT")
            try await sandbox.sh("iptables-\(backend) -A INPUT -p tcp -j ACCEPT")
            try await sandbox.sh("iptables-\(backend) -P INPUT DROP")
            _ = try await sandbox.trace("install-probes", "--netns", "host")
            let live = try await sandbox.collecting("--netns", "host", "--record", "/run/trace.pcapng") { _ in
                for address in ["127.0.0.9", "127.0.0.8"] { try await Self.ping(address, sandbox) }
                // The last packet may still be under way when its connection's rule is known.
                try await Task.sleep(for: .seconds(2))
                return try await sandbox.paths("?outcome=dropped") { report in
                    func count(_ evidence: String) -> Int { report.paths.count { $0.decidedBy?.evidence == evidence } }
                    return report.paths.reduce(0) { $0 + $1.packets } >= 6 && count("trace") == 2 && count("inferred") > 0
                }
            }
            let output = try await sandbox.trace(
                "analyze", "/run/trace.pcapng", "--report", "paths", "--outcome", "dropped", "--json")
            let recorded = try ReportJSON.decode(PathsReport.self, from: Data(output.standardOutput.utf8))
            func named(_ report: PathsReport) -> [String] {
                report.paths.filter { $0.decidedBy?.isRule == true }.compactMap { path in
                    path.decidedBy.map { "\(path.id) \(path.packets) \($0)" }
                }.sorted()
            }
            // The packet before the traced ones was of the same connection, and is said to have been dropped by the same rule.
            #expect(live.paths.count { $0.decidedBy?.evidence == "trace" } == 2)
            #expect(live.paths.contains { $0.decidedBy?.evidence == "inferred" })
            #expect(named(recorded) == named(live), "\(output.standardError)")
            #expect(live.paths.contains { $0.decidedBy?.nearest?.isEmpty == false })
        }
    }

    @Test(
        "each step of a traced packet has the rules that it met there: jumps, returns, policies, and chains that have no probe",
        arguments: ["iptables-nft", "iptables-legacy"])
    func rules(_ iptables: String) async throws {
        try await Sandbox.with { sandbox in
            for command in [
                "ip link set lo up", "\(iptables) -N CHECK", "\(iptables) -A OUTPUT -d 127.0.0.7 -j CHECK",
                "\(iptables) -A CHECK -p tcp -j ACCEPT", "\(iptables) -A CHECK -p icmp -m comment --comment known -j RETURN",
                "\(iptables) -A OUTPUT -d 127.0.0.6 -j DROP", "\(iptables) -A INPUT -p icmp -j ACCEPT",
                "nft add table inet own", "nft add chain inet own seen { type filter hook output priority 10 ; }",
                "nft add rule inet own seen ip daddr 127.0.0.7 counter accept",
            ] {
                try await sandbox.sh(command)
            }
            _ = try await sandbox.trace("install-probes", "--netns", "host")
            let live = try await sandbox.collecting(
                "--netns", "host", "--rule-traces", "1", "--record", "/run/rules.pcapng"
            ) { _ in
                // Rules are read when the first packet has met them.
                var found: JourneyReport?
                try await waiting {
                    try await sandbox.sh("ping -c 1 -W 1 127.0.0.7")
                    let report = try await sandbox.get(JourneysReport.self, "/journeys?proto=icmp&address=127.0.0.7")
                    found = report.journeys.first { journey in
                        journey.outcome == "delivered" && journey.icmpType == 8
                            // Texts of nf_tables' rules are read one by one; those of iptables-legacy come with the rules.
                            && ["CHECK", "seen"].allSatisfy { chain in
                                journey.steps.contains {
                                    $0.rules?.contains { $0.chain == chain && $0.rule != nil } == true
                                }
                            }
                    }
                    return found != nil
                }
                let journey = try #require(found)
                func rules(_ table: String, _ chain: String, _ hook: String) -> [String]? {
                    journey.steps.first { $0.table == table && $0.chain == chain && $0.hook == hook }?.rules.map { rules in
                        rules.map { "\($0.position ?? 0) \($0.rule ?? "?") \($0.verdict)" }
                    }
                }
                #expect(
                    rules("filter", "OUTPUT", "OUTPUT") == [
                        "1 -A OUTPUT -d 127.0.0.7/32 -j CHECK jump",
                        "2 -A CHECK -p icmp -m comment --comment known -j RETURN return", "0 -P OUTPUT ACCEPT accept",
                    ])
                #expect(rules("filter", "INPUT", "INPUT") == ["1 -A INPUT -p icmp -j ACCEPT accept"])
                #expect(rules("raw", "OUTPUT", "OUTPUT") == ["0 -P OUTPUT ACCEPT accept"])
                // Another program's chain is a step in the place that the kernel gives it: behind filter, before security.
                let native = rules("own", "seen", "OUTPUT")
                #expect(native?.count == 1 && native?.first?.contains("ip daddr 127.0.0.7 counter") == true, "\(native ?? [])")
                let order = journey.steps.filter { $0.hook == "OUTPUT" }.map(\.table)
                #expect(order == ["raw", "mangle", "filter", "own", "security"], "\(order)")
                #expect(journey.steps.first { $0.table == "own" }?.tableFamily == "inet")
                return journey
            }
            let output = try await sandbox.require([
                Live.program, "analyze", "/run/rules.pcapng", "--report", "journeys", "--report", "precedence", "--proto",
                "icmp",
                "--format", "json",
            ]).standardOutput
            struct Reports: Decodable { var journeys: JourneysReport }
            let recorded = try ReportJSON.decode(Reports.self, from: Data(output.utf8)).journeys.journeys
            let same = try #require(recorded.first { $0.firstSeen == live.firstSeen && $0.icmpType == 8 })
            #expect(same.steps.map(\.chain) == live.steps.map(\.chain))
            #expect(same.steps.map(\.rules) == live.steps.map(\.rules))
        }
    }

    private static let setting = "/proc/sys/net/netfilter/nf_log/2"

    @Test(
        "rules of iptables-legacy are named, and the logger that tells of them is put back, by the next command where it has to be"
    )
    func legacy() async throws {
        try await Sandbox.with { sandbox in
            for command in [
                "ip link set lo up", "iptables-legacy -A OUTPUT -d 127.0.0.9 -p icmp -m comment --comment netops -j DROP",
                "iptables-legacy -A OUTPUT -d 127.0.0.8 -p icmp -j DROP",
            ] {
                try await sandbox.sh(command)
            }
            _ = try await sandbox.trace("install-probes", "--netns", "host")
            let before = try await sandbox.sh("cat \(Self.setting)")
            try await sandbox.collecting("--netns", "host") { _ in
                for address in ["127.0.0.9", "127.0.0.8"] { try await Self.ping(address, sandbox) }
                let report = try await sandbox.paths("?outcome=dropped") { report in
                    // Of each rule one path that was traced, and the packets before it.
                    report.paths.reduce(0) { $0 + $1.packets } >= 6 && report.paths.count { $0.decidedBy?.isRule == true } == 4
                }
                let all = report.paths.map { "\($0.packets) \($0.example.destination) \($0.decidedBy?.text ?? "?")" }
                for (address, position) in [("9/32 -p icmp -m comment --comment netops", 1), ("8/32 -p icmp", 2)] {
                    let named = Self.packets(report) {
                        $0.rule == "-A OUTPUT -d 127.0.0.\(address) -j DROP" && $0.position == position
                            && $0.backend == "legacy"
                            && $0.handle == nil && $0.kind == "rule"
                    }
                    #expect((1...2).contains(named), "\(all)")
                }
            }
            #expect(try await sandbox.sh("cat \(Self.setting)") == before)
            try await sandbox.collecting("--netns", "host") { collector in
                // Killed while it traces: half a minute after the last drop the setting would be put back.
                try await Self.ping("127.0.0.9", sandbox)
                try await waiting { try await sandbox.sh("cat \(Self.setting)") == "nfnetlink_log\n" }
                await collector.stop(signal: SIGKILL)
            }
            #expect(try await sandbox.sh("cat \(Self.setting)") == "nfnetlink_log\n")
            let next = try await sandbox.trace("remove-probes")
            #expect(next.standardError.contains("net.netfilter.nf_log.2 of namespace host is \(before.dropLast()) again"))
            #expect(try await sandbox.sh("cat \(Self.setting)") == before)
            #expect(try await sandbox.sh("ls /run/ipt-trace/settings").isEmpty)
        }
    }

    @Test(
        "where somebody uses the logger or the group, both are left alone, which is said",
        arguments: [
            "iptables-legacy -t raw -A OUTPUT -p tcp -j TRACE", "sysctl -qw net.netfilter.nf_conntrack_log_invalid=255",
            "sysctl -qw net.netfilter.nf_log.2=nfnetlink_log", "group",
        ])
    func leftAlone(_ use: String) async throws {
        try await Sandbox.with { sandbox in
            try await sandbox.sh("ip link set lo up")
            try await sandbox.sh("iptables-legacy -A OUTPUT -d 127.0.0.9 -p icmp -j DROP")
            var listener: SandboxProcess?
            if use == "group" {
                listener = try SandboxProcess(["tcpdump", "-i", "nflog:0", "-w", "/dev/null"], in: sandbox)
                try await waiting { try await sandbox.sh("cat /proc/net/netfilter/nfnetlink_log").contains("    0 ") }
            } else {
                try await sandbox.sh(use)
            }
            _ = try await sandbox.trace("install-probes", "--netns", "host")
            let before = try await sandbox.sh("cat \(Self.setting)")
            try await sandbox.collecting("--netns", "host") { collector in
                try await Self.ping("127.0.0.9", sandbox)
                #expect(try await sandbox.sh("cat \(Self.setting)") == before)
                let report = try await sandbox.paths("?outcome=dropped") { report in
                    report.paths.reduce(0) { $0 + $1.packets } >= 3
                }
                #expect(report.paths.allSatisfy { $0.decidedBy?.isRule != true })
                #expect(collector.output.contains("rules of iptables-legacy are not traced in namespace host"))
            }
            await listener?.stop()
        }
    }
}

/// Packets that a rule drops because connection tracking calls them INVALID.
@Suite(.serialized, .enabled(if: Live.obstacle == nil, "\(Live.obstacle ?? "")"))
struct InvalidPacketTests {
    /// Sends what a connection never sends, twice a second for half a minute: a datagram with a wrong checksum, a segment with SYN and FIN,
    /// or those of an open connection whose numbers are all over the place, of which half are above its window.
    private static let sender = """
        import socket, struct, sys, time
        def checksum(data):
            data += b"\\0" * (len(data) % 2)
            total = sum(struct.unpack("!%dH" % (len(data) // 2), data))
            while total >> 16: total = (total & 0xffff) + (total >> 16)
            return ~total & 0xffff
        source, target, kind = sys.argv[1:]
        v6 = ":" in target
        family = socket.AF_INET6 if v6 else socket.AF_INET
        ends = socket.inet_pton(family, source) + socket.inet_pton(family, target)
        port, flags = 40000, 0x03
        if kind == "window":
            connection = socket.create_connection((target, 9000))
            port, flags = connection.getsockname()[1], 0x18
        for number in range(60):
            if kind == "checksum":
                proto, packet = 17, struct.pack("!HHHH", 40000 + number, 9000, 12, 0x1234) + b"abcd"
            else:
                proto = 6
                packet = struct.pack("!HHIIBBHHH", port if kind == "window" else port + number, 9000, 1 + number % 6 * 0x2aaaaaaa, 1, 0x50, flags, 1000, 0, 0)
                pseudo = ends + (struct.pack("!IHBB", len(packet), 0, 0, proto) if v6 else struct.pack("!BBH", 0, proto, len(packet)))
                packet = packet[:16] + struct.pack("!H", checksum(pseudo + packet)) + packet[18:]
            raw = socket.socket(family, socket.SOCK_RAW, proto)
            raw.sendto(packet, (target, 0))
            time.sleep(0.5)
        """

    @Test(
        "why a packet is INVALID stands with the rule that drops it, and the settings are as before",
        arguments: [
            ("nft", "10.0.1.2", "10.0.2.2", "checksum", "bad checksum"),
            ("nft", "10.0.1.2", "10.0.2.2", "flags", "invalid tcp flag combination"),
            ("legacy", "10.0.1.2", "10.0.2.2", "checksum", "bad checksum"),
            ("nft", "fd01::2", "fd02::2", "flags", "invalid tcp flag combination"),
            // The kernel names the sequence number or the acknowledged one: which of them is too high depends on random initial numbers.
            ("nft", "10.0.1.2", "10.0.2.2", "window", " is over upper bound"),
            ("legacy", "10.0.1.2", "10.0.2.2", "window", " is over upper bound"),
        ])
    func reason(_ backend: String, _ source: String, _ target: String, _ kind: String, _ reason: String) async throws {
        try await Sandbox.with { sandbox in
            try await DropCounterLiveTests.build(sandbox)
            let tool = target.contains(":") ? "ip6tables-\(backend)" : "iptables-\(backend)"
            try await sandbox.sh("ip netns exec router \(tool) -A FORWARD -m conntrack --ctstate INVALID -j DROP")
            let settings = [
                "net.netfilter.nf_log.2", "net.netfilter.nf_log.10", "net.netfilter.nf_conntrack_log_invalid",
            ]
            let read = "ip netns exec router sysctl \(settings.joined(separator: " "))"
            let before = try await sandbox.sh(read)
            let server = try SandboxProcess(
                ["ip", "netns", "exec", "server", Live.program, "lab", "serve", "9000", "--address", "::"], in: sandbox)
            try await waiting { server.output.contains("serving") }
            _ = try await sandbox.trace("install-probes", "--netns", "router")
            let report = try await sandbox.collecting(
                "--netns", "router", "--listen", "127.0.0.1:9100", "--record", "/run/invalid.pcapng"
            ) { _ in
                // Which of the packets is the first that is traced depends on the machine's load.
                let packets = try SandboxProcess(
                    ["ip", "netns", "exec", "client", "python3", "-c", Self.sender, source, target, kind], in: sandbox)
                let report = try await sandbox.paths("?outcome=dropped&netns=router") { report in
                    report.paths.contains { $0.decidedBy?.invalid != nil }
                }
                await packets.stop()
                return report
            }
            let told = report.paths.compactMap(\.decidedBy).filter { $0.invalid != nil }
            #expect(!told.isEmpty, "\(report.paths.map(\.decidedBy))")
            await server.stop()
            #expect(
                told.allSatisfy {
                    $0.invalid?.contains(reason) == true && $0.kind == "rule" && $0.rule?.contains("INVALID") == true
                }, "\(told)")
            #expect(try await sandbox.sh(read) == before)
            let output = try await sandbox.trace(
                "analyze", "/run/invalid.pcapng", "--report", "paths", "--outcome", "dropped", "--json")
            let recorded = try ReportJSON.decode(PathsReport.self, from: Data(output.standardOutput.utf8))
            let same = recorded.paths.compactMap(\.decidedBy?.invalid)
            #expect(!same.isEmpty && same.allSatisfy { $0.contains(reason) }, "\(recorded.paths.map(\.decidedBy))")
        }
    }
}
