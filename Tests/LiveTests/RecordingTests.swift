import Aggregation
import Foundation
import Glibc
import Lab
import LinuxSupport
import Reports
import Testing

/// Properties by which captures are compared.
private struct Way: Hashable, CustomStringConvertible {
    var packets: UInt64
    var outcome: String
    var steps: [String]
    var translations: [String]

    init(_ path: PathReport) {
        packets = path.packets
        outcome = path.outcome
        steps = path.steps.map { "\($0.netns) \($0.table)/\($0.chain) \($0.in ?? "-") \($0.out ?? "-")" }
        translations = path.translations.map { "\($0.kind) \($0.netns) \($0.from) \($0.to) \($0.step)" }
    }

    var description: String { "\(packets) \(outcome) \(steps) \(translations)" }
}

private struct Reports: Decodable {
    var paths: PathsReport
    var precedence: PrecedenceReport
}

extension Sandbox {
    /// Runs a program in a namespace of the sandbox until `body` has ended.
    fileprivate func capturing(_ folder: String, body: () async throws -> Void) async throws {
        var running: [SandboxProcess] = []
        for netns in ["host", "guest", "inet"] {
            let prefix = netns == "host" ? [] : ["ip", "netns", "exec", netns]
            let process = try SandboxProcess(
                prefix + ["tcpdump", "-Z", "root", "-U", "-i", "nflog:6", "-w", "\(folder)/\(netns).pcap"], in: self)
            for _ in 0..<250 where !process.output.contains("listening on") { try await Task.sleep(for: .milliseconds(20)) }
            running.append(process)
        }
        do {
            try await body()
        } catch {
            for process in running { await process.stop(signal: SIGKILL) }
            throw error
        }
        // tcpdump looks at signals only when a packet comes; it has written every packet by then (-U).
        for process in running { await process.stop(signal: SIGKILL) }
    }

    fileprivate func ways(_ report: PathsReport) -> Set<Way> { Set(report.paths.map(Way.init)) }

    fileprivate func analysis(_ arguments: [String]) async throws -> Reports {
        let output = try await require(
            [Live.program, "analyze"] + arguments + ["--report", "paths", "--report", "precedence", "--format", "json"])
        return try ReportJSON.decode(Reports.self, from: Data(output.standardOutput.utf8))
    }
}

private func folder() throws -> String {
    let path = "\(NSTemporaryDirectory())ipt-trace-test-\(UUID().uuidString)"
    try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
    return path
}

@Suite(.serialized, .enabled(if: Live.obstacle == nil, "\(Live.obstacle ?? "")"))
struct RecordingTests {
    /// The probes of all namespaces once more, for another group, before those that there are.
    private static func doubleProbes(_ sandbox: Sandbox, _ folder: String) async throws {
        for netns in ["host", "guest", "inet"] {
            let prefix = netns == "host" ? [] : ["ip", "netns", "exec", netns]
            let rules = try await sandbox.require(prefix + ["iptables-nft-save"]).standardOutput
            var input = ""
            for line in rules.split(separator: "\n") {
                if line.hasPrefix("*") || line == "COMMIT" { input += line + "\n" }
                guard line.contains("--nflog-group 5") else { continue }
                let chain = line.split(separator: " ")[1]
                input += "-I \(chain) 1 \(line.split(separator: " ").dropFirst(2).joined(separator: " "))\n"
            }
            input = input.replacing("--nflog-group 5", with: "--nflog-group 6")
            try input.write(toFile: "\(folder)/\(netns).restore", atomically: false, encoding: .utf8)
            _ = try await sandbox.require(prefix + ["iptables-nft-restore", "--noflush", "\(folder)/\(netns).restore"])
        }
    }

    private static func saveRulesAndLinks(_ sandbox: Sandbox, _ folder: String) async throws {
        for netns in ["host", "guest", "inet"] {
            let prefix = netns == "host" ? [] : ["ip", "netns", "exec", netns]
            for (tool, name) in [(["iptables-nft-save"], "rules"), (["ip", "-json", "-details", "link"], "links")] {
                let text = try await sandbox.require(prefix + tool).standardOutput
                try text.write(toFile: "\(folder)/\(netns).\(name)", atomically: false, encoding: .utf8)
            }
        }
    }

    @Test(.enabled(if: geteuid() == 0, "tcpdump sets its groups, which an ordinary user's namespace does not allow"))
    func oneRunRecordedByTcpdumpAndByUsGivesWhatTheCollectorServed() async throws {
        let folder = try folder()
        defer { try? FileManager.default.removeItem(atPath: folder) }
        try await Sandbox.with { sandbox in
            try await Gallery.ping.setUp(in: sandbox)
            #expect(try await sandbox.trace("install-probes", "--family", "ipv4").isSuccess)
            try await Self.doubleProbes(sandbox, folder)
            try await Self.saveRulesAndLinks(sandbox, folder)
            var live: PathsReport?
            var precedence: PrecedenceReport?
            try await sandbox.capturing(folder) {
                try await sandbox.collecting("--record", "\(folder)/trace.pcapng") { _ in
                    try await sandbox.sh("ip netns exec guest ping -c 3 -i 0.2 -W 2 8.8.8.8")
                    live = try await sandbox.paths("?proto=icmp") { $0.paths.reduce(0) { $0 + $1.packets } == 6 }
                    precedence = try await sandbox.get(PrecedenceReport.self, "/precedence")
                    // The kernel hands tcpdump its gathered messages after a second at the latest.
                    try await Task.sleep(for: .milliseconds(1300))
                }
            }
            let served = try #require(live)
            #expect(served.paths.map(\.outcome) == ["delivered", "delivered", "delivered"])
            let netns = ["host", "guest", "inet"]
            let recorded = try await sandbox.analysis(["\(folder)/trace.pcapng", "--proto", "icmp"])
            let captured = try await sandbox.analysis(
                netns.map { "\(folder)/\($0).pcap" } + ["--proto", "icmp"]
                    + netns.flatMap { ["--rules", "\($0)=\(folder)/\($0).rules", "--links", "\($0)=\(folder)/\($0).links"] })
            #expect(sandbox.ways(recorded.paths) == sandbox.ways(served))
            #expect(sandbox.ways(captured.paths) == sandbox.ways(served))
            #expect(Set(recorded.paths.paths.map(\.id)) == Set(served.paths.map(\.id)))

            // The host's own HTTP traffic is in tcpdump's capture alone, and changes no order of forwarded packets.
            func orders(_ report: PrecedenceReport?) -> [String] {
                (report?.roles ?? []).flatMap { role in
                    role.orders.filter { role.netns != "host" || $0.direction == "through" }.map {
                        "\(role.netns) \($0.direction) \($0.packets): \($0.chains)"
                    }
                }.sorted()
            }
            #expect(!orders(precedence).isEmpty)
            #expect(orders(recorded.precedence) == orders(precedence))
            #expect(orders(captured.precedence) == orders(precedence))
            #expect(recorded.precedence.roles.map(\.role).sorted() == precedence?.roles.map(\.role).sorted())

            try await Self.compareWithTshark(sandbox, folder, served)
        }
    }

    /// tshark reads the same of every packet, and each has the id of its path.
    private static func compareWithTshark(_ sandbox: Sandbox, _ folder: String, _ served: PathsReport) async throws {
        let fields = ["frame.interface_name", "nflog.prefix", "nflog.hook", "ip.src", "ip.dst", "frame.comment"]
        let listed = try await sandbox.require(
            ["tshark", "-r", "\(folder)/trace.pcapng", "-Y", "icmp", "-T", "fields"] + fields.flatMap { ["-e", $0] })
        let lines = listed.standardOutput.split(separator: "\n").map {
            $0.split(separator: "\t", omittingEmptySubsequences: false).map(String.init)
        }
        var seen: [String: Int] = [:]
        for line in lines {
            try #require(line.count == 6)
            let chain = line[1].split(separator: ":").suffix(2).joined(separator: "/")
            // The hook is the built-in chain's: NF_INET_PRE_ROUTING is 0.
            let hooks = ["PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"]
            #expect(Int(line[2]).map { hooks[$0] } == line[1].split(separator: ":").last.map(String.init))
            seen["\(line[5]) \(line[0]) \(chain)", default: 0] += 1
        }
        var expected: [String: Int] = [:]
        for path in served.paths {
            for step in path.steps { expected["path \(path.id) \(step.netns) \(step.table)/\(step.chain)"] = Int(path.packets) }
        }
        #expect(seen == expected)
        // Packet by packet what our own export says.
        struct Line: Decodable {
            struct Journey: Decodable {
                struct Step: Decodable {
                    var netns: String
                    var source: String?
                    var destination: String?
                    var table: String
                    var chain: String
                }
                var `protocol`: String
                var steps: [Step]
            }
            var schema: Int
            var journey: Journey
        }
        let export = try await sandbox.require([Live.program, "export", "\(folder)/trace.pcapng"]).standardOutput
        let journeys = try export.split(separator: "\n").map { try JSONDecoder().decode(Line.self, from: Data($0.utf8)) }
        #expect(journeys.allSatisfy { $0.schema == 1 })
        let ours = journeys.map(\.journey).filter { $0.protocol == "icmp" }.flatMap(\.steps).map {
            "\($0.netns) \($0.table):\($0.chain) \($0.source ?? "") \($0.destination ?? "")"
        }
        let theirs = lines.map { "\($0[0]) \($0[1].split(separator: ":").suffix(2).joined(separator: ":")) \($0[3]) \($0[4])" }
        #expect(ours.sorted() == theirs.sorted() && ours.count == 98)
    }

    @Test func underLoadRecordingCostsNoJourneys() async throws {
        let folder = try folder()
        defer { try? FileManager.default.removeItem(atPath: folder) }
        try await Sandbox.with { sandbox in
            try await Gallery.ping.setUp(in: sandbox)
            #expect(
                try await sandbox.trace("install-probes", "--family", "ipv4", "--netns", "host", "--netns", "guest").isSuccess)
            let packets: UInt64 = 20_000
            try await sandbox.collecting("--netns", "host", "--netns", "guest", "--record", "\(folder)/trace.pcapng") {
                collector in
                try await sandbox.sh("ip netns exec guest \(Live.flood) 8.8.8.8 9 \(packets)")
                let report = try await sandbox.paths("?proto=udp") { $0.paths.reduce(0) { $0 + $1.packets } >= packets }
                #expect(report.paths.reduce(0) { $0 + $1.packets } == packets)
                #expect(report.completeness.lost == 0)
                let live = sandbox.ways(report)
                await collector.stop()
                #expect(!collector.output.contains("left out"))
                let recorded = try await sandbox.analysis(["\(folder)/trace.pcapng", "--proto", "udp"])
                #expect(sandbox.ways(recorded.paths) == live)
            }
        }
    }

    /// Two namespaces and a ping without end between them, every event of which is delivered.
    private static func withTraffic<Result>(
        _ sandbox: Sandbox, _ recordingOptions: [String], _ body: (SandboxProcess, SandboxProcess) async throws -> Result
    ) async throws -> Result {
        try await Gallery.ping.setUp(in: sandbox)
        try await sandbox.require([Live.program, "install-probes", "--family", "ipv4", "--netns", "host", "--netns", "guest"])
        let collector = try SandboxProcess(
            [Live.program, "collect", "--netns", "host", "--netns", "guest"] + recordingOptions, in: sandbox)
        for _ in 0..<500 where !collector.output.contains("serving http") { try await Task.sleep(for: .milliseconds(20)) }
        let traffic = try SandboxProcess(
            ["ip", "netns", "exec", "guest", "ping", "-q", "-i", "0.005", "-c", "20000", "8.8.8.8"], in: sandbox)
        do {
            let result = try await body(collector, traffic)
            await traffic.stop()
            await collector.stop()
            return result
        } catch {
            await traffic.stop()
            await collector.stop()
            throw error
        }
    }

    /// Output of `analyze`: stdout and stderr.
    private static func analysis(_ sandbox: Sandbox, _ files: String...) async throws -> (paths: PathsReport, said: String) {
        let output = try await sandbox.require(
            [Live.program, "analyze"] + files + ["--report", "paths", "--format", "json"])
        return (try ReportJSON.decode(PathsReport.self, from: Data(output.standardOutput.utf8)), output.standardError)
    }

    private static func wait(_ what: String, _ condition: () async throws -> Bool) async throws {
        for _ in 0..<200 {
            if try await condition() { return }
            try await Task.sleep(for: .milliseconds(50))
        }
        Issue.record("waited for \(what) in vain")
    }

    @Test("a full disk is told at once, and recording goes on in a new file when there is room, with nothing called dropped")
    func fullDisk() async throws {
        try await Sandbox.with { sandbox in
            let folder = "/run/recordings"
            try await sandbox.require(["mkdir", folder])
            try await sandbox.require(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder])
            let file = "\(folder)/trace.pcapng"
            try await Self.withTraffic(sandbox, ["--record", file]) { collector, traffic in
                try await Self.wait("the full disk") { collector.output.contains("recording is suspended") }
                #expect(collector.output.contains("warning: recording is suspended: cannot write \(file): no space left"))
                let health = try await sandbox.sh("curl -sSf http://127.0.0.1:9100/healthz")
                #expect(health.contains("degraded") && health.contains("no space left"))
                try await sandbox.require(["mount", "-o", "remount,size=64m", folder])
                try await Self.wait("room") { collector.output.contains("recording goes on in") }
                #expect(try await sandbox.sh("curl -sSf http://127.0.0.1:9100/healthz").contains("ok"))
                try await Task.sleep(for: .milliseconds(300))
                let metrics = try await sandbox.sh("curl -sSf http://127.0.0.1:9100/metrics")
                #expect(metrics.contains("ipt_trace_recording_state{state=\"recording\"} 1"))
                #expect(!metrics.contains("ipt_trace_recording_left_out_total{reason=\"no_space\"} 0\n"))
                await traffic.stop()
                await collector.stop()
            }
            let next = "\(folder)/trace-00002.pcapng"
            for files in [[file], [next], [file, next]] {
                let output = try await sandbox.require(
                    [Live.program, "analyze"] + files + ["--report", "paths", "--format", "json"])
                let report = try ReportJSON.decode(PathsReport.self, from: Data(output.standardOutput.utf8))
                #expect(report.completeness.gaps == 1 && report.completeness.events > 0)
                #expect(report.paths.allSatisfy { $0.outcome != "dropped" }, "\(files)")
                #expect(report.paths.contains { $0.outcome == "sent" || $0.outcome == "delivered" })
            }
            #expect(try await sandbox.sh("stat -c %a \(file) \(next)") == "600\n600\n")
        }
    }

    @Test("killed at any moment, a recording says that it was cut off, and calls nothing dropped")
    func killed() async throws {
        try await Sandbox.with { sandbox in
            let file = "/run/trace.pcapng"
            let (received, analysis) = try await Self.withTraffic(sandbox, ["--record", file]) { collector, traffic in
                try await Task.sleep(for: .seconds(3))
                let metrics = try await sandbox.sh("curl -sSf http://127.0.0.1:9100/metrics")
                await collector.stop(signal: SIGKILL)
                await traffic.stop()
                let received = metrics.firstMatch(of: #/\nipt_trace_events_total (\d+)/#).flatMap { UInt64($0.output.1) } ?? 0
                return (received, try await Self.analysis(sandbox, file))
            }
            // Of three seconds' events one second's may be missing, and a little for a machine that is busy.
            #expect(received > 0 && analysis.paths.completeness.events > received / 3)
            #expect(analysis.said.contains("the recording has no end"))
            #expect(analysis.paths.completeness.gaps == 1)
            #expect(analysis.paths.paths.allSatisfy { $0.outcome != "dropped" })
        }
    }

    @Test("a recording that is deleted is begun anew, and one that exists is refused unless it is to be overwritten")
    func deletedAndExisting() async throws {
        try await Sandbox.with { sandbox in
            let file = "/run/trace.pcapng"
            try await sandbox.sh("touch \(file)")
            let refused = try await sandbox.trace("collect", "--netns", "host", "--record", file)
            #expect(refused.exitCode == 1 && refused.standardError.contains("--overwrite"))
            try await Self.withTraffic(sandbox, ["--record", file, "--overwrite"]) { collector, _ in
                try await sandbox.sh("rm \(file)")
                try await Self.wait("the deletion") { collector.output.contains("recording goes on in a new file") }
                #expect(collector.output.contains("warning: \(file) was deleted"))
                try await Task.sleep(for: .milliseconds(300))
            }
            let analysis = try await Self.analysis(sandbox, file)
            #expect(analysis.said.contains("events are missing before its beginning"))
            #expect(analysis.paths.completeness.events > 0)
            #expect(analysis.paths.paths.allSatisfy { $0.outcome != "dropped" })
            // One that could not start leaves the file that it would have replaced.
            let before = try await sandbox.sh("stat -c %i \(file)")
            let failed = try await sandbox.trace("collect", "--netns", "nowhere", "--record", file, "--overwrite")
            #expect(!failed.isSuccess)
            #expect(try await sandbox.sh("stat -c %i \(file)") == before)
            #expect(try await sandbox.sh("ls /run").contains("trace.pcapng.new") == false)
        }
    }

    @Test func whatCannotBeRecordedOrReadIsSaid() async throws {
        try await Sandbox.with { sandbox in
            let refused = try await sandbox.trace("collect", "--record", "/nonexistent/x.pcapng")
            #expect(refused.exitCode == 1 && refused.standardError.contains("cannot open /nonexistent/x.pcapng"))
            #expect(try await sandbox.trace("collect", "--record-rotate-size", "1M").exitCode == 64)
            #expect(try await sandbox.trace("analyze").exitCode == 64)
            #expect(try await sandbox.trace("analyze", "/nonexistent").exitCode == 1)
            #expect(try await sandbox.trace("analyze", Live.program).standardError.contains("neither a capture"))
            #expect(try await sandbox.trace("report", "flows", "--format", "mermaid").exitCode == 64)
        }
    }
}

/// What stands between these tests and the kernel log.
private enum KernelLog {
    static let setting = "/proc/sys/net/netfilter/nf_log_all_netns"

    /// Why LOG rules in namespaces cannot be tried here; `nil` where they can.
    static let obstacle: String? = {
        if let obstacle = Live.obstacle { return obstacle }
        guard unsafe access("/dev/kmsg", R_OK) == 0 else { return "/dev/kmsg cannot be read: it takes CAP_SYSLOG" }
        guard let value = try? String(contentsOfFile: setting, encoding: .utf8) else { return "\(setting) cannot be read" }
        guard unsafe value.hasPrefix("1") || access(setting, W_OK) == 0 else {
            return "net.netfilter.nf_log_all_netns is 0 and may not be set here"
        }
        return nil
    }()

    /// Namespaces other than the first write into the log while `body` runs; then the setting gets its former value.
    static func enabled<Result>(_ body: () async throws -> Result) async throws -> Result {
        let before = try String(contentsOfFile: setting, encoding: .utf8)
        try "1".write(toFile: setting, atomically: false, encoding: .utf8)
        defer { try? before.write(toFile: setting, atomically: false, encoding: .utf8) }
        return try await body()
    }
}

@Suite(.serialized, .enabled(if: KernelLog.obstacle == nil, "\(KernelLog.obstacle ?? "")"))
struct KernelLogTests {
    @Test func probesThatLogGiveTheSamePathsAsThoseThatReport() async throws {
        try await KernelLog.enabled {
            try await Sandbox.with { sandbox in
                try await Gallery.ping.setUp(in: sandbox)
                #expect(try await sandbox.trace("install-probes", "--family", "ipv4").isSuccess)
                // The same chains once more, for the kernel log, as a second installation would be made by hand.
                for netns in ["host", "guest", "inet"] {
                    let prefix = netns == "host" ? "" : "ip netns exec \(netns) "
                    let plan = try await sandbox.sh(
                        "\(Live.program) install-probes --family ipv4 --target log --expires never --netns \(netns) --dry-run")
                    let file = "\(NSTemporaryDirectory())ipt-trace-\(UUID().uuidString)"
                    defer { try? FileManager.default.removeItem(atPath: file) }
                    // A number of its own for each namespace.
                    try plan.replacing(":0:", with: ":\(netns.first == "h" ? 0 : netns.first == "g" ? 1 : 2):").write(
                        toFile: file, atomically: false, encoding: .utf8)
                    try await sandbox.sh("\(prefix)iptables-nft-restore --noflush \(file)")
                }
                try await sandbox.collecting("--kernel-log") { _ in
                    try await sandbox.sh("ip netns exec guest ping -c 2 -i 0.2 -W 2 8.8.8.8")
                    let report = try await sandbox.paths("?proto=icmp") { $0.paths.reduce(0) { $0 + $1.packets } == 8 }
                    func ways(_ medium: String) -> Set<Way> { sandbox.ways(report, medium: medium) }
                    #expect(ways("nflog") == ways("log") && ways("log").count == 3)
                    #expect(report.completeness.malformed == 0)
                    #expect(report.completeness.incomplete == 0)
                }
            }
        }
    }

    @Test func installedForTheLogTheWholeChainWorksAndDropsAreSeen() async throws {
        try await KernelLog.enabled {
            try await Sandbox.with { sandbox in
                try await Gallery.ping.setUp(in: sandbox, variant: Gallery.ping.variant(named: "forward-drop"))
                #expect(try await sandbox.trace("install-probes", "--target", "log").isSuccess)
                try await sandbox.collecting("--kernel-log") { _ in
                    _ = try await sandbox.run(["ip", "netns", "exec", "guest", "ping", "-c", "1", "-W", "1", "8.8.8.8"])
                    let report = try await sandbox.paths("?proto=icmp") { !$0.paths.isEmpty }
                    #expect(report.paths.map(\.outcome) == ["dropped"])
                    #expect(report.paths.first?.droppedBetween?.after.table == "filter")
                    let drops = try await sandbox.get(DropsReport.self, "/drops")
                    #expect(drops.drops.map(\.packets) == [1])
                }
                #expect(try await sandbox.trace("remove-probes", "--verify").isSuccess)
            }
        }
    }

    @Test func whereNamespacesMayNotLogItIsSaid() async throws {
        try await Sandbox.with { sandbox in
            try await Gallery.ping.setUp(in: sandbox)
            try await sandbox.collecting("--kernel-log") { collector in
                #expect(collector.output.contains("sudo sysctl net.netfilter.nf_log_all_netns=1"))
            }
        }
    }
}

extension Sandbox {
    fileprivate func ways(_ report: PathsReport, medium: String) -> Set<Way> {
        Set(report.paths.filter { $0.medium == medium }.map(Way.init))
    }
}
