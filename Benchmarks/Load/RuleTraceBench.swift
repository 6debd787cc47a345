import Foundation
import Lab
import LinuxSupport

/// What rule traces take from traffic that is forwarded and is not traced, beside a collector whose probes are of other packets.
enum RuleTraceBench {
    private struct Kind {
        var name: String
        /// Destinations and ports whose packets are dropped, and so traced.
        var armed = 0
        var tracing = "auto"
        /// A rule that no packet comes to and that would have one traced: what the kernel takes for tracing being possible at all.
        var isSwitchAlone = false
    }

    private static let kinds = [
        Kind(name: "nothing armed"), Kind(name: "the kernel's switch alone", isSwitchAlone: true),
        Kind(name: "1 element", armed: 1), Kind(name: "1000 elements", armed: 1000),
        Kind(name: "--rule-traces 16", tracing: "16"),
    ]

    private static let dropped = "10.0.2.77"

    static func run(packets: Int, rounds: Int) async throws {
        Bench.show("\(packets) UDP packets through guest and router as fast as they can be sent, in 1000 flows; the probes are")
        Bench.show("of other packets, which the router drops; medians of \(rounds) rounds in turn")
        let topology = LoadTopology.two
        let (rates, elements) = try await Sandbox.with { sandbox in
            try await topology.setUp(in: sandbox)
            try await sandbox.require(["iptables", "-A", "FORWARD", "-d", dropped, "-p", "udp", "-j", "DROP"])
            try await sandbox.require(
                [Bench.program, "install-probes"] + topology.probeOptions + ["--match", "-d \(dropped)", "--expires", "never"])
            var rates = [[Double]](repeating: [], count: kinds.count)
            var elements = [Int](repeating: 0, count: kinds.count)
            for _ in 0..<rounds {
                for (index, kind) in kinds.enumerated() {
                    // Every packet of the flood is dropped at its end: the kernel's reasons for that have a benchmark of their own.
                    let collector = try SandboxProcess(
                        [Bench.program, "collect", "--rule-traces", kind.tracing, "--drop-reasons", "off"]
                            + topology.namespaceOptions, in: sandbox)
                    try await Bench.wait(for: "serving http", of: collector)
                    if kind.isSwitchAlone {
                        try await sandbox.require(
                            [
                                "nft",
                                "add table inet switch; add chain inet switch off; add rule inet switch off meta nftrace set 1",
                            ])
                    }
                    if kind.armed > 0 {
                        // Slowly, since a turn of the event loop arms 64 at most.
                        try await sandbox.require([
                            "ip", "netns", "exec", "guest", "\(Bench.products)/flood", dropped, "1000", String(kind.armed),
                            "64",
                            String(kind.armed), "500",
                        ])
                        try await Task.sleep(for: .seconds(2))
                        let set = try await sandbox.run(
                            ["nft", "list", "set", "inet", "ipt-trace-rules", "attempt-ipv4-port"]
                        ).standardOutput
                        elements[index] = set.count { $0 == "\n" } > 0 ? set.split(separator: "expires").count - 1 : 0
                    }
                    rates[index].append(try await topology.flood(packets, in: sandbox, ports: 1000))
                    await collector.stop()
                    if kind.isSwitchAlone { try await sandbox.require(["nft", "delete", "table", "inet", "switch"]) }
                }
            }
            try await sandbox.require([Bench.program, "remove-probes", "--verify"])
            return (rates, elements)
        }
        let widths = [25, 10, 11, 12, 12]
        Bench.show(Bench.row(["rule traces", "elements", "packets/s", "to nothing", "ns a packet"], widths))
        let none = Bench.median(rates[0])
        for (index, kind) in kinds.enumerated() {
            let rate = Bench.median(rates[index])
            Bench.show(
                Bench.row(
                    [
                        kind.name, String(elements[index]), String(Int(rate)), Bench.text(rate / none),
                        String(Int(1e9 / rate - 1e9 / none)),
                    ], widths))
        }
    }
}
