private import Aggregation
private import Foundation
private import LinuxSupport
private import Reports

/// Runs a network's traffic with ipt-trace's own commands, as a person would type them, and shows their output.
public struct Demonstration: Sendable {
    private let network: LabNetwork
    private let program: String
    private let show: @Sendable (String) -> Void

    /// What came of it.
    public struct Result: Sendable {
        /// The collector's answer; `nil` where it was not asked.
        public var reports: LabReports?
        /// By command: whether it ended as it should.
        public var traffic: [(command: String, isAsExpected: Bool)]
    }

    /// - Parameters:
    ///   - program: the path of ipt-trace.
    ///   - show: takes the lines to print.
    public init(_ network: LabNetwork, program: String, show: @escaping @Sendable (String) -> Void) {
        self.network = network
        self.program = program
        self.show = show
    }

    /// - Parameters:
    ///   - sandbox: with the network set up.
    ///   - recording: where the collector records to; it is not asked anything then, so that nothing but the network's traffic is
    ///     in the recording.
    public func run(in sandbox: Sandbox, recording: String? = nil) async throws -> Result {
        let namespaces = network.traced.flatMap { ["--netns", $0] }
        let options = namespaces + (recording.map { ["--record", $0] } ?? [])
        try await perform(["ipt-trace", "install-probes"] + network.probeOptions + namespaces, in: sandbox)

        show("$ ipt-trace collect \(options.joined(separator: " ")) &")
        let collector = try SandboxProcess([program, "collect"] + options, in: sandbox)
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

        var reports: LabReports?
        if recording == nil {
            reports = try await ask(sandbox)
            for report in ["paths", "flows", "precedence", "findings"] {
                try await perform(["ipt-trace", "report", report], in: sandbox)
            }
        }

        show("$ kill -INT %1")
        let before = collector.output
        await collector.stop()
        for server in servers { await server.stop() }
        show(String(collector.output.dropFirst(before.count)))
        try await perform(["ipt-trace", "remove-probes", "--verify"], in: sandbox)
        return Result(reports: reports, traffic: traffic)
    }

    private func ask(_ sandbox: Sandbox) async throws -> LabReports {
        show("$ curl localhost:9100/paths")
        let paths = try await get("/paths", sandbox)
        show(paths.count > 700 ? "\(paths.prefix(700))… (\(paths.utf8.count) bytes)\n" : paths)
        func decode<Report: Decodable>(_ type: Report.Type, _ text: String) throws -> Report {
            try ReportJSON.decode(type, from: Data(text.utf8))
        }
        let pathsReport = try decode(PathsReport.self, paths)
        var journeys = try decode(JourneysReport.self, try await get("/journeys?limit=1024", sandbox))
        // The latest are kept, and each path's example: of a thousand packets the first ones are gone.
        for example in pathsReport.examples(besides: journeys.journeys) {
            journeys.journeys.append(try decode(JourneyReport.self, try await get("/journeys/\(example)", sandbox)))
        }
        return LabReports(
            paths: pathsReport, journeys: journeys,
            flows: try decode(FlowsReport.self, try await get("/flows?limit=1000", sandbox)),
            findings: try decode(FindingsReport.self, try await get("/findings", sandbox)))
    }

    private func get(_ path: String, _ sandbox: Sandbox) async throws -> String {
        try await sandbox.require(["curl", "-sS", "localhost:9100\(path)"]).standardOutput
    }

    private func wait(for words: String, of process: SandboxProcess) async throws {
        for _ in 0..<1500 {
            if process.output.contains(words) { return }
            guard process.isRunning else { break }
            try await Task.sleep(for: .milliseconds(20))
        }
        throw Sandbox.Unavailable(description: "it did not start: \(process.output)")
    }

    private func resolved(_ command: [String]) -> [String] { command.map { $0 == "ipt-trace" ? program : $0 } }

    /// Shows a command and its output.
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
