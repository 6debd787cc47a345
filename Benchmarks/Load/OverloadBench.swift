import Aggregation
import Foundation
import Lab
import LinuxSupport
import Reports

/// A collector that gets a tenth of a core while a flood goes by: whether it counts exactly, and how it reports journeys.
enum OverloadBench {
    private static let flows = 1000

    static func run(packets: Int, share: Double) async throws {
        Bench.show(
            "\(packets) UDP packets in \(flows) flows through guest and router; collect runs \(Int(share * 100)) % of the time")
        try await Sandbox.with { sandbox in
            try await LoadTopology.two.setUp(in: sandbox)
            try await sandbox.require([Bench.program, "install-probes"] + LoadTopology.two.probeOptions)
            let collector = try SandboxProcess([Bench.program, "collect"] + LoadTopology.two.namespaceOptions, in: sandbox)
            try await Bench.wait(for: "serving http", of: collector)
            guard let pid = collector.processIdentifier else { throw Failure(description: "it ended: \(collector.output)") }
            let before = try await sandbox.probePackets()
            let throttle = Throttle(pid, share: share)
            let rate = try await LoadTopology.two.flood(packets, in: sandbox, ports: flows)
            let amid = try await report(sandbox)
            throttle.end()
            // Until everything that is in the receive buffers has been taken, and journeys have ended.
            try await Task.sleep(for: .seconds(7))
            // The last loss shows when another event follows.
            try await sandbox.sh("ip netns exec guest ping -c 1 -W 2 8.8.8.8")
            try await Task.sleep(for: .seconds(1))
            let after = try await report(sandbox)
            // Asked for with the rules' own counters, whose reading is no traffic.
            let counted = try await sandbox.probePackets() - before
            let seen = after.completeness
            let own = try await report(sandbox).completeness.events - seen.events
            Bench.show("sent \(Int(rate)) packets/s")
            Bench.show(
                "in the middle of it: \(amid.completeness.events) events received, \(amid.completeness.lost) lost, lag "
                    + "\((amid.completeness.behindUs ?? 0) / 1000) ms, 1 flow in \(amid.completeness.followedOneIn ?? 1) followed"
            )
            let sum = seen.events + seen.lost
            Bench.show(
                "in the end: \(seen.events) received + \(seen.lost) lost = \(sum); the probes' rules counted \(counted)"
                    + " (the last request is \(own) of them at most): \(counted >= sum && counted - sum <= own ? "exact" : "NOT EXACT")"
            )
            Bench.show(
                "not followed: \(seen.thinned ?? 0) events; 1 flow in \(seen.followedOneIn ?? 1) followed at the end")
            var outcomes: [String: UInt64] = [:]
            for path in after.paths where path.protocols["udp"] != nil { outcomes[path.outcome, default: 0] += path.packets }
            Bench.show(
                "journeys: \(outcomes.sorted { $0.key < $1.key }.map { "\($0.value) \($0.key)" }.joined(separator: ", "))")
            Bench.show("wrongly dropped: \((outcomes["dropped"] ?? 0) + (outcomes["delivered"] ?? 0)) (all were sent on)")
            for path in after.paths where path.outcome == "incomplete" {
                let way =
                    "\(path.steps.first.map { "\($0.netns) \($0.table)/\($0.chain)" } ?? "") to "
                    + "\(path.steps.last.map { "\($0.netns) \($0.table)/\($0.chain)" } ?? "")"
                Bench.show("  \(path.packets) incomplete, \(way): \(path.reason ?? "")")
            }
            for path in after.paths where path.outcome == "dropped" {
                let last = path.droppedBetween.map { "\($0.after.netns) \($0.after.table)/\($0.after.chain)" } ?? "nowhere"
                Bench.show("  \(path.packets) behind \(last), from \(path.firstSeen) to \(path.lastSeen)")
            }
            await collector.stop(seconds: 30)
            Bench.show(collector.output.trimmingCharacters(in: .newlines))
        }
    }

    private static func report(_ sandbox: Sandbox) async throws -> PathsReport {
        let text = try await sandbox.require(["curl", "-sSf", "http://127.0.0.1:9100/paths?limit=10000"]).standardOutput
        return try ReportJSON.decode(PathsReport.self, from: Data(text.utf8))
    }
}

/// Lets a process run for a share of each tenth of a second. Needs no control groups, and so no root.
final class Throttle: Sendable {
    private let pid: Int32
    private let work: Task<Void, Never>

    init(_ pid: Int32, share: Double) {
        self.pid = pid
        work = Task {
            while !Task.isCancelled {
                kill(pid, SIGCONT)
                try? await Task.sleep(for: .milliseconds(Int(100 * share)))
                kill(pid, SIGSTOP)
                try? await Task.sleep(for: .milliseconds(Int(100 * (1 - share))))
            }
            kill(pid, SIGCONT)
        }
    }

    func end() { work.cancel() }

    deinit {
        work.cancel()
        kill(pid, SIGCONT)
    }
}
