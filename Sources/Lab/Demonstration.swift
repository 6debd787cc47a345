private import Foundation
private import Namespaces

/// Runs a network's traffic with ipt-trace's own commands, as a person would type them, and shows what they print.
public struct Demonstration: Sendable {
    private let network: LabNetwork
    private let program: String
    private let show: @Sendable (String) -> Void

    /// What came of it.
    public struct Result: Sendable {
        /// `/paths`, as JSON.
        public var paths: String
        /// `/journeys`, as JSON.
        public var journeys: String
        /// `/findings`, as JSON.
        public var findings: String
        /// `/flows`, as JSON.
        public var flows: String
        /// By command: whether it ended as it should.
        public var traffic: [(command: String, isAsExpected: Bool)]
    }

    /// - Parameters:
    ///   - program: the path of ipt-trace.
    ///   - show: takes what is to be printed.
    public init(_ network: LabNetwork, program: String, show: @escaping @Sendable (String) -> Void) {
        self.network = network
        self.program = program
        self.show = show
    }

    /// - Parameter sandbox: with the network set up.
    public func run(in sandbox: Sandbox) async throws -> Result {
        let namespaces = network.traced.flatMap { ["--netns", $0] }
        try await perform(["ipt-trace", "install-probes"] + network.probeOptions + namespaces, in: sandbox)

        show("$ ipt-trace collect \(namespaces.joined(separator: " ")) &")
        let collector = try SandboxProcess([program, "collect"] + namespaces, in: sandbox)
        try await wait(for: "serving http", of: collector)
        show(collector.output)
        var servers: [SandboxProcess] = []
        for command in network.servers {
            show("$ " + command.joined(separator: " ") + " &")
            let server = try SandboxProcess(resolved(command), in: sandbox)
            try await wait(for: "serving", of: server)
            servers.append(server)
        }

        var traffic: [(command: String, isAsExpected: Bool)] = []
        for item in network.traffic {
            let isSuccess = try await perform(item.command, in: sandbox, mayFail: true)
            traffic.append((item.command.joined(separator: " "), isSuccess == item.succeeds))
        }
        // Until journeys have ended: the linger time and the kernel's own delay.
        try await Task.sleep(for: .milliseconds(900))

        show("$ curl localhost:9100/paths")
        let paths = try await sandbox.require(["curl", "-sS", "localhost:9100/paths"]).standardOutput
        show(paths.count > 700 ? "\(paths.prefix(700))… (\(paths.utf8.count) bytes)\n" : paths)
        let journeys = try await sandbox.require(["curl", "-sS", "localhost:9100/journeys?limit=1024"]).standardOutput
        let flows = try await sandbox.require(
            ["curl", "-sS", "localhost:9100/flows?limit=1000"]
        ).standardOutput
        let findings = try await sandbox.require(["curl", "-sS", "localhost:9100/findings"]).standardOutput
        for report in ["paths", "flows", "precedence", "findings"] {
            try await perform(["ipt-trace", "report", report], in: sandbox)
        }

        show("$ kill -INT %1")
        let before = collector.output
        await collector.stop()
        for server in servers { await server.stop() }
        show(String(collector.output.dropFirst(before.count)))
        try await perform(["ipt-trace", "remove-probes", "--verify"], in: sandbox)
        return Result(paths: paths, journeys: journeys, findings: findings, flows: flows, traffic: traffic)
    }

    private func wait(for words: String, of process: SandboxProcess) async throws {
        for _ in 0..<250 {
            if process.output.contains(words) { return }
            guard process.isRunning else { break }
            try await Task.sleep(for: .milliseconds(20))
        }
        throw Sandbox.Unavailable(description: "it did not start: \(process.output)")
    }

    private func resolved(_ command: [String]) -> [String] { command.map { $0 == "ipt-trace" ? program : $0 } }

    /// Shows a command and what it prints.
    ///
    /// - Returns: whether it ended well.
    @discardableResult
    private func perform(_ command: [String], in sandbox: Sandbox, mayFail: Bool = false) async throws -> Bool {
        show("$ " + command.joined(separator: " "))
        let output = try await sandbox.run(resolved(command))
        show(output.standardOutput + output.standardError)
        guard output.isSuccess || mayFail else {
            throw Sandbox.Unavailable(description: "\(command.joined(separator: " ")) failed (\(output.status))")
        }
        return output.isSuccess
    }
}
