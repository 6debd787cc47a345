private import Foundation
private import Namespaces

/// Runs a network's traffic with ipt-trace's own commands, as a person would type them, and shows what they print.
public struct Demonstration: Sendable {
    private let network: LabNetwork
    private let program: String
    private let show: @Sendable (String) -> Void

    /// - Parameters:
    ///   - program: the path of ipt-trace.
    ///   - show: takes what is to be printed.
    public init(_ network: LabNetwork, program: String, show: @escaping @Sendable (String) -> Void) {
        self.network = network
        self.program = program
        self.show = show
    }

    /// - Parameter sandbox: with the network set up.
    public func run(in sandbox: Sandbox) async throws {
        let namespaces = network.traced.flatMap { ["--netns", $0] }
        try await perform(["ipt-trace", "install-probes"] + namespaces, in: sandbox)

        show("$ ipt-trace collect \(namespaces.joined(separator: " ")) &")
        let collector = try SandboxProcess([program, "collect"] + namespaces, in: sandbox)
        try await waitUntilServing(collector, sandbox)
        show(collector.output)

        for command in network.traffic { try await perform(command, in: sandbox, mayFail: true) }
        // Until journeys have ended: the linger time and the kernel's own delay.
        try await Task.sleep(for: .milliseconds(800))

        show("$ curl localhost:9100/paths")
        let paths = try await sandbox.require(["curl", "-sS", "localhost:9100/paths"]).standardOutput
        show(paths.count > 700 ? "\(paths.prefix(700))… (\(paths.utf8.count) bytes)\n" : paths)
        for report in ["paths", "flows", "precedence"] { try await perform(["ipt-trace", "report", report], in: sandbox) }

        show("$ kill -INT %1")
        let before = collector.output
        await collector.stop()
        show(String(collector.output.dropFirst(before.count)))
        try await perform(["ipt-trace", "remove-probes", "--verify"], in: sandbox)
    }

    private func waitUntilServing(_ collector: SandboxProcess, _ sandbox: Sandbox) async throws {
        for _ in 0..<250 {
            if collector.output.contains("serving http") { return }
            guard collector.isRunning else { break }
            try await Task.sleep(for: .milliseconds(20))
        }
        throw Sandbox.Unavailable(description: "the collector did not start: \(collector.output)")
    }

    /// Shows a command and what it prints.
    private func perform(_ command: [String], in sandbox: Sandbox, mayFail: Bool = false) async throws {
        show("$ " + command.joined(separator: " "))
        let words = command[0] == "ipt-trace" ? [program] + command.dropFirst() : command
        let output = try await sandbox.run(words)
        show(output.standardOutput + output.standardError)
        guard output.isSuccess || mayFail else {
            throw Sandbox.Unavailable(description: "\(command.joined(separator: " ")) failed (\(output.status))")
        }
    }
}
