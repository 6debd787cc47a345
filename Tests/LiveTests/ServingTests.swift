import Foundation
import Lab
import LinuxSupport
import Testing

/// The programs' HTTP endpoint as curl sees it.
@Suite(.serialized, .enabled(if: Live.obstacle == nil, "\(Live.obstacle ?? "")"))
struct ServingTests {
    private static let resources = [
        "", "paths", "journeys", "flows", "drops", "findings", "precedence", "probes", "namespaces", "metrics", "healthz",
        "rules", "version", "openapi.json",
    ]

    @Test("analyze --serve says where it serves, and answers every route once the file has ended")
    func analysis() async throws {
        let recording =
            URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent().path
            + "/Fixtures/ping/recording.pcapng"
        try await Sandbox.with { sandbox in
            let address = "127.0.0.1:9123"
            let analysis = try SandboxProcess(
                [Live.program, "analyze", recording, "--serve", "--listen", address], in: sandbox)
            for _ in 0..<500 where !analysis.output.contains("370 events") { try await Task.sleep(for: .milliseconds(20)) }
            #expect(analysis.output.contains("serving http://\(address)/"))
            // None waits for a snapshot that does not come, which would take 5 s.
            for resource in Self.resources {
                let code = try await sandbox.require(
                    ["curl", "-sS", "-m", "4", "-o", "/dev/null", "-w", "%{http_code}", "http://\(address)/\(resource)"])
                #expect(code.standardOutput == "200", "/\(resource)")
            }
            #expect(await analysis.stop() == 0)
        }
    }
}
