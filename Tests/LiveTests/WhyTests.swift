import Diagnosis
import Foundation
import Lab
import LinuxSupport
import Reports
import Testing

/// `why`, asked on a small network whose faults are known: the answer, and whether its cure mends the fault.
@Suite(.enabled(if: Live.obstacle == nil, "\(Live.obstacle ?? "")"))
struct WhyTests {
    struct Case: Sendable, CustomTestStringConvertible {
        var name: String
        /// What makes it fail; each line runs in a shell of the sandbox.
        var fault = ""
        var question = "10.0.2.2:80/tcp"
        var outcome: WhyAnswer.Outcome
        var direction: String?
        /// The beginning of the rule that decided, and its namespace.
        var rule: String?
        var netns: String?
        /// The finding that explains it.
        var finding: String?
        /// The rules that led to it.
        var way: [String]?
        /// How the accepting rule that came closest to the packet is told of.
        var nearest: String?
        /// Whether its cures mend it.
        var isMended = false
        /// What comes of the first of them on a copy of the rules.
        var trial: CureTrial.Result? = .mends

        var testDescription: String { name }
        var exitCode: Int32 { outcome == .answered ? 0 : 2 }
    }

    static let cases = [
        Case(name: "nothing is wrong", outcome: .answered),
        Case(name: "an echo", question: "10.0.2.2", outcome: .answered),
        Case(name: "an echo of IPv6", question: "fd00:2::2", outcome: .answered),
        Case(
            name: "a rule of iptables",
            fault: "iptables-nft -A FORWARD -d 10.0.2.2 -p tcp --dport 80 -m comment --comment 'by netops' -j DROP",
            outcome: .dropped, direction: "original",
            rule: "-A FORWARD -d 10.0.2.2/32 -p tcp -m tcp --dport 80 -m comment --comment \"by netops\" -j DROP",
            netns: "host", isMended: true),
        Case(
            name: "a chain of a user's, entered by goto",
            fault: """
                iptables-nft -N BLOCK; iptables-nft -A BLOCK -s 10.9.9.9 -j DROP; iptables-nft -A BLOCK -p tcp -j DROP
                iptables-nft -A FORWARD -g BLOCK
                """, outcome: .dropped, direction: "original", rule: "-A BLOCK -p tcp -j DROP", netns: "host",
            way: ["-A FORWARD -g BLOCK"], isMended: true),
        Case(
            name: "a chain of iptables-legacy, entered by goto",
            fault: """
                iptables-legacy -N BLOCK; iptables-legacy -A BLOCK -s 10.9.9.9 -j DROP; iptables-legacy -A BLOCK -p tcp -j DROP
                iptables-legacy -A FORWARD -g BLOCK
                """, outcome: .dropped, direction: "original", rule: "-A BLOCK -p tcp -j DROP", netns: "host",
            way: ["-A FORWARD -g BLOCK"], isMended: true),
        Case(
            name: "a rule of iptables-legacy without conditions, which the kernel calls a return",
            fault: """
                ip netns exec s iptables-legacy -N ALL; ip netns exec s iptables-legacy -A ALL -j DROP
                ip netns exec s iptables-legacy -A INPUT -p tcp --dport 80 -j ALL
                """, outcome: .dropped, direction: "original", rule: "-A ALL -j DROP", netns: "s", isMended: true),
        Case(
            name: "a policy of iptables-legacy",
            fault: """
                ip netns exec s iptables-legacy -A INPUT -p tcp ! --dport 80 -j ACCEPT
                ip netns exec s iptables-legacy -P INPUT DROP
                """, outcome: .dropped, direction: "original", rule: "-P INPUT DROP", netns: "s",
            nearest: "-A INPUT -p tcp -m tcp ! --dport 80 -j ACCEPT would accept but for ! --dport 80 (it was 80)",
            isMended: true),
        Case(
            name: "a rule of ip6tables-legacy that rejects",
            fault: "ip6tables-legacy -t mangle -A FORWARD -s 1::1 -j DROP; ip6tables-legacy -A FORWARD -p ipv6-icmp -j REJECT",
            question: "fd00:2::2", outcome: .dropped, direction: "original",
            rule: "-A FORWARD -p ipv6-icmp -j REJECT --reject-with icmp6-port-unreachable", netns: "host", isMended: true),
        Case(
            name: "a policy",
            fault: """
                iptables-nft -A FORWARD -m conntrack --ctstate ESTABLISHED -j ACCEPT
                iptables-nft -A FORWARD -p udp --dport 53 -j ACCEPT
                iptables-nft -A FORWARD -i v1 -p tcp --dport 443 -j ACCEPT; iptables-nft -P FORWARD DROP
                """, outcome: .dropped, direction: "original", rule: "-P FORWARD DROP", netns: "host",
            nearest: "-A FORWARD -i v1 -p tcp -m tcp --dport 443 -j ACCEPT would accept but for --dport 443 (it was 80)",
            isMended: true),
        Case(
            name: "mangle/POSTROUTING, the last table of its hook",
            fault: "iptables-nft -t mangle -A POSTROUTING -p tcp -j DROP",
            outcome: .dropped, direction: "original", rule: "-A POSTROUTING -p tcp -j DROP", netns: "host", isMended: true),
        Case(
            name: "a rule that rejects", fault: "iptables-nft -A FORWARD -p tcp --dport 80 -j REJECT --reject-with tcp-reset",
            outcome: .dropped, direction: "original",
            rule: "-A FORWARD -p tcp -m tcp --dport 80 -j REJECT --reject-with tcp-reset", netns: "host", isMended: true),
        Case(
            name: "a native chain",
            fault: """
                nft 'add table inet fw; add chain inet fw passing { type filter hook forward priority 10; }'
                nft add rule inet fw passing tcp dport 80 counter drop
                """, outcome: .dropped, direction: "original", rule: "tcp dport 80 counter", netns: "host", isMended: true),
        Case(
            name: "a native chain before all of iptables' tables",
            fault: """
                nft 'add table inet first; add chain inet first coming { type filter hook prerouting priority -450; }'
                nft add rule inet first coming tcp dport 80 counter drop
                """, outcome: .dropped, direction: "original", rule: "tcp dport 80 counter", netns: "host", isMended: true,
            trial: .untried),
        Case(
            name: "a chain at an interface's ingress",
            fault: """
                nft 'add table netdev early; add chain netdev early coming { type filter hook ingress device "v1" priority 0; }'
                nft add rule netdev early coming tcp dport 80 counter drop
                """, outcome: .dropped, direction: "original", rule: "tcp dport 80 counter", netns: "host", isMended: true,
            trial: .untried),
        Case(
            name: "a chain of a bridge",
            fault: """
                ip link add br0 type bridge; ip address del 10.0.2.1/24 dev v2; ip link set v2 master br0
                ip address add 10.0.2.1/24 dev br0; ip link set br0 up; ip netns exec c ping -c 1 -W 2 10.0.2.2 || true
                nft 'add table bridge l2; add chain bridge l2 out { type filter hook output priority 0; }'
                nft add rule bridge l2 out tcp dport 80 counter drop
                """, outcome: .dropped, direction: "original", rule: "tcp dport 80 counter", netns: "host", isMended: true,
            trial: .untried),
        Case(
            name: "two rules, of which the cure is for the first",
            fault:
                "iptables-nft -A FORWARD -p tcp --dport 80 -j DROP; iptables-nft -t mangle -A POSTROUTING -p tcp --dport 80 -j DROP",
            outcome: .dropped, direction: "original", rule: "-A FORWARD -p tcp -m tcp --dport 80 -j DROP", netns: "host",
            isMended: true, trial: .fails),
        Case(
            name: "a rule behind one with a memory",
            fault: """
                iptables-nft -A FORWARD -p icmp --icmp-type 8 -m limit --limit 1/hour --limit-burst 1 -j ACCEPT
                iptables-nft -A FORWARD -p icmp --icmp-type 8 -j DROP; ip netns exec c ping -c 1 -W 1 10.0.2.2
                """, question: "10.0.2.2", outcome: .dropped, direction: "original",
            rule: "-A FORWARD -p icmp -m icmp --icmp-type 8 -j DROP", netns: "host", isMended: true, trial: .untried),
        Case(
            name: "a set of a native table",
            fault: """
                nft 'add table inet fw; add set inet fw closed { type inet_service; elements = { 80, 443 }; }'
                nft 'add chain inet fw passing { type filter hook forward priority 10; }'
                nft add rule inet fw passing tcp sport 1 drop
                nft add rule inet fw passing tcp dport @closed drop
                """, outcome: .dropped, direction: "original", rule: "tcp dport @closed drop", netns: "host", isMended: true),
        Case(
            name: "the policy of a native chain",
            fault: """
                nft 'add table inet fw; add chain inet fw passing { type filter hook forward priority 10; policy drop; }'
                nft add rule inet fw passing ct state established accept
                nft 'add rule inet fw passing iifname "v1" tcp dport { 22, 443 } accept'
                """, outcome: .dropped, direction: "original", rule: "policy drop", netns: "host",
            nearest: "iifname \"v1\" tcp dport { 22, 443 } accept would accept but for tcp dport { 22, 443 } (it was 80)",
            isMended: true),
        Case(
            name: "the sender's own rules, before its own translation",
            fault: """
                ip netns exec c iptables-nft -t mangle -A OUTPUT -p tcp --dport 8080 -j DROP
                ip netns exec c iptables-nft -t nat -A OUTPUT -d 192.0.2.7 -p tcp --dport 8080 -j DNAT --to 10.0.2.2:80
                """, question: "192.0.2.7:8080", outcome: .dropped, direction: "original",
            rule: "-A OUTPUT -p tcp -m tcp --dport 8080 -j DROP", netns: "c", isMended: true),
        Case(
            name: "a bridge's port that sends nothing back",
            fault: """
                ip link add br0 type bridge; ip address del 10.0.1.1/24 dev v1; ip link set v1 master br0
                ip address add 10.0.1.1/24 dev br0; ip link set br0 up; ip netns exec c ping -c 1 -W 2 10.0.1.1 || true
                sysctl -qw net.bridge.bridge-nf-call-iptables=1
                iptables-nft -t nat -A PREROUTING -d 10.0.1.1 -p tcp --dport 8080 -j DNAT --to 10.0.1.2:80
                iptables-nft -t nat -A POSTROUTING -s 10.0.1.0/24 -d 10.0.1.2 -j MASQUERADE
                ip netns exec c python3 -m http.server 80 > /dev/null 2>&1 &
                """, question: "10.0.1.1:8080", outcome: .dropped, direction: "original", finding: "bridge-hairpin",
            isMended: true, trial: nil),
        Case(
            name: "the server's own rules, behind a forwarded port",
            fault: """
                iptables-nft -t nat -A PREROUTING -d 10.0.1.1 -p tcp --dport 8080 -j DNAT --to 10.0.2.2:80
                ip netns exec s iptables-nft -A INPUT -p tcp --dport 80 -j DROP
                """, question: "10.0.1.1:8080", outcome: .dropped, direction: "original",
            rule: "-A INPUT -p tcp -m tcp --dport 80 -j DROP", netns: "s", isMended: true),
        Case(
            name: "IPv6", fault: "ip6tables-nft -A FORWARD -p ipv6-icmp --icmpv6-type 128 -j DROP", question: "fd00:2::2",
            outcome: .dropped, direction: "original", rule: "-A FORWARD -p ipv6-icmp -m icmp6 --icmpv6-type 128 -j DROP",
            netns: "host", isMended: true),
        Case(
            name: "the answer, where it is sent", fault: "ip netns exec s iptables-nft -A OUTPUT -p icmp -j DROP",
            question: "10.0.2.2", outcome: .dropped, direction: "reply", rule: "-A OUTPUT -p icmp -j DROP", netns: "s",
            isMended: true),
        Case(
            name: "the answer, on its way through the router",
            fault: "iptables-nft -A FORWARD -s 10.0.2.2 -p tcp --sport 80 -j DROP", outcome: .dropped, direction: "reply",
            rule: "-A FORWARD -s 10.0.2.2/32 -p tcp -m tcp --sport 80 -j DROP", netns: "host", isMended: true),
        Case(
            name: "the answer, by a policy that lets only questions out",
            fault: "ip netns exec c iptables-nft -P INPUT DROP", outcome: .dropped, direction: "reply", rule: "-P INPUT DROP",
            netns: "c", finding: "replies-dropped", isMended: true),
        Case(
            name: "nobody listens", question: "10.0.2.2:81", outcome: .refused, direction: "original", finding: "nobody-listens"
        ),
        Case(name: "nobody listens on a port of UDP", question: "10.0.2.2:81/udp", outcome: .refused, direction: "original"),
        Case(
            name: "forwarding is off", fault: "sysctl -qw net.ipv4.ip_forward=0", outcome: .dropped, direction: "original",
            finding: "forwarding-disabled", isMended: true, trial: nil),
        Case(name: "no route", fault: "ip -n c route del default", outcome: .notSendable),
    ]

    private static func ask(_ sandbox: Sandbox, _ words: [String]) async throws -> (answer: WhyAnswer, exitCode: Int32?) {
        let output = try await sandbox.run([Live.program, "why", "--json", "--quiet"] + words)
        let decoder = JSONDecoder()
        decoder.keyDecodingStrategy = .convertFromSnakeCase
        do {
            return (try decoder.decode(WhyAnswer.self, from: Data(output.standardOutput.utf8)), output.exitCode)
        } catch {
            Issue.record("\(words): \(output.exitCode) \(output.standardOutput) \(output.standardError)")
            throw error
        }
    }

    @Test("the rule, policy or fault that ends a packet's way, and a cure that mends it")
    func answers() async throws {
        try await withThrowingTaskGroup(of: Void.self) { group in
            for (index, test) in Self.cases.enumerated() {
                if index >= 2 { try await group.next() }
                group.addTask { try await Self.check(test) }
            }
            try await group.waitForAll()
        }
    }

    private static func check(_ test: Case) async throws {
        try await Sandbox.with { sandbox in
            try await sandbox.require(["sh", "-ec", routedNetwork])
            let server = try SandboxProcess(["ip", "netns", "exec", "s", Live.program, "lab", "serve", "80"], in: sandbox)
            if !test.fault.isEmpty { try await sandbox.require(["sh", "-ec", test.fault]) }
            let before = try await rules(sandbox)
            let question = [test.question, "--from", "c", "--send"]
            let (answer, exitCode) = try await ask(sandbox, question)
            let text = "\(test.name): \(answer)"
            #expect(
                answer.outcome == test.outcome && answer.direction == test.direction && exitCode == test.exitCode, "\(text)")
            let decided = answer.decidedBy.flatMap { $0.isRule ? $0 : nil }
            #expect(decided.map { $0.rule?.hasPrefix(test.rule ?? "?") == true } ?? (test.rule == nil), "\(text)")
            #expect(decided?.netns == test.netns, "\(text)")
            if let way = test.way { #expect(answer.decidedBy?.way == way, "\(text)") }
            if let nearest = test.nearest { #expect(answer.decidedBy?.nearest?.first?.text == nearest, "\(text)") }
            if let finding = test.finding { #expect(answer.findings.contains { $0.kind == finding }, "\(text)") }
            // Nothing is left behind.
            #expect(try await rules(sandbox) == before, "\(test.name)")
            #expect(answer.cures.isEmpty != test.isMended, "\(text)")
            if test.isMended { #expect(answer.cures.first?.trial?.result == test.trial, "\(text)") }
            if test.isMended { try await mend(answer, question, test, sandbox) }
            await server.stop()
        }
    }

    /// Applies the cures until there is an answer: past one rule there may be another, and the answer may meet the same one.
    private static func mend(_ first: WhyAnswer, _ question: [String], _ test: Case, _ sandbox: Sandbox) async throws {
        var answer = first
        for _ in 0..<2 where answer.outcome != .answered {
            for cure in answer.cures {
                let output = try await sandbox.run(["sh", "-c", cure.command])
                #expect(output.isSuccess, "\(test.name): \(cure.command): \(output.standardError)")
            }
            answer = try await ask(sandbox, question).answer
        }
        #expect(answer.outcome == .answered, "\(test.name), mended: \(answer)")
    }

    /// All rules of all namespaces, without counters.
    private static func rules(_ sandbox: Sandbox) async throws -> String {
        var text = ""
        for netns in ["host", "c", "s"] {
            let enter = netns == "host" ? [] : ["ip", "netns", "exec", netns]
            text += try await sandbox.require(enter + ["nft", "--stateless", "list", "ruleset"]).standardOutput
        }
        return text
    }

    struct Routed: Sendable, CustomTestStringConvertible {
        var testDescription: String
        var setup: String
        var question = "10.0.2.2:80"
        /// By namespace, on the way there: the beginning of what `ip route get fibmatch` prints, or why it goes nowhere.
        var expected: [String: String]
    }

    static let routed = [
        Routed(
            testDescription: "a default route, and a connected one", setup: "true",
            expected: ["c": "default via 10.0.1.1 dev eth0", "host": "10.0.2.0/24 dev v2", "s": "local 10.0.2.2 dev eth0"]),
        Routed(
            testDescription: "the longest prefix", setup: "ip route add 10.0.2.2/32 dev v2; ip route add 10.0.2.0/25 dev v2",
            expected: ["host": "10.0.2.2 dev v2"]),
        Routed(
            testDescription: "a table that a rule chooses by a mark",
            setup: """
                iptables-nft -t mangle -A PREROUTING -p tcp -j MARK --set-mark 7; ip rule add fwmark 7 table 100
                ip route add 10.0.0.0/16 dev v2 table 100
                """, expected: ["host": "10.0.0.0/16 dev v2 table 100"]),
        Routed(
            testDescription: "behind the translation of OUTPUT, which has it routed again",
            setup: "ip netns exec c iptables-nft -t nat -A OUTPUT -d 192.0.2.7 -j DNAT --to 10.0.2.2; "
                + "ip -n c route add 10.0.2.0/24 via 10.0.1.1", question: "192.0.2.7:80",
            expected: ["c": "10.0.2.0/24 via 10.0.1.1 dev eth0", "host": "10.0.2.0/24 dev v2"]),
        Routed(
            testDescription: "IPv6", setup: "true", question: "[fd00:2::2]:80",
            expected: ["c": "default via fd00:1::1 dev eth0", "host": "fd00:2::/64 dev v2"]),
        Routed(
            testDescription: "a blackhole", setup: "ip route add blackhole 10.0.2.2/32",
            expected: ["c": "default via 10.0.1.1 dev eth0", "host": "blackhole by blackhole 10.0.2.2"]),
        Routed(
            testDescription: "a prohibited destination", setup: "ip route add prohibit 10.0.2.2/32",
            expected: ["host": "prohibited by prohibit 10.0.2.2"]),
    ]

    @Test("how a packet is routed in each namespace, by the routes there", arguments: routed)
    func routes(_ test: Routed) async throws {
        try await Sandbox.with { sandbox in
            try await sandbox.require(["sh", "-ec", routedNetwork])
            try await sandbox.require(["sh", "-ec", test.setup])
            let server = try SandboxProcess(
                ["ip", "netns", "exec", "s", Live.program, "lab", "serve", "80", "--address", "::"], in: sandbox)
            try await waiting { server.output.contains("serving") }
            let (answer, _) = try await Self.ask(sandbox, [test.question, "--from", "c", "--send"])
            await server.stop()
            for (netns, expected) in test.expected {
                let route = answer.path?.routing?.last { $0.netns == netns }
                let text = try #require(route?.text, "\(netns): \(answer.path?.routing ?? [])")
                #expect(text.hasPrefix(expected), "\(netns)")
                #expect(route?.evidence == "inferred")
            }
        }
    }

    @Test("without --send nothing is sent, and what somebody sends is what is answered for")
    func waits() async throws {
        try await Sandbox.with { sandbox in
            try await sandbox.require(["sh", "-ec", routedNetwork])
            try await sandbox.sh("iptables-nft -A FORWARD -p icmp -j DROP")
            let (none, code) = try await Self.ask(sandbox, ["10.0.2.2", "--wait", "2s"])
            #expect(none.outcome == .notSeen && code == 3)
            async let asked = Self.ask(sandbox, ["10.0.2.2", "--from", "c", "--wait", "20s"])
            let pings = try SandboxProcess(
                ["ip", "netns", "exec", "c", "ping", "-c", "30", "-i", "0.5", "-W", "1", "10.0.2.2"], in: sandbox)
            let (answer, exitCode) = try await asked
            await pings.stop()
            #expect(answer.outcome == .dropped && exitCode == 2 && answer.decidedBy?.rule == "-A FORWARD -p icmp -j DROP")
            // Packets that begin elsewhere are not meant.
            let (other, otherCode) = try await Self.ask(sandbox, ["10.0.2.2", "--from", "s", "--wait", "1s"])
            #expect(other.outcome == .notSeen && otherCode == 3)
        }
    }

    @Test("killed while it waits, it leaves nothing behind")
    func killed() async throws {
        try await Sandbox.with { sandbox in
            try await sandbox.require(["sh", "-ec", routedNetwork])
            let before = try await Self.rules(sandbox)
            let asking = try SandboxProcess([Live.program, "why", "10.0.2.2"], in: sandbox)
            try await waiting {
                try await sandbox.require(["nft", "list", "ruleset"]).standardOutput.contains("ipt-trace-rules")
            }
            await asking.stop(signal: SIGKILL)
            try await waiting { try await Self.rules(sandbox) == before }
            #expect(try await Self.rules(sandbox) == before)
        }
    }

    @Test(
        "what cannot be asked is refused",
        arguments: [
            "10.0.0.0/8", "10.0.0.1:0", "10.0.0.1:99999", "10.0.0.1:80/icmp", "[10.0.0.1]:80", "10.0.0.1/none", "", ":80",
            "10.0.0.1/tcp --send", "10.0.0.1/sctp --send", "10.0.0.1 --source x",
        ])
    func refused(_ words: String) async throws {
        let words = words.isEmpty ? [""] : words.split(separator: " ").map(String.init)
        try await Sandbox.with { sandbox in
            let output = try await sandbox.run([Live.program, "why"] + words)
            #expect(output.exitCode == 64, "\(output.standardError)")
        }
    }
}
