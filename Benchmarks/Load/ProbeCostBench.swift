import Foundation
import Lab
import Namespaces

/// What probes take from traffic that is forwarded while nobody listens to them.
enum ProbeCostBench {
    private static let kinds: [(name: String, options: [String]?)] = [
        ("no probes", nil),
        ("probes", []),
        ("probes that never expire", ["--expires", "never"]),
        ("--match, met", ["--match", "-p udp --dport 9"]),
        ("--match, not met", ["--match", "-p tcp --dport 9"]),
        ("--sentinels", ["--sentinels"]),
        ("--sentinels, never expire", ["--sentinels", "--expires", "never"]),
        ("--table raw", ["--table", "raw"]),
        ("--sample 16", ["--sample", "16"]),
        ("--sample 256", ["--sample", "256"]),
    ]

    static func run(packets: Int, rounds: Int) async throws {
        Bench.show("\(packets) UDP packets through guest and router as fast as they can be sent, nobody listening;")
        Bench.show("medians of \(rounds) rounds in turn")
        let rates = try await Sandbox.with { sandbox in
            try await Terrain.two.setUp(in: sandbox)
            var rates = [[Double]](repeating: [], count: kinds.count)
            for _ in 0..<rounds {
                for (index, kind) in kinds.enumerated() {
                    if let options = kind.options {
                        let all = ["install-probes"] + Terrain.two.probeOptions + options
                        guard try await sandbox.run([Bench.program] + all).isSuccess else { continue }
                    }
                    rates[index].append(try await Terrain.two.flood(packets, in: sandbox))
                    if kind.options != nil { try await sandbox.require([Bench.program, "remove-probes", "--verify"]) }
                }
            }
            return rates
        }
        let widths = [28, 11, 8, 12]
        Bench.show(Bench.row(["probes", "packets/s", "to none", "ns a packet"], widths))
        let none = Bench.median(rates[0])
        for (kind, rates) in zip(kinds, rates) where !rates.isEmpty {
            let rate = Bench.median(rates)
            Bench.show(
                Bench.row(
                    [kind.name, String(Int(rate)), Bench.text(rate / none), String(Int(1e9 / rate - 1e9 / none))], widths))
        }
    }
}
