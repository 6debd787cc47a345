import Aggregation
import Foundation
import Glibc
import Lab
import LinuxSupport
import Reports
import Testing

/// The HTTP contract as curl and ipt-trace's own client see it: addresses, tokens, names, encodings, tags, pages.
@Suite(.serialized, .enabled(if: Live.obstacle == nil, "\(Live.obstacle ?? "")"))
struct ContractTests {
    private static let recording =
        URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent().path
        + "/Fixtures/ping/recording.pcapng"
    private static let token = "0123456789abcdef0123456789abcdef"

    /// Serves the recording while `body` runs.
    private static func serving(_ sandbox: Sandbox, _ options: [String], _ body: (SandboxProcess) async throws -> Void)
        async throws
    {
        let server = try SandboxProcess([Live.program, "analyze", recording, "--serve"] + options, in: sandbox)
        try await waiting { server.output.contains("370 events") || !server.isRunning }
        try #require(server.output.contains("370 events"), "\(server.output)")
        try await body(server)
        await server.stop()
    }

    private static func curl(_ sandbox: Sandbox, _ words: [String]) async throws -> (status: String, body: String, head: String)
    {
        let output = try await sandbox.run(
            ["curl", "-sS", "-m", "5", "-D", "/run/head", "-w", "\n%{http_code}"] + words)
        let lines = output.standardOutput.split(separator: "\n", omittingEmptySubsequences: false)
        let head = try await sandbox.require(["cat", "/run/head"]).standardOutput
        return (String(lines.last ?? ""), lines.dropLast().joined(separator: "\n"), head.lowercased())
    }

    @Test("without the token nothing but the index, the health and the version is answered; the own client shows it")
    func tokens() async throws {
        try await Sandbox.with { sandbox in
            try await sandbox.sh("ip link set lo up")
            try await sandbox.require(["tee", "/run/token"], input: "\(Self.token)\n")
            try await sandbox.require(["tee", "/run/short"], input: "short\n")
            try await Self.serving(sandbox, ["--token-file", "/run/token"]) { _ in
                for path in ["", "healthz", "version"] {
                    #expect(try await Self.curl(sandbox, ["http://127.0.0.1:9100/\(path)"]).status == "200", "/\(path)")
                }
                for path in ["paths", "metrics", "probes", "openapi.json", "nothing"] {
                    let answer = try await Self.curl(sandbox, ["http://127.0.0.1:9100/\(path)"])
                    #expect(answer.status == "401" && answer.head.contains("www-authenticate: bearer"), "/\(path)")
                }
                for wrong in ["Bearer \(Self.token)x", "Bearer \(Self.token.dropLast())", "Basic \(Self.token)", "Bearer", ""] {
                    let answer = try await Self.curl(
                        sandbox, ["-H", "Authorization: \(wrong)", "http://127.0.0.1:9100/paths"])
                    #expect(answer.status == "401", "\(wrong)")
                }
                let right = try await Self.curl(
                    sandbox, ["-H", "authorization: bearer \(Self.token)", "http://127.0.0.1:9100/paths"])
                #expect(right.status == "200")
                #expect(try await sandbox.trace("report", "paths", "--token-file", "/run/token").isSuccess)
                #expect(try await sandbox.trace("report", "paths").standardError.contains("401"))
            }
            let short = try await sandbox.trace("analyze", Self.recording, "--serve", "--token-file", "/run/short")
            #expect(short.exitCode == 64 && short.standardError.contains("openssl rand"))
            let missing = try await sandbox.trace("analyze", Self.recording, "--serve", "--token-file", "/run/none")
            #expect(missing.exitCode == 1 && missing.standardError.contains("/run/none"))
            let open = try await sandbox.trace("analyze", Self.recording, "--serve", "--listen", "0.0.0.0:9100")
            #expect(open.exitCode == 64 && open.standardError.contains("--token-file"))
        }
    }

    @Test("several addresses and a socket in the file system are served, names where they are allowed, all else not")
    func addresses() async throws {
        try await Sandbox.with { sandbox in
            try await sandbox.sh("ip link set lo up")
            try await sandbox.sh("sysctl -qw net.ipv6.conf.lo.disable_ipv6=0")
            let options = [
                "--listen", "127.0.0.1:9101", "--listen", "[::1]:9102", "--listen", "unix:/run/ipt.sock", "--allow-host",
                "Node1",
                "--allow-host", "trace.example",
            ]
            try await Self.serving(sandbox, options) { server in
                #expect(server.output.contains("serving http://127.0.0.1:9101, http://[::1]:9102, unix:/run/ipt.sock/paths"))
                for words in [
                    ["http://127.0.0.1:9101/paths"], ["http://[::1]:9102/paths"],
                    ["--unix-socket", "/run/ipt.sock", "http://localhost/paths"],
                ] {
                    #expect(try await Self.curl(sandbox, words).status == "200", "\(words)")
                }
                for (host, status) in [
                    ("node1:9100", "200"), ("NODE1", "200"), ("trace.example", "200"), ("node2", "421"),
                    ("x.trace.example", "421"),
                ] {
                    #expect(
                        try await Self.curl(sandbox, ["-H", "Host: \(host)", "http://127.0.0.1:9101/paths"]).status == status,
                        "\(host)")
                }
                #expect(try await sandbox.sh("stat -c %a /run/ipt.sock") == "660\n")
                let second = try await sandbox.trace("analyze", Self.recording, "--serve", "--listen", "unix:/run/ipt.sock")
                #expect(second.exitCode == 1 && second.standardError.contains("another program listens there"))
                // It took nothing away.
                #expect(
                    try await Self.curl(sandbox, ["--unix-socket", "/run/ipt.sock", "http://localhost/paths"]).status == "200")
            }
            #expect(try await sandbox.sh("ls /run").split(separator: "\n").contains("ipt.sock") == false)
            // One that was killed leaves it; the next one takes its place.
            let killed = try SandboxProcess(
                [Live.program, "analyze", Self.recording, "--serve", "--listen", "unix:/run/ipt.sock"], in: sandbox)
            try await waiting { killed.output.contains("370 events") }
            await killed.stop(signal: SIGKILL)
            #expect(try await sandbox.sh("ls /run").split(separator: "\n").contains("ipt.sock"))
            try await Self.serving(sandbox, ["--listen", "unix:/run/ipt.sock"]) { _ in
                let status = try await Self.curl(sandbox, ["--unix-socket", "/run/ipt.sock", "http://localhost/paths"]).status
                #expect(status == "200")
            }
        }
    }

    @Test("content is encoded for who takes it, tagged without what is of the moment, and paged without gaps")
    func content() async throws {
        try await Sandbox.with { sandbox in
            try await sandbox.sh("ip link set lo up")
            try await Self.serving(sandbox, []) { _ in
                let url = "http://127.0.0.1:9100/journeys"
                let plain = try await Self.curl(sandbox, [url])
                let tag = try #require(plain.head.split(separator: "\r\n").first { $0.hasPrefix("etag: ") }?.dropFirst(6))
                #expect(tag.hasPrefix("w/\"") && plain.head.contains("cache-control: no-cache"))
                #expect(!plain.head.contains("content-encoding"))
                let written = String(tag).replacing("w/", with: "W/")
                for named in [written, "*", "\"x\", \(written)", String(written.dropFirst(2))] {
                    let answer = try await Self.curl(sandbox, ["-H", "If-None-Match: \(named)", url])
                    #expect(answer.status == "304" && answer.body.isEmpty, "\(named)")
                }
                #expect(try await Self.curl(sandbox, ["-H", "If-None-Match: \"x\"", url]).status == "200")
                let whole = try ReportJSON.decode(JourneysReport.self, from: Data(plain.body.utf8)).journeys
                for (accepted, coding, tool) in [
                    ("gzip", "gzip", ["gzip", "-dc"]), ("gzip;q=0.5, zstd", "zstd", ["zstd", "-dcq"]),
                    ("*", "zstd", ["zstd", "-dcq"]),
                    ("zstd;q=0, gzip", "gzip", ["gzip", "-dc"]),
                ] {
                    let answer = try await Self.curl(sandbox, ["-H", "Accept-Encoding: \(accepted)", "-o", "/run/body", url])
                    #expect(
                        answer.head.contains("content-encoding: \(coding)") && answer.head.contains("vary: accept-encoding"))
                    let decoded = try await sandbox.require(tool + ["/run/body"]).standardOutput
                    let journeys = try ReportJSON.decode(JourneysReport.self, from: Data(decoded.utf8))
                    #expect(journeys.journeys == whole)
                }
                for accepted in ["identity", "br", "gzip;q=0", ""] {
                    let answer = try await Self.curl(sandbox, ["-H", "Accept-Encoding: \(accepted)", url])
                    #expect(!answer.head.contains("content-encoding"), "\(accepted)")
                }

                let all = try await sandbox.get(JourneysReport.self, "/journeys?limit=1000")
                #expect(all.journeys.count > 7 && all.nextCursor == nil)
                var ids: [String] = []
                var cursor: String?
                for _ in 0..<all.journeys.count {
                    let page = try await sandbox.get(
                        JourneysReport.self, "/journeys?limit=7" + (cursor.map { "&cursor=\($0)" } ?? ""))
                    ids += page.journeys.map(\.id)
                    cursor = page.nextCursor
                    if cursor == nil { break }
                }
                #expect(ids == all.journeys.map(\.id))
                for (path, status) in [
                    ("/paths?cursor=1.0", "404"), ("/paths?cursor=x", "400"), ("/paths?cursor=", "400"),
                    ("/findings?cursor=1.0", "400"),
                    ("/paths?cursor=1.0&cursor=1.0", "400"), ("/paths?cursor=1.-1", "400"),
                ] {
                    #expect(try await Self.curl(sandbox, ["http://127.0.0.1:9100\(path)"]).status == status, "\(path)")
                }
            }
        }
    }

    @Test("openapi.json names every route, and each that takes no name answers as it says")
    func description() async throws {
        struct Description: Decodable {
            struct Operation: Decodable {
                struct Parameter: Decodable { var name: String }
                var parameters: [Parameter]
            }
            struct Path: Decodable { var get: Operation }
            var openapi: String
            var paths: [String: Path]
        }
        try await Sandbox.with { sandbox in
            try await sandbox.sh("ip link set lo up")
            try await Self.serving(sandbox, []) { _ in
                let text = try await Self.curl(sandbox, ["http://127.0.0.1:9100/openapi.json"]).body
                let found = try JSONDecoder().decode(Description.self, from: Data(text.utf8))
                #expect(found.openapi.hasPrefix("3.1"))
                for path in ["/paths", "/rules", "/events", "/version"] where path != "/events" {
                    #expect(found.paths[path] != nil)
                }
                #expect(found.paths["/paths"]?.get.parameters.map(\.name).contains("cursor") == true)
                for path in found.paths.keys where !path.contains("{") && path != "/events" {
                    #expect(try await Self.curl(sandbox, ["http://127.0.0.1:9100\(path)"]).status == "200", "\(path)")
                }
                let version = try await Self.curl(sandbox, ["http://127.0.0.1:9100/version"]).body
                #expect(version.contains("\"version\":\""))
            }
        }
    }

    /// Where `tools/prepare` puts it.
    private static let schemathesis =
        URL(fileURLWithPath: #filePath).deletingLastPathComponent().appendingPathComponent(
            "../../.build/python/bin/schemathesis"
        )
        .standardizedFileURL.path

    @Test(
        "schemathesis finds no answer that openapi.json does not say",
        .enabled(
            if: FileManager.default.isExecutableFile(atPath: schemathesis), "schemathesis is not installed (tools/prepare)"))
    func generated() async throws {
        try await Sandbox.with { sandbox in
            try await sandbox.sh("ip link set lo up")
            try await Self.serving(sandbox, []) { _ in
                // In a directory of its own: it writes what it found.
                let output = try await sandbox.run([
                    "env", "-C", "/run", Self.schemathesis, "run", "http://127.0.0.1:9100/openapi.json", "--max-examples", "20",
                    "--seed", "1",
                    "--no-color",
                ])
                #expect(output.isSuccess && output.standardOutput.contains("passed"), "\(output.standardOutput.suffix(3000))")
            }
        }
    }

    private struct Event {
        var kind = ""
        var id: String?
        var data = ""
    }

    private static func events(_ text: String) -> [Event] {
        text.components(separatedBy: "\n\n").compactMap { block in
            var event = Event()
            for line in block.split(separator: "\n") {
                if line.hasPrefix("event: ") { event.kind = String(line.dropFirst(7)) }
                if line.hasPrefix("id: ") { event.id = String(line.dropFirst(4)) }
                if line.hasPrefix("data: ") { event.data = String(line.dropFirst(6)) }
            }
            return event.kind.isEmpty ? nil : event
        }
    }

    @Test("/events tells of journeys and findings as they come, chosen by filters, and goes on where a reader left")
    func events() async throws {
        try await Sandbox.with { sandbox in
            try await sandbox.sh("ip link set lo up")
            try await sandbox.sh("iptables-nft -A OUTPUT -d 127.0.0.9 -p icmp -j DROP")
            _ = try await sandbox.trace("install-probes", "--netns", "host")
            try await sandbox.collecting("--netns", "host") { _ in
                let url = "http://127.0.0.1:9100/events"
                let all = try SandboxProcess(["curl", "-sN", "-m", "9", "\(url)?proto=icmp"], in: sandbox)
                let drops = try SandboxProcess(["curl", "-sN", "-m", "9", "\(url)?outcome=dropped"], in: sandbox)
                try await waiting { all.output.contains("retry: 1000") && drops.output.contains("retry: 1000") }
                try await sandbox.sh("ping -c 2 -i 0.2 -W 1 127.0.0.1")
                _ = try await sandbox.run(["ping", "-c", "2", "-i", "1", "-W", "1", "127.0.0.9"])
                try await waiting {
                    Self.events(drops.output).count { $0.kind == "journey" } >= 2 && drops.output.contains("finding")
                }
                try await waiting { Self.events(all.output).count { $0.kind == "journey" } >= 6 }
                let seen = Self.events(all.output).filter { $0.kind == "journey" }
                let journeys = try seen.map { try ReportJSON.decode(JourneyReport.self, from: Data($0.data.utf8)) }
                #expect(journeys.count { $0.outcome == "delivered" } == 4 && journeys.count { $0.outcome == "dropped" } == 2)
                let dropped = Self.events(drops.output).filter { $0.kind == "journey" }
                #expect(dropped.allSatisfy { $0.data.contains("\"outcome\":\"dropped\"") })
                let finding = try #require(Self.events(drops.output).first { $0.kind == "finding" })
                #expect(finding.data.contains("packets-dropped"))
                await all.stop(signal: SIGTERM)

                // Behind the second of six come the other four, at once.
                let second = try #require(seen[1].id)
                let resumed = try SandboxProcess(
                    ["curl", "-sN", "-m", "3", "-H", "Last-Event-ID: \(second)", "\(url)?proto=icmp"], in: sandbox)
                try await waiting { Self.events(resumed.output).count { $0.kind == "journey" } >= 4 }
                #expect(Self.events(resumed.output).filter { $0.kind == "journey" }.map(\.id) == seen.dropFirst(2).map(\.id))
                await resumed.stop(signal: SIGTERM)
                await drops.stop(signal: SIGTERM)
                for (query, status) in [("?limit=3", "400"), ("?outcome=gone", "400"), ("?x=1", "400")] {
                    #expect(try await Self.curl(sandbox, [url + query]).status == status, "\(query)")
                }
                let head = try await Self.curl(sandbox, ["-I", url])
                #expect(head.status == "200" && head.head.contains("content-type: text/event-stream"))
            }
        }
    }

    @Test("many streams lock nobody out: more than there may be are refused, others are served")
    func manyStreams() async throws {
        try await Sandbox.with { sandbox in
            try await sandbox.sh("ip link set lo up")
            _ = try await sandbox.trace("install-probes", "--netns", "host")
            try await sandbox.collecting("--netns", "host") { _ in
                let url = "http://127.0.0.1:9100/events"
                // Each ends by itself.
                async let streams = sandbox.require([
                    "bash", "-c", "for i in $(seq 40); do curl -sN -m 5 -o /run/s$i -w '%{http_code}\\n' \(url) & done; wait",
                ])
                try await Task.sleep(for: .seconds(2))
                #expect(try await Self.curl(sandbox, ["http://127.0.0.1:9100/paths"]).status == "200")
                try await sandbox.sh("ping -c 3 -i 0.2 -W 1 127.0.0.1")
                let codes = try await streams.standardOutput.split(separator: "\n")
                #expect(codes.count { $0 == "200" } == 32 && codes.count { $0 == "503" } == 8, "\(codes)")
                var served = 0
                for number in 1...40 {
                    let text = try await sandbox.require(["cat", "/run/s\(number)"]).standardOutput
                    if Self.events(text).count(where: { $0.kind == "journey" }) >= 6 { served += 1 }
                }
                #expect(served == 32)
                // Their places are free again.
                let next = try await sandbox.run(["curl", "-sN", "-m", "2", url])
                #expect(next.standardOutput.contains("retry: 1000"))
                let report = try await sandbox.get(PathsReport.self, "/paths")
                #expect(report.completeness.lost == 0)
            }
        }
    }
}
