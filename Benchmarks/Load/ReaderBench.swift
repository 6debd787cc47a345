import Foundation
import Lab
import LinuxSupport

/// How soon readers get their answers, with nothing going on and in the middle of a flood.
enum ReaderBench {
    /// Chains that a packet enters or not, as one bit of its port says: as many paths as there are ports.
    private static let bits = 14

    static func run(packets: Int) async throws {
        try await idle()
        try await busy(packets: packets)
    }

    private static func reader(_ seconds: Int, _ interval: Int, _ path: String) -> [String] {
        ["\(Bench.products)/reader", "9100", String(seconds), String(interval), path]
    }

    /// Reads `/events` until nothing has come for four seconds, and prints how long after a packet's last event its journey came, in
    /// milliseconds: what the page's own stream would take.
    private static let stream = """
        import datetime, json, time, urllib.request
        took, dropped = [], 0
        stream = urllib.request.urlopen("http://127.0.0.1:9100/events?proto=icmp", timeout=4)
        try:
            for line in stream:
                if not line.startswith(b"data: "):
                    continue
                data = json.loads(line[6:])
                dropped += data["events"] if data.keys() == {"events"} else 0
                if data.get("protocol") == "icmp":
                    seen = datetime.datetime.fromisoformat(data["last_seen"].replace("Z", "+00:00")).timestamp()
                    took.append((time.time() - seen) * 1000)
        except TimeoutError:
            pass
        took.sort()
        at = lambda share: f"{took[min(len(took) - 1, int(len(took) * share))]:.1f}" if took else "-"
        print(f"{len(took)} journeys, {dropped} left out, {at(.5)} ms median, {at(.99)} ms 99th percentile", flush=True)
        """

    /// While `body` runs, a ping every 20 ms, and a reader of the stream that waits for it.
    private static func measuringStream(
        _ title: String, _ sandbox: Sandbox, _ destination: String, while body: () async throws -> Void
    ) async throws {
        let reader = try SandboxProcess(["python3", "-c", stream], in: sandbox)
        try await Task.sleep(for: .seconds(1))
        let ping = try SandboxProcess(
            ["ip", "netns", "exec", "guest", "ping", "-q", "-i", "0.02", "-W", "1", destination], in: sandbox)
        try await body()
        await ping.stop()
        for _ in 0..<1000 where reader.isRunning { try await Task.sleep(for: .milliseconds(20)) }
        await reader.stop()
        Bench.show("\(title), /events of a ping: \(reader.output.trimmingCharacters(in: .newlines))")
    }

    private static func idle() async throws {
        try await Sandbox.with { sandbox in
            try await Gallery.ping.setUp(in: sandbox)
            try await sandbox.require([Bench.program, "install-probes", "--netns", "guest"])
            let collector = try SandboxProcess([Bench.program, "collect", "--netns", "guest"], in: sandbox)
            try await Bench.wait(for: "serving http", of: collector)
            for path in ["/healthz", "/metrics", "/paths"] {
                let output = try await sandbox.require(reader(3, 0, path)).standardOutput
                Bench.show("idle, \(path): \(output.trimmingCharacters(in: .newlines))")
            }
            try await measuringStream("idle", sandbox, "8.8.8.8") { try await Task.sleep(for: .seconds(5)) }
            await collector.stop()
        }
    }

    private static func busy(packets: Int) async throws {
        try await Sandbox.with { sandbox in
            try await LoadTopology.one.setUp(in: sandbox)
            var rules = "*mangle\n"
            for bit in 0..<bits { rules += ":B\(bit) - [0:0]\n" }
            for bit in 0..<bits {
                let mask = "0x" + String(1 << bit, radix: 16)
                rules += "-A OUTPUT -p udp -m u32 --u32 \"0>>22&0x3C@0&\(mask)=\(mask)\" -j B\(bit)\n"
            }
            try await sandbox.require(
                ["ip", "netns", "exec", "guest", "iptables-restore", "--noflush"], input: rules + "COMMIT\n")
            let installed = try await sandbox.require(
                [Bench.program, "install-probes", "--netns", "guest", "--family", "ipv4", "--user-chains"])
            let collector = try SandboxProcess([Bench.program, "collect", "--netns", "guest"], in: sandbox)
            try await Bench.wait(for: "serving http", of: collector)
            func flood(_ count: Int, perSecond: Int) async throws -> String {
                try await sandbox.require(
                    ["ip", "netns", "exec", "guest", "\(Bench.products)/flood", "8.8.8.8", "16384", String(count), "64"]
                        + [String(1 << bits), String(perSecond)]
                ).standardOutput
            }
            _ = try await flood(1 << bits, perSecond: 5000)
            try await Task.sleep(for: .seconds(1))
            let metrics = try await sandbox.require(["curl", "-sSf", "http://127.0.0.1:9100/metrics"]).standardOutput
            let paths = Int(Bench.number(after: "\nipt_trace_paths ", in: metrics) ?? 0)
            Bench.show("\(installed.standardOutput.prefix { $0 != "(" }), \(paths) paths")
            // The last asks for 35 MB, which takes a core of its own.
            for paths in [["/paths", "/metrics"], ["/paths", "/metrics", "/paths?limit=10000"]] {
                let readers = try paths.map { path in (path, try SandboxProcess(reader(600, 100, path), in: sandbox)) }
                let sent = try await flood(packets, perSecond: 0)
                for (path, process) in readers {
                    await process.stop()
                    // Its output may still be in the pipe.
                    for _ in 0..<100 where process.output.isEmpty { try await Task.sleep(for: .milliseconds(20)) }
                    Bench.show("flood, \(path): \(process.output.trimmingCharacters(in: .newlines))")
                }
                Bench.show("flood: \(sent.trimmingCharacters(in: .newlines))")
            }
            try await measuringStream("flood", sandbox, "8.8.8.8") {
                let sent = try await flood(packets, perSecond: 0)
                Bench.show("flood: \(sent.trimmingCharacters(in: .newlines))")
            }
            try await Task.sleep(for: .milliseconds(500))
            await collector.stop()
            Bench.show("collect: \(collector.output.split(separator: "\n").last ?? "")")
        }
    }
}
