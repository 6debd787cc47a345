import Aggregation
import Foundation
import Glibc
import Lab
import LinuxSupport
import Reports
import Testing

/// The routing decisions on a packet's way, with `ip` as the judge.
@Suite(.serialized, .enabled(if: Live.obstacle == nil, "\(Live.obstacle ?? "")"))
struct RoutingLiveTests {
    /// Routes and rules that choose among them, for `routedNetwork`.
    private static let routes = """
        for a in 10.99.0.1 10.99.0.2 10.99.1.1 10.99.2.1 10.99.3.1 10.99.5.1; do ip -n s address add $a/32 dev lo; done
        ip route add 10.99.0.0/16 via 10.0.2.2; ip route add 10.99.0.0/24 via 10.0.2.2; ip route add 10.99.0.1/32 via 10.0.2.2
        ip rule add fwmark 0x7/0xf priority 900 lookup 100; ip route add 10.99.1.0/24 via 10.0.2.2 table 100
        iptables-nft -t mangle -A PREROUTING -d 10.99.1.1 -j MARK --set-mark 0x17
        ip rule add to 10.99.2.1 priority 800 prohibit
        ip route add blackhole 10.99.3.0/24; ip -n c route add 10.99.4.0/24 via 10.0.1.1
        ip netns exec c iptables-nft -t nat -A OUTPUT -d 192.0.2.7 -j DNAT --to 10.99.5.1
        ip -n c route add 10.99.5.0/24 via 10.0.1.1 src 10.0.1.2
        ip -6 rule add from fd00:1::/64 priority 700 lookup 200; ip -6 route add fd00:2::/64 dev v2 table 200
        """

    /// How often a packet to a destination is routed, until it arrives or goes nowhere.
    private static let decisions = [
        "10.99.0.1": 3, "10.99.0.2": 3, "10.99.1.1": 3, "10.99.2.1": 2, "10.99.3.1": 2, "192.0.2.7": 4, "fd00:2::2": 3,
    ]

    /// By the destinations of echo requests, of the packet of which most is known.
    private static func known(_ report: JourneysReport) -> [String: [RoutingReport]] {
        var known: [String: [RoutingReport]] = [:]
        for journey in report.journeys where journey.message == "echo request" {
            let told = journey.routing?.filter(\.isKnown) ?? []
            if told.count > known[journey.destination]?.count ?? -1 { known[journey.destination] = told }
        }
        return known
    }

    /// What `ip` says of a packet: the entry of a table, or an error.
    private static func asked(_ routing: RoutingReport, _ sandbox: Sandbox) async throws -> String {
        let enter = routing.netns == "host" ? [] : ["ip", "netns", "exec", routing.netns]
        var words = ["ip", "route", "get", "fibmatch", routing.destination, "from", routing.source]
        if let device = routing.in { words += ["iif", device] }
        if routing.mark != 0 { words += ["mark", "\(routing.mark)"] }
        let output = try await sandbox.run(enter + words)
        return output.isSuccess ? output.standardOutput : output.standardError
    }

    @Test("the route of every packet is the one that ip gives, with the rule that chose the table and the prefixes passed over")
    func asIPSays() async throws {
        try await Sandbox.with { sandbox in
            try await sandbox.require(["sh", "-ec", routedNetwork + "\n" + Self.routes])
            let file = "/run/routing.pcapng"
            _ = try await sandbox.trace("install-probes")
            let known = try await sandbox.collecting("--record", file) { collector in
                var known: [String: [RoutingReport]] = [:]
                // A packet near a change has no route, and addresses of IPv6 change by themselves at first: then another one is sent.
                for _ in 0..<10 {
                    let missing = Self.decisions.filter { known[$0.key]?.count != $0.value }.keys
                    if missing.isEmpty { break }
                    for address in missing {
                        _ = try await sandbox.run(["ip", "netns", "exec", "c", "ping", "-c", "1", "-W", "1", address])
                    }
                    try await Task.sleep(for: .seconds(1))
                    known = Self.known(try await sandbox.get(JourneysReport.self, "/journeys?limit=2000"))
                }
                #expect(known.values.joined().count >= 20, "\(known) \(collector.output)")
                return known
            }
            var compared = 0
            for routing in known.values.joined() {
                let judge = try await Self.asked(routing, sandbox)
                compared += 1
                switch routing.error {
                case nil:
                    // `ip` prints protocol and scope, too, and leaves the table out where it is not sure.
                    let route = try #require(routing.route).replacing(" table local", with: "")
                    let words = judge.split(whereSeparator: \.isWhitespace)
                    #expect(judge.hasPrefix(route.prefix { $0 != "d" }) || route.hasPrefix("default"), "\(route) and \(judge)")
                    for word in route.split(separator: " ") { #expect(words.contains(word), "\(route) and \(judge)") }
                case "prohibited": #expect(judge.contains("Permission denied"))
                case "blackhole": #expect(judge.contains("Invalid argument"))
                case let error?: Issue.record("\(error): \(judge)")
                }
                guard let rule = routing.rule else { continue }
                let family = routing.destination.contains(":") ? "-6" : "-4"
                let enter = routing.netns == "host" ? [] : ["ip", "netns", "exec", routing.netns]
                let rules = try await sandbox.require(enter + ["ip", family, "rule", "list"]).standardOutput
                    .split(separator: "\n").map { $0.split(whereSeparator: \.isWhitespace).joined(separator: " ") }
                #expect(rules.contains(rule), "\(rule) of \(rules)")
            }
            #expect(compared >= 20)
            func host(_ destination: String) -> RoutingReport? { known[destination]?.first { $0.netns == "host" } }
            #expect(host("10.99.0.1")?.passedOver == ["10.99.0.0/24 via 10.0.2.2 dev v2", "10.99.0.0/16 via 10.0.2.2 dev v2"])
            #expect(host("10.99.0.2")?.route == "10.99.0.0/24 via 10.0.2.2 dev v2")
            #expect(host("10.99.1.1")?.table == "100" && host("10.99.1.1")?.rule == "900: from all fwmark 0x7/0xf lookup 100")
            #expect(
                host("10.99.2.1")?.error == "prohibited" && host("10.99.2.1")?.rule == "800: from all to 10.99.2.1 prohibit")
            #expect(host("10.99.3.1")?.error == "blackhole" && host("10.99.3.1")?.route == "blackhole 10.99.3.0/24")
            #expect(host("fd00:2::2")?.table == "200")
            // Routed where it was sent, and again behind the translation of OUTPUT.
            let sent = try #require(known["192.0.2.7"]).filter { $0.netns == "c" }
            #expect(sent.map(\.destination) == ["192.0.2.7", "10.99.5.1"] && sent.last?.preferredSource == "10.0.1.2")
            // The recording has the same.
            let output = try await sandbox.require([
                Live.program, "analyze", file, "--report", "journeys", "--report", "precedence", "--format", "json",
            ]).standardOutput
            struct Reports: Decodable { var journeys: JourneysReport }
            let read = Self.known(try ReportJSON.decode(Reports.self, from: Data(output.utf8)).journeys)
            for (destination, routing) in known {
                #expect(read[destination]?.map(\.text) == routing.map(\.text), "\(destination)")
            }
        }
    }

    @Test("a route explains no packet that came before it, and not the one that came behind it")
    func changes() async throws {
        try await Sandbox.with { sandbox in
            try await sandbox.require(["sh", "-ec", routedNetwork + "\n" + Self.routes])
            _ = try await sandbox.trace("install-probes")
            try await sandbox.collecting { _ in
                func route(_ destination: String) async throws -> [String?] {
                    _ = try await sandbox.run(["ip", "netns", "exec", "c", "ping", "-c", "1", "-W", "1", destination])
                    var found: [String?] = []
                    try await waiting {
                        let report = try await sandbox.get(JourneysReport.self, "/journeys?address=\(destination)&limit=2000")
                        found = report.journeys.filter { $0.message == "echo request" }.map { journey in
                            journey.routing?.first { $0.netns == "host" }.flatMap { $0.isKnown ? $0.text : nil }
                        }
                        return found.first.map { $0 != nil } == true
                    }
                    return found
                }
                #expect(try await route("10.99.0.2") == ["10.99.0.0/24 via 10.0.2.2 dev v2"])
                try await sandbox.sh("ip route add 10.99.0.2/32 via 10.0.2.2")
                // Looks come five times a second, and a namespace's routes are asked for once a second.
                try await Task.sleep(for: .milliseconds(1500))
                let found = try await route("10.99.0.2")
                #expect(found.count == 2 && found.first == "10.99.0.2 via 10.0.2.2 dev v2", "\(found)")
                #expect(found.last == "10.99.0.0/24 via 10.0.2.2 dev v2", "\(found)")
            }
        }
    }
}
