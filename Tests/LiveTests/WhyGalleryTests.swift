import Diagnosis
import Foundation
import Lab
import LinuxSupport
import Reports
import Testing

/// `why`, asked about every packet of the gallery that does not get through.
@Suite(.serialized, .enabled(if: Live.obstacle == nil, "\(Live.obstacle ?? "")"))
struct WhyGalleryTests {
    /// A command of the gallery's traffic as a question: `ip netns exec guest ping … 8.8.8.8`, `… ipt-trace lab connect 10.0.2.2 80`.
    private static func question(_ command: [String]) -> [String]? {
        var words = command[...]
        var from = "host"
        if words.starts(with: ["ip", "netns", "exec"]) {
            from = words.dropFirst(3).first ?? "host"
            words = words.dropFirst(4)
        }
        // Of another time to live than `why` sends.
        if words.contains("-t") { return nil }
        if words.first == "ping", let destination = words.last {
            let source = words.firstIndex(of: "-I").map { words[$0 + 1] }
            return [destination, "--from", from] + (source.map { ["--source", $0] } ?? [])
        }
        guard words.starts(with: ["ipt-trace", "lab", "connect"]), words.count >= 5 else { return nil }
        let host = words[words.startIndex + 3]
        let isUDP = words.contains("--udp")
        let address = host.contains(":") ? "[\(host)]" : host
        return ["\(address):\(words[words.startIndex + 4])\(isUDP ? "/udp" : "")", "--from", from]
    }

    private static func ask(_ sandbox: Sandbox, _ question: [String]) async throws -> WhyAnswer {
        let output = try await sandbox.run([Live.program, "why", "--json", "--quiet", "--send"] + question)
        let decoder = JSONDecoder()
        decoder.keyDecodingStrategy = .convertFromSnakeCase
        return try decoder.decode(WhyAnswer.self, from: Data(output.standardOutput.utf8))
    }

    private struct Result: Sendable {
        var isExplained = false
        var isMended = false
        /// How many cures were tried on a copy of the rules.
        var trials = 0
        /// What it was told although it fails; `nil` for an answer that may be right.
        var wrong: String?
    }

    @Test("what does not get through is explained, and what has a cure is mended by it")
    func failing() async throws {
        var results: [Result] = []
        try await withThrowingTaskGroup(of: Result?.self) { group in
            for (index, entry) in GalleryTests.entries.enumerated() {
                if index >= 3, let result = try await group.next() ?? nil { results.append(result) }
                group.addTask { try await Self.check(entry) }
            }
            for try await result in group { if let result { results.append(result) } }
        }
        let explained = results.count { $0.isExplained }
        print("why: \(results.count) asked, \(explained) explained, \(results.count { $0.isMended }) mended")
        let wrong = results.compactMap(\.wrong)
        #expect(wrong.isEmpty)
        #expect(results.count >= 30 && explained == results.count)
        #expect(results.reduce(0) { $0 + $1.trials } >= 10)
    }

    /// - Returns: `nil` for an entry in which all gets through, or that cannot be asked about.
    private static func check(_ entry: GalleryTests.Entry) async throws -> Result? {
        guard let network = Gallery.network(named: entry.network) else { return nil }
        let variant = entry.variant.flatMap { network.variant(named: $0) }
        let whole = network.with(variant)
        guard let failing = whole.traffic.first(where: { !$0.succeeds }), let question = question(failing.command) else {
            return nil
        }
        return try await Sandbox.with { sandbox in
            do {
                try await network.setUp(in: sandbox, variant: variant)
            } catch let error as LabNetwork.Unmet {
                print("skipped \(entry): \(error)")
                return nil
            }
            var servers: [SandboxProcess] = []
            for command in whole.servers {
                let server = try SandboxProcess(command.map { $0 == "ipt-trace" ? Live.program : $0 }, in: sandbox)
                servers.append(server)
                try await waiting { server.output.contains("serving") }
            }
            let first = try await ask(sandbox, question)
            var answer = first
            var rounds = 0
            var second: WhyAnswer?
            while answer.outcome != .answered, !answer.cures.isEmpty, rounds < 3 {
                for cure in answer.cures { _ = try await sandbox.run(["sh", "-c", cure.command]) }
                answer = try await ask(sandbox, question)
                second = second ?? answer
                rounds += 1
            }
            for server in servers { await server.stop() }
            let reason =
                first.decidedBy.flatMap { $0.isRule ? $0.text : nil } ?? first.remark ?? first.findings.first?.title ?? "?"
            print(
                "why \(entry): \(question.joined(separator: " ")): \(first.outcome.rawValue) \(first.direction ?? "-"): \(reason); "
                    + "\(rounds) cures, then \(answer.outcome.rawValue)")
            let isKnown =
                first.decidedBy.map { $0.isRule || $0.kind == "kernel" } == true
                || first.findings.contains { $0.kind != "packets-dropped" }
                || first.remark != nil
            // Nobody is to be told that what fails gets through.
            let isWrong = first.outcome == .answered || first.outcome == .notSeen
            var result = Result(
                isExplained: isKnown, isMended: answer.outcome == .answered,
                wrong: isWrong ? "\(entry): \(first.outcome.rawValue)" : nil)
            // What came of the cures on a copy of the rules has to be what comes of them.
            let trials = first.cures.compactMap { $0.trial?.result }
            if let second, !trials.isEmpty {
                let isPast = second.decidedBy != first.decidedBy
                result.trials = trials.count
                if trials.contains(.mends), !isPast { result.wrong = "\(entry): the trial mends, and the cure does not" }
                if !trials.contains(.mends), trials.contains(.fails) || trials.contains(.refused), isPast {
                    result.wrong = "\(entry): the cure mends, and the trial does not"
                }
                print("trial \(entry): \(first.cures.map { ($0.command, $0.trial) })")
            }
            return result
        }
    }
}
