import Foundation
import Lab
import LinuxSupport

/// What listens while a flood goes by.
enum Receiver: String, CaseIterable {
    case none = "no listener"
    case bare = "bare C loop"
    case collect = "collect"
    case polled = "collect, polled"
    case recording = "collect --record"

    /// Result of one flood.
    struct Result {
        var packetsPerSecond = 0.0
        var events = 0
        var lost = 0
        var leftOut = 0
        /// Fewer than packets where it followed a part of them only.
        var journeys: Int?
        var use = ProcessUse()
        var fileBytes = 0

        var userPerEvent: Double { events == 0 ? 0 : use.user / Double(events) * 1e6 }
        var systemPerEvent: Double { events == 0 ? 0 : use.system / Double(events) * 1e6 }
    }

    func run(_ packets: Int, _ topology: LoadTopology, in sandbox: Sandbox) async throws -> Result {
        var result = Result()
        let file = "\(NSTemporaryDirectory())ipt-trace-load-\(getpid()).pcapng"
        defer { try? FileManager.default.removeItem(atPath: file) }
        let command: [String]
        switch self {
        case .none:
            result.packetsPerSecond = try await topology.flood(packets, in: sandbox)
            return result
        case .bare: command = ["\(Bench.products)/bare-receiver", "5"] + topology.traced
        case .collect, .polled: command = [Bench.program, "collect"] + topology.namespaceOptions
        case .recording:
            command = [Bench.program, "collect", "--record", file, "--record-limit", "8G"] + topology.namespaceOptions
        }
        let process = try SandboxProcess(command, in: sandbox)
        try await Bench.wait(for: self == .bare ? "draining" : "serving http", of: process)
        guard let pid = process.processIdentifier else { throw Failure(description: "it ended: \(process.output)") }
        let reader =
            self == .polled
            ? try SandboxProcess(["\(Bench.products)/reader", "9100", "600", "250", "/paths", "/metrics"], in: sandbox) : nil
        // Until what starting takes is over.
        try await Task.sleep(for: .milliseconds(500))
        let before = ProcessUse(of: pid)
        result.packetsPerSecond = try await topology.flood(packets, in: sandbox)
        // Until the packets under way have arrived and been written.
        try await Task.sleep(for: .milliseconds(self == .recording ? 2500 : 800))
        result.use = ProcessUse(of: pid)
        result.use.user -= before.user
        result.use.system -= before.system
        await reader?.stop()
        await process.stop(seconds: 60)
        // Its last output may still be in the pipe.
        for _ in 0..<100 where !process.output.contains(" events lost") { try await Task.sleep(for: .milliseconds(20)) }
        guard let events = Bench.number(before: " events, ", in: process.output),
            let lost = Bench.number(before: " events lost", in: process.output)
        else { throw Failure(description: "the receiver did not end as it should: \(process.output)") }
        result.events = events
        result.lost = lost
        result.journeys = Bench.number(before: " journeys ", in: process.output)
        result.leftOut = Bench.number(before: " left out", in: process.output) ?? 0
        let attributes = try? FileManager.default.attributesOfItem(atPath: file)
        result.fileBytes = (attributes?[.size] as? Int) ?? 0
        return result
    }
}

/// Receivers in turn, on the same flood through the same network.
enum LoadBench {
    private static let widths = [18, 11, 8, 10, 9, 9, 9, 8, 8, 8, 9]

    static func run(packets: Int, rounds: Int, topologies: [LoadTopology]) async throws {
        Bench.show("\(packets) UDP packets as fast as they can be sent; medians of \(rounds) rounds in turn")
        for topology in topologies { try await run(topology, packets: packets, rounds: rounds) }
    }

    private static func run(_ topology: LoadTopology, packets: Int, rounds: Int) async throws {
        let results = try await Sandbox.with { sandbox in
            try await topology.setUp(in: sandbox)
            let installed = try await sandbox.require([Bench.program, "install-probes"] + topology.probeOptions).standardOutput
            Bench.show("\n\(topology.rawValue): \(installed.prefix { $0 != "(" })")
            var results: [Receiver: [Receiver.Result]] = [:]
            for round in 1...rounds {
                for receiver in Receiver.allCases {
                    let result = try await receiver.run(packets, topology, in: sandbox)
                    results[receiver, default: []].append(result)
                    FileHandle.standardError.write(
                        Data("round \(round), \(receiver.rawValue): \(Int(result.packetsPerSecond)) packets/s\n".utf8))
                }
            }
            return results
        }
        let bare = Bench.median((results[.bare] ?? []).map(\.packetsPerSecond))
        Bench.show(
            Bench.row(
                [
                    "receiver", "packets/s", "to bare", "events", "journeys", "lost", "left out", "user µs", "sys µs",
                    "peak MiB",
                    "bytes/ev",
                ], widths))
        for receiver in Receiver.allCases {
            guard let all = results[receiver], let first = all.first else { continue }
            func median(_ value: (Receiver.Result) -> Double) -> Double { Bench.median(all.map(value)) }
            let rate = median(\.packetsPerSecond)
            let listens = receiver != .none
            Bench.show(
                Bench.row(
                    [
                        receiver.rawValue, String(Int(rate)), Bench.text(rate / bare), listens ? String(first.events) : "",
                        all.compactMap(\.journeys).min().map { String($0) } ?? "",
                        listens ? String(all.reduce(0) { $0 + $1.lost }) : "",
                        receiver == .recording ? String(all.reduce(0) { $0 + $1.leftOut }) : "",
                        listens ? Bench.text(median(\.userPerEvent)) : "", listens ? Bench.text(median(\.systemPerEvent)) : "",
                        listens ? String(all.map(\.use.peakMiB).max() ?? 0) : "",
                        first.fileBytes > 0 ? String(first.fileBytes / max(1, first.events)) : "",
                    ], widths))
        }
    }
}
