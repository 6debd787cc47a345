import Foundation
import Lab

/// Makes a recording for `bench-captures`: what `collect --record` writes of a flood.
enum RecordBench {
    static func run(packets: Int, to file: String) async throws {
        try await Sandbox.with { sandbox in
            try await LoadTopology.two.setUp(in: sandbox)
            try await sandbox.require([Bench.program, "install-probes"] + LoadTopology.two.probeOptions)
            let collector = try SandboxProcess(
                [Bench.program, "collect", "--record", file, "--record-limit", "8G"] + LoadTopology.two.namespaceOptions,
                in: sandbox
            )
            try await Bench.wait(for: "serving http", of: collector)
            _ = try await LoadTopology.two.flood(packets, in: sandbox, ports: 1000)
            try await Task.sleep(for: .seconds(1))
            await collector.stop(seconds: 30)
            Bench.show(collector.output.split(separator: "\n").suffix(2).joined(separator: "\n"))
        }
    }
}
