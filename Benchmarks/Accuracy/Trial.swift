import Foundation
import Lab
import LinuxSupport

/// The collector's words on a recording.
struct Reception {
    /// Events that were lost before they were received.
    var lost: Int
    /// Events that were received and not written.
    var leftOut: Int
    /// How long was sent.
    var seconds: Double
}

/// Sends one kind of traffic through a network of its own and records what its probes report.
struct Trial {
    private static let products = URL(fileURLWithPath: CommandLine.arguments[0]).deletingLastPathComponent().path
    private let kind: Kind
    private let file: String

    init(_ kind: Kind, file: String) {
        self.kind = kind
        self.file = file
    }

    func run() async throws -> Reception {
        try await Sandbox.with { sandbox in
            let network = Gallery.twoRouters
            try await network.setUp(in: sandbox)
            // Otherwise TCP hands on many segments as one packet.
            try await sandbox.require(["ip", "-n", "guest", "link", "set", "dev", "up", "gso_max_segs", "1"])
            try await sandbox.require(["ip", "-n", "inet", "link", "set", "dev", "up0", "gso_max_segs", "1"])
            // Addresses of the neighbours are known before.
            try await sandbox.require(["ip", "netns", "exec", "guest", "ping", "-c", "1", "-W", "2", "8.8.8.8"])
            let namespaces = network.traced.flatMap { ["--netns", $0] }
            let program = "\(Self.products)/ipt-trace"
            try await sandbox.require([program, "install-probes", "--family", "ipv4"] + namespaces)
            let server = try SandboxProcess(
                ["ip", "netns", "exec", "inet", "\(Self.products)/tagged-traffic", "serve"], in: sandbox)
            try await wait(for: "serving", of: server)
            let collector = try SandboxProcess(
                [program, "collect", "--snap-length", "176", "--record", file, "--record-limit", "8G"] + namespaces, in: sandbox
            )
            try await wait(for: "serving http", of: collector)
            // Both CPUs are taken, but not from who records.
            let sent = try await sandbox.require(
                ["nice", "-n", "10", "ip", "netns", "exec", "guest", "\(Self.products)/tagged-traffic"] + kind.command)
            // Until the packets under way have arrived and been written.
            try await Task.sleep(for: .seconds(2))
            await collector.stop(seconds: 60)
            await server.stop()
            guard let seconds = sent.standardOutput.split(separator: " ").first.flatMap({ Double($0) }) else {
                throw TrialFailure(description: "tagged-traffic printed \(sent.standardOutput)")
            }
            return Reception(
                lost: try number(before: " events lost", in: collector.output),
                leftOut: (try? number(before: " left out, ", in: collector.output))
                    ?? (try? number(before: " left out;", in: collector.output))
                        ?? (try? number(before: " left out\n", in: collector.output)) ?? 0,
                seconds: seconds)
        }
    }

    private func number(before words: String, in text: String) throws -> Int {
        // In the summary, which comes last: warnings have such words, too.
        guard let end = text.range(of: words, options: .backwards)?.lowerBound,
            let number = Int(text[..<end].split(whereSeparator: { !$0.isNumber }).last ?? "")
        else { throw TrialFailure(description: "the collector did not end as it should: \(text)") }
        return number
    }

    private func wait(for words: String, of process: SandboxProcess) async throws {
        for _ in 0..<500 {
            if process.output.contains(words) { return }
            guard process.isRunning else { break }
            try await Task.sleep(for: .milliseconds(20))
        }
        throw TrialFailure(description: "it did not start: \(process.output)")
    }
}

struct TrialFailure: Error, CustomStringConvertible {
    var description: String
}
