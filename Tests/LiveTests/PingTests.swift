import Aggregation
import Foundation
import Glibc
import Lab
import LinuxSupport
import Reports
import Testing

@Suite(.serialized, .enabled(if: Live.obstacle == nil, "\(Live.obstacle ?? "")"))
struct PingTests {
    static let request =
        "guest/OUTPUT:raw,mangle,filter,security guest/POSTROUTING:mangle "
        + "host/PREROUTING:raw,mangle,nat host/FORWARD:mangle,filter,security host/POSTROUTING:mangle,nat"
    static let reply =
        "host/PREROUTING:raw,mangle host/FORWARD:mangle,filter,security host/POSTROUTING:mangle "
        + "guest/PREROUTING:raw,mangle guest/INPUT:mangle,filter,security"

    @Test(
        "a ping through a masquerading host is one flow of two paths, step by step",
        arguments: [
            ("rules in nf_tables", [] as [String]),
            (
                "rules in x_tables",
                [
                    "iptables-nft -t nat -D POSTROUTING -o eth0 -j MASQUERADE",
                    "iptables-legacy -t nat -A POSTROUTING -o eth0 -j MASQUERADE",
                ]
            ),
        ])
    func roundTrip(_ name: String, _ changes: [String]) async throws {
        try await Sandbox.with { sandbox in
            try await Gallery.ping.setUp(in: sandbox)
            for change in changes { try await sandbox.sh(change) }
            #expect(try await sandbox.trace("install-probes", "--netns", "host", "--netns", "guest").isSuccess)
            try await sandbox.collecting("--netns", "host", "--netns", "guest") { collector in
                try await sandbox.sh("ip netns exec guest ping -c 1 -W 2 8.8.8.8")
                let report = try await sandbox.paths("?proto=icmp") { $0.paths.reduce(0) { $0 + $1.packets } == 2 }
                #expect(report.paths.map(\.brief) == [Self.request, Self.reply])
                #expect(report.paths.map(\.outcome) == ["sent", "delivered"])
                #expect(report.completeness.lost == 0)

                let snat = try #require(report.paths.first?.translations.first)
                #expect(snat.kind == "snat" && snat.netns == "host")
                #expect(snat.from == "172.16.0.2" && snat.to == "10.0.2.15")
                // Connection tracking itself says the same.
                #expect(try await sandbox.sh("conntrack -L -p icmp").contains("src=8.8.8.8 dst=10.0.2.15"))

                let flows = try await sandbox.get(FlowsReport.self, "/flows").flows
                let flow = try #require(flows.first { $0.protocol == "icmp" })
                #expect(flow.original.packets == 1 && flow.reply?.packets == 1)
                #expect(flow.original.source == "172.16.0.2" && flow.reply?.destination == "10.0.2.15")
                #expect(flow.original.paths == [report.paths[0].id] && flow.reply?.paths == [report.paths[1].id])

                let journey = try await sandbox.get(
                    JourneyReport.self, "/journeys/\(try #require(report.paths.first?.example.journey))")
                #expect(journey.steps.count == 13)
                // The kernel stamps PREROUTING, INPUT and FORWARD, never OUTPUT and POSTROUTING.
                #expect(journey.steps.allSatisfy { ($0.time != nil) == ["PREROUTING", "FORWARD", "INPUT"].contains($0.hook) })
                #expect(journey.steps.map(\.ttl) == [Int?](repeating: 64, count: 8) + [Int?](repeating: 63, count: 5))

                let precedence = try await sandbox.get(PrecedenceReport.self, "/precedence")
                #expect(precedence.roles.map { "\($0.netns) \($0.role)" } == ["host router", "guest client"])
                #expect(precedence.conflicts.isEmpty)
                #expect(
                    precedence.roles[0].orders.first { $0.direction == "through" }?.chains == [
                        "raw/PREROUTING", "mangle/PREROUTING", "nat/PREROUTING", "mangle/FORWARD", "filter/FORWARD",
                        "security/FORWARD", "mangle/POSTROUTING", "nat/POSTROUTING",
                    ])
                #expect(precedence.notes.contains { $0.hasPrefix("guest: the nat chains saw nothing: no rule") })
            }
        }
    }

    @Test func aHostThatDropsWhatItShouldForwardShowsWhere() async throws {
        try await Sandbox.with { sandbox in
            try await Gallery.ping.setUp(in: sandbox, variant: Gallery.ping.variant(named: "forward-drop"))
            #expect(try await sandbox.trace("install-probes", "--netns", "host", "--netns", "guest").isSuccess)
            try await sandbox.collecting("--netns", "host", "--netns", "guest") { _ in
                _ = try await sandbox.run(["ip", "netns", "exec", "guest", "ping", "-c", "1", "-W", "1", "8.8.8.8"])
                let report = try await sandbox.paths("?proto=icmp") { !$0.paths.isEmpty }
                let path = try #require(report.paths.first)
                #expect(path.outcome == "dropped" && report.paths.count == 1)
                #expect(path.droppedBetween?.after.table == "filter" && path.droppedBetween?.after.chain == "FORWARD")
                #expect(path.droppedBetween?.before.map(\.table) == ["security"])
                let text = try await sandbox.trace("report", "paths", "--outcome", "dropped").standardOutput
                #expect(text.contains("dropped: behind filter/FORWARD in host, before security/FORWARD in host"))
            }
        }
    }

    @Test func withTheInternetTracedTooTheRequestGoesOnThroughItsInput() async throws {
        try await Sandbox.with { sandbox in
            try await Gallery.ping.setUp(in: sandbox)
            #expect(try await sandbox.trace("install-probes").isSuccess)
            try await sandbox.collecting { _ in
                try await sandbox.sh("ip netns exec guest ping -c 1 -W 2 8.8.8.8")
                let report = try await sandbox.paths("?proto=icmp") { $0.paths.reduce(0) { $0 + $1.packets } == 2 }
                let request = try #require(report.paths.first { $0.example.source == "172.16.0.2" })
                #expect(request.brief == Self.request + " inet/PREROUTING:raw,mangle inet/INPUT:mangle,filter,security")
                #expect(request.outcome == "delivered")
                #expect(report.paths.map(\.outcome) == ["delivered", "delivered"])
            }
        }
    }

    @Test func sixIsTracedAsFourIs() async throws {
        try await Sandbox.with { sandbox in
            try await sandbox.sh("ip netns add left")
            try await sandbox.sh("ip netns add right")
            try await sandbox.sh("ip -n left link add tox type veth peer name tol netns right")
            try await sandbox.sh("ip -n left address add fd00:1::1/64 dev tox nodad")
            try await sandbox.sh("ip -n right address add fd00:1::2/64 dev tol nodad")
            try await sandbox.sh("ip -n left link set tox up")
            try await sandbox.sh("ip -n right link set tol up")
            #expect(try await sandbox.trace("install-probes", "--family", "ipv6").isSuccess)
            try await sandbox.collecting { _ in
                try await sandbox.sh("ip netns exec left ping -6 -c 1 -W 2 fd00:1::2")
                let way =
                    "left/OUTPUT:raw,mangle,filter,security left/POSTROUTING:mangle "
                    + "right/PREROUTING:raw,mangle right/INPUT:mangle,filter,security"
                // Neighbour discovery comes first.
                let report = try await sandbox.paths("?proto=icmpv6&address=fd00:1::2") {
                    $0.paths.contains { $0.brief == way }
                }
                let request = try #require(report.paths.first { $0.brief == way }, "\(report.text())")
                #expect(request.outcome == "delivered" && request.steps.allSatisfy { $0.family == "ipv6" })
                let answered = try await sandbox.get(FlowsReport.self, "/flows").flows.first {
                    $0.original.source == "fd00:1::1" && $0.original.destination == "fd00:1::2" && $0.reply != nil
                }
                #expect(answered?.reply?.outcomes["delivered"] != nil)
            }
        }
    }

    @Test func fragmentsAreNotCalledDropped() async throws {
        try await Sandbox.with { sandbox in
            try await Gallery.ping.setUp(in: sandbox)
            #expect(try await sandbox.trace("install-probes").isSuccess)
            try await sandbox.collecting { _ in
                // No connection tracking in the guest: it sees the pieces before they are put together.
                try await sandbox.sh("ip netns exec guest ping -c 1 -W 2 -s 3000 8.8.8.8")
                try await Task.sleep(for: .milliseconds(800))
                let report = try await sandbox.paths("?proto=icmp") { $0.paths.count >= 3 }
                #expect(!report.paths.contains { $0.outcome == "dropped" }, "\(report.text())")
                #expect(report.paths.contains { $0.reason?.contains("fragments") == true })
            }
        }
    }

    @Test func whatIsReportedIsWhatTheKernelsOwnTraceSays() async throws {
        try await Sandbox.with { sandbox in
            try await Gallery.ping.setUp(in: sandbox)
            #expect(try await sandbox.trace("install-probes", "--netns", "host", "--netns", "guest").isSuccess)
            // The kernel's own trace of one namespace, in which our probes are among the rules that it names.
            try await sandbox.sh("iptables -t raw -A PREROUTING -p icmp --icmp-type echo-request -j TRACE")
            try await sandbox.collecting("--netns", "host", "--netns", "guest") { _ in
                let monitor = try SandboxProcess(["stdbuf", "-oL", "xtables-monitor", "--trace"], in: sandbox)
                try await Task.sleep(for: .milliseconds(500))
                try await sandbox.sh("ip netns exec guest ping -c 1 -W 2 8.8.8.8")
                let report = try await sandbox.paths("?proto=icmp") { $0.paths.reduce(0) { $0 + $1.packets } == 2 }
                try await Task.sleep(for: .milliseconds(300))
                await monitor.stop()
                // TRACE: 2 9a2d1a3c raw:PREROUTING:rule:0x3:CONTINUE
                var chains: [String] = []
                for line in monitor.output.split(separator: "\n") where line.contains("TRACE:") {
                    let words = line.split(separator: " ")
                    guard let index = words.firstIndex(of: "TRACE:"), index + 3 < words.count else { continue }
                    let place = words[index + 3].split(separator: ":").prefix(2).joined(separator: "/")
                    if chains.last != place { chains.append(place) }
                }
                let path = try #require(report.paths.first { $0.example.source == "172.16.0.2" })
                let ours = path.steps.filter { $0.netns == "host" }.map { "\($0.table)/\($0.chain)" }
                try #require(!chains.isEmpty, "xtables-monitor said nothing: \(monitor.output)")
                #expect(ours == chains)
            }
        }
    }

    /// Processes of a sandbox beside its first one and the command that lists them.
    private func remains(of sandbox: Sandbox) async throws -> [String] {
        // The sandbox's first process reaps nobody, so that those who have ended stay in the list.
        let processes = try await sandbox.sh("ps -e -o stat=,comm=").split(separator: "\n").filter { !$0.hasPrefix("Z") }
        let namespaces = try await sandbox.sh("ls /run/netns").split(separator: "\n").map(String.init)
        let names = processes.map { String($0.split(separator: " ").last ?? "") }
        return names.filter { !["cat", "ps"].contains($0) } + namespaces + (try await sandbox.rules())
    }

    @Test func theDemonstrationRunsAndLeavesNothingBehind() async throws {
        try await Sandbox.with { sandbox in
            let output = try await sandbox.trace("lab", "run", "ping")
            #expect(output.isSuccess, "\(output.standardError)")
            for line in [
                "13  host   nat       POSTROUTING  br0 → eth0  SNAT 172.16.0.2 → 10.0.2.15", "sent: left host through eth0",
                "delivered: to the sockets of guest", "guest (client)", "host (router)", "0 events lost",
                "verified: the rules of 3 namespaces are as before",
            ] {
                #expect(output.standardOutput.contains(line), "\(line) is not in \(output.standardOutput)")
            }
            #expect(try await remains(of: sandbox).isEmpty)
        }
    }

    @Test("the demonstration leaves nothing behind when it is interrupted", arguments: [SIGINT, SIGTERM, SIGKILL])
    func interrupted(_ signal: Int32) async throws {
        try await Sandbox.with { sandbox in
            let demonstration = try SandboxProcess([Live.program, "lab", "run", "ping"], in: sandbox)
            for _ in 0..<500 where !demonstration.output.contains("serving http") {
                try await Task.sleep(for: .milliseconds(10))
            }
            #expect(demonstration.output.contains("serving http"))
            await demonstration.stop(signal: signal)
            try await waiting { try await remains(of: sandbox).isEmpty }
            #expect(try await remains(of: sandbox) == [])
        }
    }
}
