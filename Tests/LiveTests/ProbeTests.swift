import Aggregation
import Foundation
import Lab
import LinuxSupport
import Reports
import Testing

/// Installing and removing against real iptables, in both backends and both families.
@Suite(.serialized, .enabled(if: Live.obstacle == nil, "\(Live.obstacle ?? "")"))
struct ProbeTests {
    @Test func everyBuiltInChainOfEveryTableGetsAProbeAtItsHead() async throws {
        try await Sandbox.with { sandbox in
            try await sandbox.sh("iptables -A INPUT -p tcp --dport 22 -j ACCEPT")
            #expect(
                try await sandbox.trace("install-probes", "--netns", "host").standardOutput.hasPrefix(
                    "34 probes in 1 namespace"))
            for tool in ["iptables-nft-save", "ip6tables-nft-save"] {
                let rules = try await sandbox.rules(tool: tool)
                var heads: Set<String> = []
                var table = ""
                var seen: Set<String> = []
                for line in rules {
                    if line.hasPrefix("*") { table = String(line.dropFirst()) }
                    guard line.hasPrefix("-A ") else { continue }
                    let chain = "\(table)/\(line.split(separator: " ")[1])"
                    if seen.insert(chain).inserted, line.contains("ipt-trace:") { heads.insert(chain) }
                }
                #expect(heads.count == 17)
                #expect(rules.filter { $0.contains("ipt-trace:") }.allSatisfy { $0.contains("--datestop") })
            }
        }
    }

    @Test func installingTwiceDoesNotDoubleTheProbes() async throws {
        try await Sandbox.with { sandbox in
            _ = try await sandbox.trace("install-probes")
            let second = try await sandbox.trace("install-probes", "--expires", "never")
            #expect(second.standardOutput.contains("34 earlier ones replaced"))
            let rules = try await sandbox.rules()
            #expect(rules.filter { $0.contains("ipt-trace:") }.count == 17)
            #expect(!rules.contains { $0.contains("--datestop") })
            #expect(try await sandbox.trace("remove-probes", "--verify").isSuccess)
            #expect(try await sandbox.rules().isEmpty)
        }
    }

    @Test func removingPutsEverythingBackInBothBackends() async throws {
        try await Sandbox.with { sandbox in
            for command in [
                "iptables-nft -t nat -A POSTROUTING -s 10.0.0.0/8 -j MASQUERADE", "iptables-nft -N WEB",
                "iptables-nft -A INPUT -j WEB", "iptables-nft -P FORWARD DROP", "ip6tables-nft -A INPUT -p ipv6-icmp -j ACCEPT",
                "iptables-legacy -A INPUT -s 192.0.2.1 -j DROP", "iptables-legacy -t raw -A OUTPUT -d 192.0.2.2 -j NOTRACK",
                "nft add table inet mine", "nft add chain inet mine input { type filter hook input priority 5 ; }",
            ] { try await sandbox.sh(command) }
            let tools = ["iptables-nft-save", "ip6tables-nft-save", "iptables-legacy-save", "ip6tables-legacy-save"]
            func everything() async throws -> [[String]] {
                var rules: [[String]] = [try await sandbox.sh("nft -s list ruleset").split(separator: "\n").map(String.init)]
                for tool in tools { rules.append(try await sandbox.rules(tool: tool)) }
                return rules
            }
            let before = try await everything()
            #expect(try await sandbox.trace("install-probes", "--user-chains").isSuccess)
            let listed = try await sandbox.trace("probes").standardOutput
            // Where a backend holds rules in a table its chains are probed; where both do, both are.
            #expect(listed.contains("WEB") && listed.contains("filter    INPUT"))
            #expect(try await sandbox.rules(tool: "iptables-legacy-save").filter { $0.contains("ipt-trace:") }.count == 5)
            let removed = try await sandbox.trace("remove-probes", "--verify")
            #expect(removed.isSuccess, "\(removed.standardOutput) \(removed.standardError)")
            #expect(try await everything() == before)
        }
    }

    @Test func sentinelsNameTheTableThatLosesAPacketAndLeaveNothingBehind() async throws {
        try await Sandbox.with { sandbox in
            // The last table of its hook, which no other table's probe follows.
            try await sandbox.sh("iptables -t mangle -A POSTROUTING -d 127.0.0.9 -j DROP")
            try await sandbox.sh("nft add table inet mine")
            let before = try await sandbox.sh("nft -s list ruleset")
            let installed = try await sandbox.trace(
                "install-probes", "--netns", "host", "--family", "ipv4", "--sentinels", "--match", "-p icmp")
            #expect(installed.standardOutput.hasPrefix("26 probes in 1 namespace"), "\(installed.standardError)")
            let listed = try await sandbox.trace("probes").standardOutput
            #expect(listed.split(separator: "\n").filter { $0.contains("sentinel") && $0.contains("in place") }.count == 9)
            try await sandbox.collecting("--netns", "host") { _ in
                _ = try await sandbox.run(["ping", "-c", "1", "-W", "1", "127.0.0.9"])
                let report = try await sandbox.paths { $0.paths.contains { $0.outcome == "dropped" } }
                let path = try #require(report.paths.first { $0.outcome == "dropped" })
                #expect(path.droppedBetween?.suspects == ["mangle/POSTROUTING"])
                #expect(path.droppedBetween?.before.map(\.chain) == ["POSTROUTING-before-nat"])
                #expect(report.completeness.events == (try await sandbox.probePackets()))
            }
            #expect(try await sandbox.trace("remove-probes", "--verify").isSuccess)
            #expect(try await sandbox.sh("nft -s list ruleset") == before)
            let refused = try await sandbox.trace("install-probes", "--sentinels", "--match", "-m u32 --u32 0=0")
            #expect(refused.exitCode == 64 && refused.standardError.contains("leave --sentinels out"), "\(refused)")
            #expect(try await sandbox.sh("nft -s list ruleset") == before)
        }
    }

    @Test func rulesOfBothBackendsAndRulesPutBeforeAProbeAreFound() async throws {
        try await Sandbox.with { sandbox in
            try await sandbox.sh("iptables-nft -A INPUT -s 192.0.2.1 -j DROP")
            #expect(try await sandbox.trace("install-probes", "--netns", "host").isSuccess)
            try await sandbox.collecting("--netns", "host") { _ in
                func kinds() async throws -> Set<String> {
                    Set(try await sandbox.get(FindingsReport.self, "/findings").findings.map(\.kind))
                }
                #expect(try await kinds() == [])
                try await sandbox.sh("iptables-legacy -A INPUT -s 192.0.2.2 -j DROP")
                try await sandbox.sh("iptables-nft -I INPUT 1 -s 192.0.2.3 -j ACCEPT")
                // The rules are read again every five seconds.
                try await waiting { try await kinds().count >= 2 }
                #expect(try await kinds() == ["both-backends", "probe-covered"])
                try await sandbox.sh("iptables-nft -F OUTPUT")
                // An installation may take ten seconds before anything is missed.
                try await waiting { try await kinds().count >= 3 }
                #expect(try await kinds() == ["both-backends", "probe-covered", "probe-missing"])
            }
        }
    }

    @Test func aFailureInOneNamespaceTakesBackTheOthers() async throws {
        try await Sandbox.with { sandbox in
            for number in 1...9 { try await sandbox.sh("ip netns add n\(number)") }
            // A native rule in iptables' own table makes iptables-nft refuse that table.
            try await sandbox.sh("ip netns exec n7 nft add table ip filter")
            try await sandbox.sh("ip netns exec n7 nft add chain ip filter INPUT { type filter hook input priority 7 ; }")
            let output = try await sandbox.trace("install-probes", "--family", "ipv4")
            #expect(output.exitCode == 1)
            #expect(output.standardError.contains("n7") && output.standardError.contains("Nothing was left installed"))
            for number in 1...9 where number != 7 { #expect(try await sandbox.rules("n\(number)").isEmpty) }
            #expect(try await sandbox.trace("probes").standardOutput.isEmpty)
            #expect(try await sandbox.run(["ls", "/run/ipt-trace/probes"]).standardOutput.isEmpty)
        }
    }

    @Test func verifyFindsWhatOthersChangedMeanwhile() async throws {
        try await Sandbox.with { sandbox in
            _ = try await sandbox.trace("install-probes")
            try await sandbox.sh("iptables -A INPUT -s 192.0.2.7 -j DROP")
            let output = try await sandbox.trace("remove-probes", "--verify")
            #expect(output.exitCode == 2)
            #expect(output.standardOutput.contains("host ipv4: + -A INPUT -s 192.0.2.7/32 -j DROP"))
            #expect(try await sandbox.rules().contains("-A INPUT -s 192.0.2.7/32 -j DROP"))
        }
    }

    @Test func aPolicyThatWasSetMeanwhileStays() async throws {
        try await Sandbox.with { sandbox in
            // The chains come with the probes; the policy comes later, and is somebody's firewall.
            _ = try await sandbox.trace("install-probes")
            try await sandbox.sh("iptables -P FORWARD DROP")
            try await sandbox.sh("ip6tables -P INPUT DROP")
            let output = try await sandbox.trace("remove-probes", "--verify")
            #expect(output.exitCode == 2 && output.standardOutput.contains("+ :FORWARD DROP"), "\(output.standardOutput)")
            #expect(try await sandbox.rules().contains { $0.hasPrefix(":FORWARD DROP") })
            #expect(try await sandbox.rules(tool: "ip6tables-nft-save").contains { $0.hasPrefix(":INPUT DROP") })
            #expect(!(try await sandbox.rules().contains { $0.contains("ipt-trace") }))
        }
    }

    @Test func aNamespaceThatIsInTheWayKeepsNoOtherFromBeingCleared() async throws {
        try await Sandbox.with { sandbox in
            for number in 1...9 { try await sandbox.sh("ip netns add n\(number)") }
            _ = try await sandbox.trace("install-probes", "--family", "ipv4")
            // A probe that somebody copied to another chain goes, too; a rule of somebody's that logs something else stays.
            try await sandbox.sh("ip netns exec n2 iptables -A OUTPUT -j NFLOG --nflog-prefix ipt-trace:abc123:filter:INPUT")
            try await sandbox.sh("ip netns exec n2 iptables -A OUTPUT -j NFLOG --nflog-prefix not-ipt-trace:filter:INPUT")
            // A table that iptables can no longer read.
            try await sandbox.sh("ip netns exec n5 nft add rule ip filter INPUT meta random 7 counter")
            let output = try await sandbox.trace("remove-probes")
            for number in [1, 3, 4, 6, 7, 8, 9] { #expect(try await sandbox.rules("n\(number)").isEmpty, "n\(number)") }
            #expect(try await sandbox.rules("n2").filter { $0.hasPrefix("-A") }.count == 1)
            #expect(output.exitCode != nil)
        }
    }

    @Test func aProbeThatSomebodyFlushedIsListedAsLostAndRemovedWithoutFuss() async throws {
        try await Sandbox.with { sandbox in
            _ = try await sandbox.trace("install-probes", "--family", "ipv4")
            try await sandbox.sh("iptables -F INPUT")
            try await sandbox.sh("iptables -I FORWARD -j ACCEPT")
            let listed = try await sandbox.trace("probes").standardOutput.split(separator: "\n").map(String.init)
            #expect(listed.contains { $0.contains("filter") && $0.contains("INPUT") && $0.contains("lost") })
            #expect(listed.contains { $0.contains("filter") && $0.contains("FORWARD") && $0.contains("covered") })
            #expect(try await sandbox.trace("remove-probes").standardOutput.hasPrefix("16 probes removed"))
        }
    }

    @Test func probesExpireInTheKernelWithNobodyAlive() async throws {
        try await Sandbox.with { sandbox in
            _ = try await sandbox.trace(
                "install-probes", "--family", "ipv4", "--table", "raw", "--chain", "OUTPUT", "--expires", "2s")
            try await sandbox.sh("ping -c 1 127.0.0.1")
            let early = try await sandbox.probePackets()
            try await Task.sleep(for: .seconds(3))
            try await sandbox.sh("ping -c 3 -i 0.1 127.0.0.1")
            #expect(early > 0)
            #expect(try await sandbox.probePackets() == early)
        }
    }

    @Test func theFilesInRulesAreWhatADryRunPrints() async throws {
        let directory = URL(fileURLWithPath: #filePath).deletingLastPathComponent().appendingPathComponent("../../rules")
        try await Sandbox.with { sandbox in
            for (file, arguments) in [
                ("nflog.rules", ["--family", "ipv4"]), ("nflog-ipv6.rules", ["--family", "ipv6"]),
                ("log.rules", ["--family", "ipv4", "--target", "log"]),
            ] {
                let output = try await sandbox.run(
                    [Live.program, "install-probes", "--dry-run", "--netns", "host", "--expires", "never"] + arguments)
                func normalized(_ text: String) -> [String] {
                    text.split(separator: "\n").filter { !$0.hasPrefix("#") }.map { line -> String in
                        String(line).replacing(#/(ipt-trace|it):[0-9a-f]{6}:/#) { "\($0.output.1):RUN:" }
                    }
                }
                let text = try String(contentsOf: directory.appendingPathComponent(file), encoding: .utf8)
                let planned = normalized(output.standardOutput)
                #expect(normalized(text.replacing("manual", with: "abcdef")) == planned, "\(file)")
                #expect(planned.count > 20)
                // By hand they work too.
                let tool = file.contains("ipv6") ? "ip6tables-restore" : "iptables-restore"
                #expect(try await sandbox.run([tool, "--noflush"], input: text).isSuccess)
            }
        }
    }
}
