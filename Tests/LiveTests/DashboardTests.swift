import Foundation
import Lab
import LinuxSupport
import Testing

/// Prometheus, where it is installed. `tools/prepare test` does not install it: Debian's package starts a service.
private enum Prometheus {
    static let obstacle: String? = {
        let missing = ["prometheus", "promtool"].filter { !FileManager.default.isExecutableFile(atPath: "/usr/bin/\($0)") }
        return missing.isEmpty ? nil : "\(missing.joined(separator: " and ")) is not installed (tools/prepare monitoring)"
    }()
}

/// The metrics, the dashboard's queries and the rules against a real Prometheus that scrapes a real collector.
@Suite(
    .serialized, .enabled(if: Live.obstacle == nil, "\(Live.obstacle ?? "")"),
    .enabled(if: Prometheus.obstacle == nil, "\(Prometheus.obstacle ?? "")"))
struct DashboardTests {
    private static let folder = URL(fileURLWithPath: #filePath).deletingLastPathComponent().appendingPathComponent(
        "../../dashboards"
    )
    .standardizedFileURL.path

    /// Each query of the dashboard, with the range that Grafana would give it for a scrape a second.
    private static func queries() throws -> [String] {
        struct Dashboard: Decodable {
            struct Panel: Decodable {
                struct Target: Decodable { var expr: String }
                var targets: [Target]
            }
            var panels: [Panel]
        }
        let text = try Data(contentsOf: URL(fileURLWithPath: "\(folder)/grafana.json"))
        return try JSONDecoder().decode(Dashboard.self, from: text).panels.flatMap(\.targets).map {
            $0.expr.replacingOccurrences(of: "$__rate_interval", with: "10s")
        }
    }

    /// How many series a query gives.
    private static func series(_ sandbox: Sandbox, _ query: String) async throws -> Int {
        struct Answer: Decodable {
            struct Data: Decodable { var result: [Series] }
            struct Series: Decodable {}
            var status: String
            var data: Data
        }
        let output = try await sandbox.require([
            "curl", "-sS", "-m", "5", "--data-urlencode", "query=\(query)", "http://127.0.0.1:9090/api/v1/query",
        ])
        let answer = try JSONDecoder().decode(Answer.self, from: Foundation.Data(output.standardOutput.utf8))
        #expect(answer.status == "success", "\(query)")
        return answer.data.result.count
    }

    @Test("rules and alerts do what their tests say")
    func rules() async throws {
        for arguments in [
            ["test", "rules", "\(Self.folder)/alerts_test.yml"],
            ["check", "config", "\(Self.folder)/prometheus.yml"],
        ] {
            let output = try await Tool.run("promtool", arguments)
            #expect(output.isSuccess, "\(output.standardOutput)\(output.standardError)")
        }
    }

    @Test("every query of the dashboard and every recorded name has data, and the first drop counts")
    func dashboard() async throws {
        let queries = try Self.queries()
        #expect(queries.count >= 15)
        try await Sandbox.with { sandbox in
            try await sandbox.sh("ip link set lo up")
            try await sandbox.sh("iptables-nft -A OUTPUT -d 127.0.0.9 -p icmp -j DROP")
            _ = try await sandbox.trace("install-probes", "--netns", "host")
            try await sandbox.collecting("--netns", "host") { _ in
                let page = try await sandbox.require([
                    "sh", "-c",
                    "curl -sS http://127.0.0.1:9100/metrics > /run/metrics && promtool check metrics < /run/metrics",
                ])
                #expect(page.standardOutput.isEmpty && page.standardError.isEmpty)
                try await sandbox.require([
                    "sh", "-c",
                    "sed 's/interval: 5s/interval: 1s/; s#- \\(alerts\\|recording-rules\\).yml#- '$0'/\\1.yml#' $0/prometheus.yml > /run/prometheus.yml",
                    Self.folder,
                ])
                let prometheus = try SandboxProcess(
                    [
                        "prometheus", "--config.file=/run/prometheus.yml", "--storage.tsdb.path=/run/prometheus",
                        "--web.listen-address=127.0.0.1:9090",
                    ], in: sandbox)
                try await waiting {
                    try await sandbox.run(["curl", "-sSf", "-m", "2", "http://127.0.0.1:9090/-/ready"]).isSuccess
                }
                // At zero before the first drop, so that it is an increase.
                let dropped = "ipt_trace_decided_drops_total"
                try await waiting { try await Self.series(sandbox, "count_over_time(up[10s]) > 3") == 1 }
                #expect(try await Self.series(sandbox, "\(dropped) == 0") >= 12)
                let traffic = try ["127.0.0.1", "127.0.0.9"].map {
                    try SandboxProcess(["ping", "-q", "-i", "0.2", "-c", "300", $0], in: sandbox)
                }
                try await waiting {
                    try await Self.series(sandbox, "increase(\(dropped){kind=\"rule\",owner=\"none\"}[20s]) > 1") == 1
                }
                var silent: [String] = []
                for query in queries + [
                    "hubble_drop_total", "hubble_flows_processed_total", "networkobservability_drop_count",
                    "networkobservability_forward_count",
                ] where try await Self.series(sandbox, query) == 0 { silent.append(query) }
                #expect(silent.isEmpty)
                // The alert of the first drop is on.
                try await waiting { try await Self.series(sandbox, "ALERTS{alertname=\"PacketsDroppedByRule\"}") > 0 }
                #expect(try await Self.series(sandbox, "ALERTS{alertname=\"PacketsDroppedByRule\"}") > 0)
                for ping in traffic { await ping.stop(signal: SIGINT) }
                await prometheus.stop(signal: SIGTERM)
            }
        }
    }
}
