import Diagnosis
import Aggregation
import Foundation
import Lab
import LinuxSupport
import Reports
import Testing

/// Every kind of command that findings offer, applied in a sandbox where the fault is.
@Suite(.enabled(if: Live.obstacle == nil, "\(Live.obstacle ?? "")"))
struct CureTests {
    struct Case: CustomTestStringConvertible, Sendable {
        var testDescription: String
        /// What iptables-restore takes in the router.
        var rules = ""
        var tool = "iptables-nft"
        /// Commands before.
        var commands: [String] = []
        /// The request, as a shell command: what must fail before the cure and succeed behind it.
        var request: String
        /// Whether it fails before.
        var isBroken = true
        /// The findings, and whether each has a command.
        var findings: [String: Bool]
    }

    private static let web = "ip netns exec c ipt-trace lab connect 10.0.2.2 80"

    static let cases: [Case] = [
        Case(
            testDescription: "forwarding", commands: ["ip netns exec r sysctl -qw net.ipv4.ip_forward=0"], request: web,
            findings: ["forwarding-disabled": true]),
        Case(
            testDescription: "forwarding of IPv6", commands: ["ip netns exec r sysctl -qw net.ipv6.conf.all.forwarding=0"],
            request: "ip netns exec c ping -c 1 -W 1 fd00:2::2", findings: ["forwarding-disabled": true]),
        Case(
            testDescription: "the reverse-path filter of an interface with a dot in its name",
            commands: [
                "ip netns exec r sysctl -qw net/ipv4/conf/lan.0/rp_filter=1", "ip -n r route add 10.0.9.0/24 via 10.0.2.2",
                "ip -n c address add 10.0.9.9/32 dev lo", "ip -n c link add eth2 type veth peer name eth2 netns s",
                "ip -n c link set eth2 up", "ip -n s link set eth2 up", "ip -n s route add 10.0.9.9 dev eth2",
            ], request: "ip netns exec c ping -c 1 -W 1 -I 10.0.9.9 10.0.2.2", findings: ["reverse-path-filter": true]),
        Case(
            testDescription: "answers that a policy drops",
            rules: "*filter\n:FORWARD DROP [0:0]\n-A FORWARD -i lan.0 -j ACCEPT\nCOMMIT\n", request: web,
            findings: ["replies-dropped": true]),
        Case(
            testDescription: "answers that a policy of iptables-legacy drops",
            rules: "*filter\n:FORWARD DROP [0:0]\n-A FORWARD -i lan.0 -j ACCEPT\nCOMMIT\n", tool: "iptables-legacy",
            request: web, findings: ["replies-dropped": true]),
        Case(
            testDescription: "answers that are accepted in a chain that is jumped to, behind INVALID",
            rules: "*filter\n:FORWARD DROP [0:0]\n:SUB - [0:0]\n-A FORWARD -j SUB\n-A FORWARD -i lan.0 -j ACCEPT\n"
                + "-A SUB -m conntrack --ctstate INVALID -j DROP\n-A SUB -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n"
                + "COMMIT\n", request: web, isBroken: false, findings: [:]),
        Case(
            testDescription: "a redirection with a comment to be quoted and an input interface",
            rules: "*nat\n-A PREROUTING -d 10.0.1.1/32 -i lan.0 -p tcp -m tcp --dport 8080 -m comment "
                + "--comment \"web server (old), it's $HOME \\\"quoted\\\" [a] \\\\ `x`\" -j DNAT --to-destination 10.0.2.2:80\nCOMMIT\n",
            request: "ip netns exec r ipt-trace lab connect 10.0.1.1 8080",
            findings: ["dnat-missing-for-local": true]),
        Case(
            testDescription: "a redirection behind a rule of OUTPUT that ends the traversal",
            rules: "*nat\n-A PREROUTING -d 10.0.1.1/32 -p tcp -m tcp --dport 8080 -j DNAT --to-destination 10.0.2.2:80\n"
                + "-A OUTPUT -d 10.0.0.0/8 -j ACCEPT\nCOMMIT\n", tool: "iptables-legacy",
            request: "ip netns exec r ipt-trace lab connect 10.0.1.1 8080",
            findings: ["dnat-missing-for-local": true]),
        Case(
            testDescription: "a redirection of all destinations but the one that is reached",
            rules:
                "*nat\n-A PREROUTING ! -d 10.0.2.2/32 -i lan.0 -p tcp -m tcp --dport 80 -j DNAT --to-destination 10.0.1.1:3128\n"
                + "COMMIT\n", request: "ip netns exec r ipt-trace lab connect 10.0.2.2 80", isBroken: false,
            findings: [:]),
        Case(
            testDescription: "a forwarded port that leads back into the client's network",
            rules: "*nat\n-A PREROUTING -d 10.0.2.1/32 -p tcp -m tcp --dport 8080 -j DNAT --to-destination 10.0.2.2:80\n"
                + "-A POSTROUTING -d 10.0.0.0/8 -j ACCEPT\nCOMMIT\n",
            commands: ["ip netns exec r sysctl -qw net.ipv4.conf.all.send_redirects=0"],
            request: "ip netns exec s ipt-trace lab connect 10.0.2.1 8080",
            findings: ["hairpin-without-masquerade": true]),
        Case(
            testDescription: "two conditions on a mark with a jump between that sets it",
            rules: "*filter\n:FORWARD DROP [0:0]\n:w - [0:0]\n:a - [0:0]\n:b - [0:0]\n"
                + "-A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n-A FORWARD -j w\n"
                + "-A FORWARD -m mark --mark 0x1/0x1 -j ACCEPT\n-A w -j MARK --set-xmark 0x0/0x1\n-A w -j a\n"
                + "-A w -m mark --mark 0x1/0x1 -j RETURN\n-A w -j b\n-A w -m mark --mark 0x1/0x1 -j RETURN\n-A w -j DROP\n"
                + "-A b -p tcp -m tcp --dport 80 -j MARK --set-xmark 0x1/0x1\nCOMMIT\n", request: web, isBroken: false,
            findings: [:]),
    ]

    /// A client, a router and a server that answers on port 80.
    private static let network = """
        for n in c r s; do
            ip netns add $n; ip -n $n link set lo up
            ip netns exec $n sysctl -qw net.ipv6.conf.default.accept_dad=0 net.ipv4.conf.all.rp_filter=0 \
                net.ipv4.conf.default.rp_filter=0
        done
        ip -n c link add eth0 type veth peer name lan.0 netns r
        ip -n s link add eth0 type veth peer name eth1 netns r
        ip -n r link set lan.0 address 02:00:00:00:00:01
        ip -n c address add 10.0.1.2/24 dev eth0; ip -n r address add 10.0.1.1/24 dev lan.0
        ip -n s address add 10.0.2.2/24 dev eth0; ip -n r address add 10.0.2.1/24 dev eth1
        ip -n c address add fd00:1::2/64 dev eth0 nodad; ip -n r address add fd00:1::1/64 dev lan.0 nodad
        ip -n s address add fd00:2::2/64 dev eth0 nodad; ip -n r address add fd00:2::1/64 dev eth1 nodad
        for l in "c eth0" "s eth0" "r lan.0" "r eth1"; do ip -n ${l% *} link set ${l#* } up; done
        ip -n c route add default via 10.0.1.1; ip -n s route add default via 10.0.2.1
        ip -n c route add default via fd00:1::1; ip -n s route add default via fd00:2::1
        ip netns exec r sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
        for a in 10.0.2.2 fd00:2::2; do for i in 1 2 3 4 5 6; do ip netns exec c ping -c 1 -W 1 $a && break; done; done
        """

    @Test("a finding's cure is accepted in its namespace and mends the fault")
    func cures() async throws {
        try await withThrowingTaskGroup(of: Void.self) { group in
            for (index, test) in Self.cases.enumerated() {
                if index >= 4 { try await group.next() }
                group.addTask { try await apply(test) }
            }
            try await group.waitForAll()
        }
    }

    private func apply(_ test: Case) async throws {
        try await Sandbox.with { sandbox in
            func shell(_ command: String) async throws -> Bool {
                let command = command.replacingOccurrences(of: "ipt-trace", with: Live.program)
                return try await sandbox.run(["timeout", "2", "sh", "-c", command]).isSuccess
            }
            try await sandbox.require(["sh", "-ec", Self.network])
            let server = try SandboxProcess(["ip", "netns", "exec", "s", Live.program, "lab", "serve", "80"], in: sandbox)
            if !test.rules.isEmpty {
                try await sandbox.require(["ip", "netns", "exec", "r", "\(test.tool)-restore"], input: test.rules)
            }
            for command in test.commands { try await sandbox.require(["sh", "-ec", command]) }
            #expect(try await sandbox.trace("install-probes", "--netns", "r").isSuccess)
            try await sandbox.collecting("--netns", "r") { _ in
                #expect(try await shell(test.request) != test.isBroken, "\(test) before")
                // A drop is certain some time after.
                try await Task.sleep(for: .seconds(1.5))
                let findings = try await sandbox.get(FindingsReport.self, "/findings").findings.filter {
                    !["one-way", "packets-dropped"].contains($0.kind)
                }
                let kinds = Dictionary(findings.map { ($0.kind, $0.cures.first?.command != nil) }) { $0 && $1 }
                #expect(kinds == test.findings, "\(test): \(findings)")
                for finding in findings {
                    guard let cure = finding.cures.first?.command else { continue }
                    let output = try await sandbox.run(["sh", "-c", cure])
                    #expect(output.isSuccess, "\(test): \(cure): \(output.standardError)")
                }
                // Two seconds may be too short on a machine that other tests keep busy.
                var isMended = false
                for _ in 0..<3 where !isMended { isMended = try await shell(test.request) }
                #expect(isMended, "\(test): \(findings.flatMap(\.cures).map(\.command))")
                // Nothing was put before a probe.
                let probes = try await sandbox.trace("probes", "--netns", "r").standardOutput
                #expect(!probes.contains("covered"), "\(test): \(probes)")
            }
            await server.stop()
        }
    }

    static let comments = [
        "plain", "web server (old)", "it's", "\\\"quoted\\\"", "$(reboot) `x` $HOME", "\\\\ \\\\\\\\", "[a-z]* ?",
        "a;b|c&d>e<f", "!x",
        "~ #no", "-j DROP", "! -d 1.2.3.4", "ünï→",
    ]

    @Test("a rule that may be deleted is, and none but it, by either backend", arguments: ["iptables-nft", "iptables-legacy"])
    func deletions(_ tool: String) async throws {
        try await Sandbox.with { sandbox in
            var lines = ["*filter", ":OUTPUT ACCEPT [0:0]", "-A OUTPUT -p icmp -j ACCEPT"]
            lines += Self.comments.map { "-A OUTPUT -d 127.0.0.0/8 -p icmp -m comment --comment \"\($0)\" -j ACCEPT" }
            lines += [
                "-A OUTPUT -p icmp -m icmp --icmp-type 8 -j ACCEPT", "-A OUTPUT ! -o eth+ -p icmp -j ACCEPT",
                "-A OUTPUT -p icmp -m conntrack ! --ctstate INVALID -j ACCEPT",
                "-A OUTPUT -p icmp -m mark --mark 0x0/0x1 -j ACCEPT",
                "-A OUTPUT -p icmp -m ttl --ttl-gt 3 -j ACCEPT",
                // Not these: another verdict, conditions with a memory, and one whose deletion would take the first rule.
                "-A OUTPUT -p icmp -j REJECT", "-A OUTPUT -p icmp -m limit --limit 1/sec -j ACCEPT",
                "-A OUTPUT -p icmp -j ACCEPT",
                "COMMIT", "",
            ]
            try await sandbox.require(["\(tool)-restore"], input: lines.joined(separator: "\n"))
            #expect(try await sandbox.trace("install-probes", "--netns", "host").isSuccess)
            try await sandbox.collecting("--netns", "host") { _ in
                try await sandbox.sh("ping -c 1 -W 1 127.0.0.1")
                try await Task.sleep(for: .seconds(1))
                let cures = try await sandbox.get(FindingsReport.self, "/findings").findings.flatMap(\.cures).map(\.command)
                #expect(cures.count == Self.comments.count + 5, "\(cures)")
                for cure in cures {
                    let output = try await sandbox.run(["sh", "-c", cure])
                    #expect(output.isSuccess, "\(cure): \(output.standardError)")
                }
            }
            #expect(try await sandbox.trace("remove-probes").isSuccess)
            let after = try await sandbox.rules(tool: "\(tool)-save")
            let left = [
                "-A OUTPUT -p icmp -j ACCEPT", "-A OUTPUT -p icmp -j REJECT", "-m limit", "-A OUTPUT -p icmp -j ACCEPT",
            ]
            #expect(after.filter { $0.hasPrefix("-A") }.count == left.count, "\(after)")
            #expect(zip(after.filter { $0.hasPrefix("-A") }, left).allSatisfy { $0.contains($1) }, "\(after)")
        }
    }
}
