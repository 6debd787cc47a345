import Foundation
import Lab
import LinuxSupport

/// What probes take from traffic that is forwarded while nobody listens to them.
enum ProbeCostBench {
    private struct Kind {
        var name: String
        /// `nil`: no probes.
        var options: [String]?
        /// Whether the bare loop receives meanwhile.
        var isReceived = false
    }

    private static let kinds = [
        Kind(name: "no probes"),
        Kind(name: "probes", options: []),
        Kind(name: "probes that never expire", options: ["--expires", "never"]),
        Kind(name: "--match, met by all", options: ["--match", "-p udp"]),
        Kind(name: "--match, met by 1 in 1000", options: ["--match", "-p udp --dport 9"]),
        Kind(name: "--match, not met", options: ["--match", "-p tcp --dport 9"]),
        Kind(name: "--sentinels", options: ["--sentinels"]),
        Kind(name: "--sentinels, never expire", options: ["--sentinels", "--expires", "never"]),
        Kind(name: "--table raw", options: ["--table", "raw"]),
        Kind(name: "--sample 16", options: ["--sample", "16"]),
        Kind(name: "received: probes", options: [], isReceived: true),
        Kind(name: "received: --sample 16", options: ["--sample", "16"], isReceived: true),
    ]

    static func run(packets: Int, rounds: Int) async throws {
        Bench.show("\(packets) UDP packets through guest and router as fast as they can be sent, in 1000 flows, nobody")
        Bench.show("listening but where it says so; medians of \(rounds) rounds in turn")
        let rates = try await Sandbox.with { sandbox in
            try await LoadTopology.two.setUp(in: sandbox)
            var rates = [[Double]](repeating: [], count: kinds.count)
            for _ in 0..<rounds {
                for (index, kind) in kinds.enumerated() {
                    if let options = kind.options {
                        let all = ["install-probes"] + LoadTopology.two.probeOptions + options
                        guard try await sandbox.run([Bench.program] + all).isSuccess else { continue }
                    }
                    let receiver =
                        kind.isReceived
                        ? try SandboxProcess(["\(Bench.products)/bare-receiver", "5"] + LoadTopology.two.traced, in: sandbox)
                        : nil
                    if let receiver { try await Bench.wait(for: "draining", of: receiver) }
                    rates[index].append(try await LoadTopology.two.flood(packets, in: sandbox, ports: 1000))
                    await receiver?.stop()
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
