import Foundation
import Lab
import LinuxSupport
import Testing

/// That probes come and go without harm: two at once, killed at any moment, with a damaged journal, beside native rules. A few tries
/// of each; `TRIES=200` for more.
@Suite(.serialized, .enabled(if: Live.obstacle == nil, "\(Live.obstacle ?? "")"))
struct ProbeSafetyTests {
    private static let tries = ProcessInfo.processInfo.environment["TRIES"].flatMap { Int($0) } ?? 4

    /// Two namespaces with rules of a user's, in one backend.
    private static func prepare(_ sandbox: Sandbox, backend: String = "nft") async throws {
        for netns in ["a", "b"] {
            try await sandbox.sh("ip netns add \(netns)")
            for rule in [
                "-N WEB", "-A INPUT -j WEB", "-A WEB -p tcp --dport 80 -j ACCEPT", "-P FORWARD DROP",
                "-t nat -A POSTROUTING -s 10.0.0.0/8 -j MASQUERADE",
            ] { try await sandbox.sh("ip netns exec \(netns) iptables-\(backend) \(rule)") }
            try await sandbox.sh("ip netns exec \(netns) nft add table inet mine")
        }
    }

    /// All rules of both namespaces; legacy ones without counters, comments, and empty tables.
    private static func everything(_ sandbox: Sandbox) async throws -> [[String]] {
        var rules: [[String]] = []
        for netns in ["a", "b"] {
            rules.append(
                try await sandbox.sh("ip netns exec \(netns) nft -s list ruleset").split(separator: "\n").map(String.init))
            rules.append(try await sandbox.rules(netns, tool: "iptables-legacy-save").filter { $0.hasPrefix("-A") })
        }
        return rules
    }

    private static func journalFiles(_ sandbox: Sandbox) async throws -> String {
        try await sandbox.run(["find", "/run/ipt-trace/probes", "-type", "f"]).standardOutput
            .trimmingCharacters(in: .whitespacesAndNewlines)
    }

    @Test("two installations at once leave the probes of one of them, and removal leaves nothing")
    func pairs() async throws {
        try await Sandbox.with { sandbox in
            try await Self.prepare(sandbox)
            let before = try await Self.everything(sandbox)
            for attempt in 0..<Self.tries {
                async let one = sandbox.trace("install-probes", "--netns", "a", "--family", "ipv4", "--user-chains")
                async let other = sandbox.trace("install-probes", "--netns", "a", "--family", "ipv4", "--sentinels")
                let codes = try await [one.exitCode, other.exitCode]
                #expect(codes == [0, 0], "try \(attempt)")
                let rules = try await sandbox.sh("ip netns exec a nft list ruleset")
                let runs = Set(rules.matches(of: #/ipt-trace:([0-9a-f]+):/#).map(\.output.1))
                #expect(runs.count == 1, "try \(attempt)")
                #expect(try await Self.journalFiles(sandbox).split(separator: "\n").count == 1, "try \(attempt)")
                let removed = try await sandbox.trace("remove-probes", "--verify")
                #expect(removed.isSuccess, "try \(attempt): \(removed.standardError)")
                #expect(try await Self.everything(sandbox) == before, "try \(attempt)")
            }
        }
    }

    @Test(
        "killed at any moment, the next removal clears everything and proves it",
        arguments: [
            (["remove-probes"], "nft"), (["remove-probes"], "legacy"),
            (["install-probes", "--netns", "a", "--netns", "b", "--user-chains", "--sentinels"], "nft"),
            (["install-probes", "--netns", "a", "--netns", "b", "--user-chains"], "legacy"),
            (["trace", "--netns", "a", "--netns", "b", "--sentinels", "--duration", "1s"], "nft"),
        ])
    func killed(_ command: [String], _ backend: String) async throws {
        try await Sandbox.with { sandbox in
            try await Self.prepare(sandbox, backend: backend)
            let before = try await Self.everything(sandbox)
            for attempt in 0..<Self.tries {
                if command == ["remove-probes"] {
                    _ = try await sandbox.trace("install-probes", "--netns", "a", "--netns", "b", "--user-chains")
                }
                // Alternately with and without the programs that it has started.
                let delay = Double.random(in: 0.01...(command.first == "trace" ? 1 : 0.25))
                let killer = ["timeout", "--signal=KILL"] + (attempt % 2 == 0 ? ["--foreground"] : []) + ["\(delay)"]
                _ = try await sandbox.run(killer + [Live.program] + command)
                let removed = try await sandbox.trace("remove-probes", "--verify")
                #expect(removed.isSuccess, "killed after \(delay) s: \(removed.standardOutput) \(removed.standardError)")
                #expect(try await Self.everything(sandbox) == before, "killed after \(delay) s")
                #expect(try await Self.journalFiles(sandbox).isEmpty, "killed after \(delay) s")
            }
        }
    }

    @Test(
        "with a damaged journal everything goes, and the doubt is said with exit code 2",
        arguments: [
            ("deleted", "rm JOURNAL", "missing"), ("all deleted", "rm -r /run/ipt-trace", "missing"),
            ("empty", "truncate --size 0 JOURNAL", "damaged"), ("cut", "truncate --size 100 JOURNAL", "damaged"),
            ("of another kind", "cp /proc/version JOURNAL", "damaged"),
            ("of another run", "mv JOURNAL /run/ipt-trace/probes/aaaaaa.json", "damaged"),
            ("of another boot", "sed -i s/\"bootID\".*/\"bootID\":\"1\",/ JOURNAL", "missing"),
            ("without a field", "sed -i /\"group\"/d JOURNAL", "damaged"),
            ("with a rule less", "sed -i s/-A.INPUT.-j.WEB// JOURNAL", "damaged"),
            ("with another chain", "sed -i s/\"POSTROUTING\"/\"POSTROUTINX\"/ JOURNAL", "damaged"),
            ("reformatted", "sed -i s/\"digest\".:/\"digest\":/ JOURNAL", "damaged"),
            ("of another version", "sed -i s/\"schema\".*/\"schema\":1,/ JOURNAL", "damaged"),
        ])
    func journal(_ kind: String, _ damage: String, _ said: String) async throws {
        try await Sandbox.with { sandbox in
            try await Self.prepare(sandbox)
            let before = try await Self.everything(sandbox)
            _ = try await sandbox.trace("install-probes", "--sentinels", "--user-chains")
            let file = try await Self.journalFiles(sandbox)
            try await sandbox.sh(damage.replacing("JOURNAL", with: file))
            let removed = try await sandbox.trace("remove-probes", "--verify")
            #expect(removed.exitCode == 2, "\(removed.standardOutput) \(removed.standardError)")
            #expect(removed.standardError.contains("not verified: the journal") && removed.standardError.contains(said))
            #expect(try await Self.everything(sandbox) == before)
            #expect(try await Self.journalFiles(sandbox).isEmpty)
            // It is said once.
            #expect(try await sandbox.trace("remove-probes", "--verify").isSuccess)
        }
    }

    @Test(
        "probes in tables that iptables-save cannot print are found, removed, and proved by nf_tables' own listing",
        arguments: [
            (
                "native chains",
                """
                add table ip filter
                add chain ip filter FORWARD { type filter hook forward priority filter; policy accept; }
                add rule ip filter FORWARD ct state established accept
                add table ip nat
                add chain ip nat POSTROUTING { type nat hook postrouting priority srcnat; policy accept; }
                add rule ip nat POSTROUTING oifname "x" masquerade
                """
            ),
            (
                "a rule without words in iptables",
                """
                add table ip filter
                add chain ip filter vpn
                add chain ip filter INPUT { type filter hook input priority filter; policy accept; }
                add rule ip filter INPUT counter jump vpn
                add rule ip filter vpn iifname "v*" counter meta mark set meta mark & 0xffff04ff | 0x00000400
                """
            ),
            (
                "a set beside them",
                """
                add table ip6 filter
                add set ip6 filter bad { type ipv6_addr; }
                add chain ip6 filter INPUT { type filter hook input priority 0; policy drop; }
                add rule ip6 filter INPUT ip6 saddr @bad drop
                add table ip mangle
                add set ip mangle kept { type ipv4_addr; }
                """
            ),
        ])
    func native(_ kind: String, _ rules: String) async throws {
        try await Sandbox.with { sandbox in
            try await sandbox.require(["nft", "-f", "-"], input: rules)
            let before = try await sandbox.sh("nft -s list ruleset")
            let installed = try await sandbox.trace("install-probes", "--netns", "host", "--user-chains")
            #expect(installed.isSuccess, "\(installed.standardError)")
            let listed = try await sandbox.trace("probes", "--netns", "host").standardOutput.split(separator: "\n")
            #expect(listed.count { $0.contains("in place") } >= 34)
            let removed = try await sandbox.trace("remove-probes", "--verify")
            #expect(removed.isSuccess, "\(removed.standardOutput) \(removed.standardError)")
            #expect(try await sandbox.sh("nft -s list ruleset") == before)
        }
    }

    @Test(
        "probes whose chain was renamed, or that were copied to another chain, go too",
        arguments: [
            ("renamed", "nft", ["-E WEB SHOP"]), ("renamed", "legacy", ["-E WEB SHOP"]),
            ("copied", "nft", ["-A WEB -j NFLOG --nflog-prefix ipt-trace:RUN:filter:INPUT"]),
            ("copied", "legacy", ["-A WEB -j NFLOG --nflog-prefix ipt-trace:RUNL:filter:INPUT"]),
            ("copied to another table", "nft", ["-t mangle -A INPUT -j NFLOG --nflog-prefix ipt-trace:RUN:filter:INPUT"]),
        ])
    func moved(_ kind: String, _ backend: String, _ changes: [String]) async throws {
        try await Sandbox.with { sandbox in
            try await Self.prepare(sandbox, backend: backend)
            let before = try await Self.everything(sandbox)
            _ = try await sandbox.trace("install-probes", "--netns", "a", "--user-chains")
            let run = try await Self.journalFiles(sandbox).split(separator: "/").last?.prefix(6) ?? ""
            for change in changes {
                try await sandbox.sh("ip netns exec a iptables-\(backend) \(change.replacing("RUN", with: run))")
            }
            let removed = try await sandbox.trace("remove-probes", "--verify")
            #expect(removed.exitCode == (kind == "renamed" ? 2 : 0), "\(removed.standardOutput) \(removed.standardError)")
            if kind == "renamed" { try await sandbox.sh("ip netns exec a iptables-\(backend) -E SHOP WEB") }
            #expect(try await Self.everything(sandbox) == before)
        }
    }

    @Test("rules that nft has put back with the probes in them are as they were once these are out")
    func putBack() async throws {
        try await Sandbox.with { sandbox in
            try await sandbox.sh("iptables-nft -A FORWARD -p icmp -j ACCEPT")
            try await sandbox.sh("iptables-nft -t mangle -A FORWARD -p tcp -j ACCEPT")
            let before = try await sandbox.sh("nft -s list ruleset")
            _ = try await sandbox.trace("install-probes", "--netns", "host", "--sentinels")
            let rules = try await sandbox.sh("nft list ruleset")
            try await sandbox.require(["nft", "-f", "-"], input: "flush ruleset\n\(rules)")
            let removed = try await sandbox.trace("remove-probes", "--verify")
            #expect(removed.isSuccess, "\(removed.standardOutput) \(removed.standardError)")
            #expect(try await sandbox.sh("nft -s list ruleset") == before)
        }
    }

    @Test(
        "chains and comments with any letters are in nobody's way",
        arguments: ["nft", "legacy"], ["a\"b", "a\\b", "\"", "q'q", "x:y", "a<b", "\u{301}x"])
    func oddNames(_ backend: String, _ name: String) async throws {
        try await Sandbox.with { sandbox in
            for rule in [["-N", name], ["-A", "FORWARD", "-m", "comment", "--comment", "\u{301} y", "-j", name]] {
                try await sandbox.require(["iptables-\(backend)"] + rule)
            }
            let tool = "iptables-\(backend)-save"
            let before = try await sandbox.rules(tool: tool)
            let installed = try await sandbox.trace("install-probes", "--netns", "host", "--user-chains", "--table", "filter")
            #expect(installed.isSuccess, "\(installed.standardError)")
            let removed = try await sandbox.trace("remove-probes", "--verify")
            #expect(removed.isSuccess, "\(removed.standardOutput) \(removed.standardError)")
            #expect(try await sandbox.rules(tool: tool) == before)
        }
    }

    @Test(
        "without the programs of a backend its probes go, or it is said that they stay",
        arguments: [("nft", 0), ("legacy", 1)])
    func programsGone(_ backend: String, _ code: Int32) async throws {
        try await Sandbox.with { sandbox in
            try await Self.prepare(sandbox, backend: backend)
            let before = try await Self.everything(sandbox)
            _ = try await sandbox.trace("install-probes", "--netns", "a", "--table", "filter")
            // Where other programs are found: all but those of the backend.
            try await sandbox.sh("mkdir /run/programs")
            try await sandbox.sh("cp -a /usr/sbin/. /run/programs")
            try await sandbox.sh("find /run/programs -name ip*tables-\(backend)* -delete")
            try await sandbox.sh("mount --bind /run/programs /usr/sbin")
            let removed = try await sandbox.trace("remove-probes", "--verify")
            try await sandbox.sh("umount /usr/sbin")
            #expect(removed.exitCode == code, "\(removed.standardOutput) \(removed.standardError)")
            #expect(!removed.standardOutput.contains("verified") || code == 0)
            if code != 0 { #expect(try await sandbox.trace("remove-probes", "--verify").isSuccess) }
            #expect(try await Self.everything(sandbox) == before)
        }
    }

    @Test("probes go although there is no room for the journal")
    func noRoom() async throws {
        try await Sandbox.with { sandbox in
            try await Self.prepare(sandbox)
            let before = try await Self.everything(sandbox)
            try await sandbox.sh("mkdir -p /run/ipt-trace")
            try await sandbox.sh("mount -t tmpfs -o size=200k none /run/ipt-trace")
            _ = try await sandbox.trace("install-probes", "--netns", "a", "--netns", "b")
            _ = try await sandbox.run(["dd", "if=/dev/zero", "of=/run/ipt-trace/filler", "bs=4k", "count=100"])
            let removed = try await sandbox.trace("remove-probes", "--verify")
            #expect(removed.isSuccess, "\(removed.standardOutput) \(removed.standardError)")
            #expect(try await Self.everything(sandbox) == before)
            #expect(try await Self.journalFiles(sandbox).isEmpty)
        }
    }

    @Test("a native rule that comes meanwhile is a difference, and the probes go all the same")
    func nativeMeanwhile() async throws {
        try await Sandbox.with { sandbox in
            _ = try await sandbox.trace("install-probes", "--netns", "host", "--family", "ipv4")
            try await sandbox.require(
                ["nft", "-f", "-"], input: "add rule ip filter INPUT meta mark set meta mark & 0xff | 1\n")
            let removed = try await sandbox.trace("remove-probes", "--verify")
            #expect(removed.exitCode == 2 && removed.standardOutput.contains("17 probes removed"))
            #expect(removed.standardOutput.contains("+ *filter -A INPUT (nf_tables: meta bitwise meta"))
            #expect(!(try await sandbox.sh("nft list ruleset").contains("ipt-trace")))
        }
    }

    @Test("a removal in one namespace touches the record of that namespace alone")
    func oneNamespace() async throws {
        try await Sandbox.with { sandbox in
            try await Self.prepare(sandbox)
            let before = try await Self.everything(sandbox)
            _ = try await sandbox.trace("install-probes", "--netns", "a", "--netns", "b")
            #expect(try await sandbox.trace("remove-probes", "--netns", "a", "--verify").isSuccess)
            let journal = try await sandbox.sh("cat \(try await Self.journalFiles(sandbox))")
            #expect(
                journal.contains("\"installed\"") && !journal.contains("\"removing\"") && !journal.contains("\"name\" : \"a\""))
            let rows = try await sandbox.trace("probes").standardOutput
            #expect(!rows.contains("lost") && rows.contains("\nb "))
            #expect(try await sandbox.trace("remove-probes", "--verify").isSuccess)
            #expect(try await Self.everything(sandbox) == before)
        }
    }

    @Test(
        "probes behind jumps stand behind their jumps although another program inserts rules meanwhile",
        arguments: ["nft", "legacy"])
    func insertions(_ backend: String) async throws {
        try await Sandbox.with { sandbox in
            try await Self.prepare(sandbox, backend: backend)
            for number in 0..<6 {
                try await sandbox.sh("ip netns exec a iptables-\(backend) -N C\(number)")
                try await sandbox.sh(
                    "ip netns exec a iptables-\(backend) -A FORWARD -p tcp --dport \(number + 1) -j C\(number)")
            }
            let rule = "FORWARD -p udp --dport 9 -j ACCEPT"
            let other = try SandboxProcess(
                [
                    "ip", "netns", "exec", "a", "bash", "-c",
                    "for i in {1..500}; do iptables-\(backend) -w -I \(rule); iptables-\(backend) -w -D \(rule); done",
                ], in: sandbox)
            var found = 0
            for attempt in 0..<Self.tries {
                let installed = try await sandbox.trace("install-probes", "--netns", "a", "--family", "ipv4", "--user-chains")
                #expect(installed.isSuccess, "try \(attempt): \(installed.standardError)")
                var last = ""
                for line in try await sandbox.rules("a", tool: "iptables-\(backend)-save") where line.hasPrefix("-A FORWARD") {
                    guard let prefix = line.firstMatch(of: #/"ipt-trace:[^<"]*<([A-Z0-9]+)"/#) else {
                        last = line
                        continue
                    }
                    found += 1
                    #expect(last.hasSuffix("-j \(prefix.output.1)"), "try \(attempt): \(line) behind \(last)")
                }
            }
            #expect(found == 6 * Self.tries)
            await other.stop(signal: 9)
        }
    }

    @Test("an iptables that reports success and does nothing is an error", arguments: ["nft", "legacy"])
    func nothingDone(_ backend: String) async throws {
        try await Sandbox.with { sandbox in
            try await Self.prepare(sandbox, backend: backend)
            let tool = try await sandbox.sh("which iptables-\(backend)-restore").trimmingCharacters(in: .whitespacesAndNewlines)
            try await sandbox.require(["sh", "-c", "printf '#!/bin/sh\\ncat >/dev/null\\n' >/run/idle; chmod +x /run/idle"])
            // The programs of one backend are links to one file, which must stay.
            let directory = (tool as NSString).deletingLastPathComponent
            try await sandbox.require([
                "sh", "-c",
                "mkdir -p /run/sbin && cp -a \(directory)/. /run/sbin/ && rm /run/sbin/iptables-\(backend)-restore && "
                    + "cp /run/idle /run/sbin/iptables-\(backend)-restore && mount --bind /run/sbin \(directory)",
            ])
            let installed = try await sandbox.trace("install-probes", "--netns", "a", "--family", "ipv4")
            #expect(installed.exitCode == 1)
            #expect(installed.standardError.contains("reported success, but"), "\(installed.standardError)")
        }
    }
}
