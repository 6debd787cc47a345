import Aggregation
import Foundation
import Lab
import LinuxSupport
import Reports
import Testing

@Suite(.serialized, .enabled(if: Live.obstacle == nil, "\(Live.obstacle ?? "")"))
struct LoadTests {
    @Test func tenThousandPacketsAtFullSpeedAreTenThousandJourneys() async throws {
        try await Sandbox.with { sandbox in
            try await Gallery.ping.setUp(in: sandbox)
            // Nobody listens on the port: without this the server would answer every packet with an ICMP error.
            try await sandbox.sh("ip netns exec inet iptables -A INPUT -p udp -j DROP")
            #expect(
                try await sandbox.trace("install-probes", "--netns", "host", "--netns", "guest", "--match", "-p udp").isSuccess)
            try await sandbox.collecting("--netns", "host", "--netns", "guest") { _ in
                try await sandbox.require(["ip", "netns", "exec", "guest", Live.flood, "8.8.8.8", "9", "10000"])
                let report = try await sandbox.paths("?proto=udp") { $0.completeness.journeys >= 10_000 }
                let seen = report.completeness
                #expect(seen.lost == 0 && seen.ambiguous == 0 && seen.incomplete == 0)
                #expect(seen.journeys == 10_000)
                // The first packet passes the nat chains, the others do not: two sequences of steps, two paths.
                #expect(report.paths.map(\.packets).sorted() == [1, 9999])
                #expect(report.paths.allSatisfy { $0.outcome == "sent" })
                #expect(report.paths.allSatisfy { $0.translations.first?.to == "10.0.2.15" })
                #expect(seen.events == (try await sandbox.probePackets()))
            }
        }
    }

    @Test func aSampledFlowIsTracedWholeAndTheOthersNotAtAll() async throws {
        try await Sandbox.with { sandbox in
            try await Gallery.ping.setUp(in: sandbox)
            try await sandbox.sh("ip netns exec inet iptables -A INPUT -p udp -j DROP")
            let installed = try await sandbox.trace(
                "install-probes", "--netns", "host", "--netns", "guest", "--match", "-p udp", "--sample", "4")
            #expect(installed.standardOutput.contains("1 flow in 4"), "\(installed.standardError)")
            try await sandbox.collecting("--netns", "host", "--netns", "guest") { _ in
                // 400 flows of ten packets each, through MASQUERADE.
                try await sandbox.require(
                    ["ip", "netns", "exec", "guest", Live.flood, "8.8.8.8", "1000", "4000", "64", "400", "20000"])
                try await Task.sleep(for: .seconds(6))
                let report = try await sandbox.get(PathsReport.self, "/paths?proto=udp")
                #expect(report.completeness.sampledOneIn == 4 && report.completeness.lost == 0)
                let packets = report.paths.reduce(0) { $0 + $1.packets }
                #expect(packets % 10 == 0 && (500...1600).contains(packets), "\(packets)")
                #expect(report.paths.allSatisfy { $0.outcome == "sent" }, "\(report.paths.map(\.outcome))")
                #expect(report.paths.allSatisfy { $0.steps.first?.netns == "guest" && $0.steps.last?.netns == "host" })
                #expect(report.completeness.events == (try await sandbox.probePackets()))
            }
            #expect(try await sandbox.trace("remove-probes", "--verify").isSuccess)
            #expect(try await sandbox.trace("install-probes", "--sample", "4", "--sentinels").exitCode == 64)
        }
    }

    @Test func fiftyNamespacesAreTracedThroughThreeInARow() async throws {
        try await Sandbox.with { sandbox in
            // n1 - n2 - n3 in a row, and 47 that stand about with rules of their own.
            for number in 1...50 { try await sandbox.sh("ip netns add n\(number)") }
            for (left, right) in [(1, 2), (2, 3)] {
                try await sandbox.sh("ip -n n\(left) link add right type veth peer name left netns n\(right)")
                try await sandbox.sh("ip -n n\(left) address add 10.\(left).0.1/24 dev right")
                try await sandbox.sh("ip -n n\(right) address add 10.\(left).0.2/24 dev left")
                try await sandbox.sh("ip -n n\(left) link set right up")
                try await sandbox.sh("ip -n n\(right) link set left up")
            }
            try await sandbox.sh("ip -n n1 route add 10.2.0.0/24 via 10.1.0.2")
            try await sandbox.sh("ip -n n3 route add 10.1.0.0/24 via 10.2.0.1")
            try await sandbox.sh("ip netns exec n2 sysctl -qw net.ipv4.ip_forward=1")
            for number in 4...20 {
                try await sandbox.sh("ip netns exec n\(number) iptables -A INPUT -s 192.0.2.\(number) -j DROP")
            }
            for number in 21...30 {
                try await sandbox.sh(
                    "ip netns exec n\(number) iptables-legacy -t mangle -A OUTPUT -j MARK --set-mark \(number)")
            }
            func everything() async throws -> [[String]] {
                var rules: [[String]] = []
                for number in 1...50 {
                    for tool in ["iptables-nft-save", "ip6tables-nft-save", "iptables-legacy-save"] {
                        rules.append(try await sandbox.rules("n\(number)", tool: tool))
                    }
                }
                return rules
            }
            let before = try await everything()
            let installed = try await sandbox.trace("install-probes")
            #expect(installed.isSuccess && installed.standardOutput.contains("in 51 namespaces"), "\(installed.standardError)")
            try await sandbox.collecting { _ in
                try await sandbox.sh("ip netns exec n1 ping -c 1 -W 2 10.2.0.2")
                let report = try await sandbox.paths("?proto=icmp") { $0.paths.reduce(0) { $0 + $1.packets } == 2 }
                let request = try #require(report.paths.first { $0.example.source == "10.1.0.1" })
                #expect(
                    request.brief == "n1/OUTPUT:raw,mangle,filter,security n1/POSTROUTING:mangle "
                        + "n2/PREROUTING:raw,mangle n2/FORWARD:mangle,filter,security n2/POSTROUTING:mangle "
                        + "n3/PREROUTING:raw,mangle n3/INPUT:mangle,filter,security")
                #expect(report.paths.map(\.outcome) == ["delivered", "delivered"])
            }
            let removed = try await sandbox.trace("remove-probes", "--verify")
            #expect(removed.isSuccess, "\(removed.standardOutput) \(removed.standardError)")
            #expect(try await everything() == before)
        }
    }
}
