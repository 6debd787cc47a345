import Foundation
import Lab
import LinuxSupport

/// What asking the kernel why it drops packets takes from traffic that is forwarded, with no drops and with many.
enum DropReasonBench {
    private struct Kind {
        var name: String
        var reasons: String
        /// A second, by a blackhole route.
        var drops: Int
    }

    private static let kinds = [
        Kind(name: "no drops, off", reasons: "off", drops: 0), Kind(name: "no drops, auto", reasons: "auto", drops: 0),
        Kind(name: "10,000 drops/s, off", reasons: "off", drops: 10_000),
        Kind(name: "10,000 drops/s, auto", reasons: "auto", drops: 10_000),
    ]

    private static let dropped = "10.9.0.77"

    static func run(packets: Int, rounds: Int) async throws {
        Bench.show(
            "\(packets) UDP packets through guest and router as fast as they can be sent, all probed and collected; with drops,"
        )
        Bench.show("10,000 a second more vanish by a blackhole route; medians of \(rounds) rounds in turn")
        let topology = LoadTopology.two
        var rates = [[Double]](repeating: [], count: kinds.count)
        var named = [UInt64](repeating: 0, count: kinds.count)
        var dropped = [UInt64](repeating: 0, count: kinds.count)
        try await Sandbox.with { sandbox in
            try await topology.setUp(in: sandbox)
            try await sandbox.require(["ip", "route", "add", "blackhole", "10.9.0.0/16"])
            try await sandbox.require([Bench.program, "install-probes"] + topology.probeOptions + ["--expires", "never"])
            for _ in 0..<rounds {
                for (index, kind) in kinds.enumerated() {
                    let (rate, paths) = try await measure(kind, packets, topology, sandbox)
                    rates[index].append(rate)
                    dropped[index] += paths.dropped
                    named[index] += paths.named
                }
            }
            try await sandbox.require([Bench.program, "remove-probes", "--verify"])
        }
        let widths = [22, 10, 11, 12, 10, 10]
        Bench.show(Bench.row(["drop reasons", "packets/s", "to off", "ns a packet", "dropped", "named"], widths))
        for (index, kind) in kinds.enumerated() {
            let off = Bench.median(rates[index - index % 2])
            let rate = Bench.median(rates[index])
            Bench.show(
                Bench.row(
                    [
                        kind.name, String(Int(rate)), Bench.text(rate / off), String(Int(1e9 / rate - 1e9 / off)),
                        String(dropped[index]), String(named[index]),
                    ], widths))
        }
    }

    private static func measure(
        _ kind: Kind, _ packets: Int, _ topology: LoadTopology, _ sandbox: Sandbox
    ) async throws -> (rate: Double, paths: (dropped: UInt64, named: UInt64)) {
        let collector = try SandboxProcess(
            [Bench.program, "collect", "--rule-traces", "off", "--drop-reasons", kind.reasons] + topology.namespaceOptions,
            in: sandbox)
        try await Bench.wait(for: "serving http", of: collector)
        // Until the names of the kernel's functions have been read.
        try await Task.sleep(for: .seconds(2))
        var sender: SandboxProcess?
        if kind.drops > 0 {
            sender = try SandboxProcess(
                [
                    "ip", "netns", "exec", "guest", "\(Bench.products)/flood", dropped, "9", "1000000", "64", "1",
                    String(kind.drops),
                ], in: sandbox)
            try await Task.sleep(for: .milliseconds(500))
        }
        let rate = try await topology.flood(packets, in: sandbox)
        await sender?.stop()
        try await Task.sleep(for: .seconds(2))
        let text = try await sandbox.require(
            ["curl", "-sS", "http://127.0.0.1:9100/paths?outcome=dropped&address=\(dropped)"]
        ).standardOutput
        await collector.stop()
        return (rate, count(text))
    }

    private static func count(_ text: String) -> (dropped: UInt64, named: UInt64) {
        struct Answer: Decodable {
            struct Path: Decodable {
                struct Decision: Decodable { var evidence: String }
                var packets: UInt64
                var decided_by: Decision?
            }
            var paths: [Path]
        }
        let paths = (try? JSONDecoder().decode(Answer.self, from: Data(text.utf8)))?.paths ?? []
        return (
            paths.reduce(0) { $0 + $1.packets },
            paths.filter { $0.decided_by?.evidence == "drop_reason" }.reduce(0) { $0 + $1.packets }
        )
    }
}
