import Aggregation
import Foundation
import Glibc
import Lab
import LinuxSupport
import Reports
import Testing

/// File descriptors that run out: what cannot be done is said, and nothing is said that is not so.
@Suite(.serialized, .enabled(if: Live.obstacle == nil, "\(Live.obstacle ?? "")"))
struct ShortageTests {
    private static let count = 48

    /// Namespaces `n1` and on, each on a veth pair with the host, which has 10.9.0.1/30, 10.9.0.5/30, ….
    private static func addNamespaces(_ sandbox: Sandbox) async throws {
        var names = ""
        var host = ""
        for number in 1...count {
            names += "netns add n\(number)\n"
            host += "link add h\(number) type veth peer name eth netns n\(number)\n"
            host += "addr add 10.9.0.\(number * 4 + 1)/30 dev h\(number)\nlink set h\(number) up\n"
        }
        try await sandbox.require(["ip", "-batch", "-"], input: names)
        try await sandbox.require(["ip", "-batch", "-"], input: host)
        for number in 1...count {
            try await sandbox.require(
                ["ip", "-netns", "n\(number)", "-batch", "-"],
                input: "addr add 10.9.0.\(number * 4 + 2)/30 dev eth\nlink set eth up\nlink set lo up\n")
        }
    }

    /// The words before a command that limit its descriptors to `limit`, in prlimit's words, with no right to raise the hard
    /// limit.
    private static func limited(_ limit: String) -> [String] {
        ["prlimit", "--nofile=\(limit)", "setpriv", "--bounding-set", "-sys_resource"]
    }

    private static func pingAll(_ sandbox: Sandbox) async throws {
        try await withThrowingTaskGroup(of: Void.self) { group in
            for number in 1...count {
                group.addTask {
                    try await sandbox.require(["ping", "-c", "2", "-i", "0.05", "-W", "5", "10.9.0.\(number * 4 + 2)"])
                }
            }
            try await group.waitForAll()
        }
    }

    struct Limit: Sendable, CustomTestStringConvertible {
        var testDescription: String
        var text: String
        var isEnough: Bool
    }

    @Test(
        "with few descriptors every journey is delivered or incomplete, and the namespaces left out are named",
        arguments: [
            Limit(testDescription: "64, hard", text: "64:64", isEnough: false),
            Limit(testDescription: "128, hard", text: "128:128", isEnough: false),
            Limit(testDescription: "64, soft alone", text: "64:", isEnough: true),
        ])
    func collecting(_ limit: Limit) async throws {
        try await Sandbox.with { sandbox in
            try await Self.addNamespaces(sandbox)
            _ = try await sandbox.trace("install-probes", "--family", "ipv4")
            let collector = try SandboxProcess(Self.limited(limit.text) + [Live.program, "collect"], in: sandbox)
            for _ in 0..<1000 where !collector.output.contains("serving http") {
                try #require(collector.isRunning, "collect ended: \(collector.output)")
                try await Task.sleep(for: .milliseconds(20))
            }
            try await Self.pingAll(sandbox)
            let requests = UInt64(2 * Self.count)
            let report = try await sandbox.paths("?proto=icmp") { $0.paths.reduce(0) { $0 + $1.packets } == 2 * requests }
            var outcomes: [String: UInt64] = [:]
            for path in report.paths { outcomes[path.outcome, default: 0] += path.packets }
            let leftOut = try await sandbox.get(NamespacesReport.self, "/namespaces").leftOut ?? []
            let lost = UInt64(2 * leftOut.count)
            // All replies come back to the host, which is followed.
            #expect(outcomes == ["delivered": 2 * requests - lost, "incomplete": lost].filter { $0.value > 0 })
            #expect(
                report.paths.filter { $0.outcome == "incomplete" }.allSatisfy {
                    $0.reason == "the packet left towards a namespace that is not followed"
                })
            #expect(report.completeness.namespacesLeftOut == (leftOut.isEmpty ? nil : UInt64(leftOut.count)))
            #expect(report.completeness.lost == 0)
            #expect(leftOut.isEmpty == limit.isEnough)
            let health = try await sandbox.get(HealthReport.self, "/healthz")
            #expect(health.status == (limit.isEnough ? "ok" : "degraded"))
            // Long enough for living namespaces to be called vanished, were they not found.
            try await Task.sleep(for: .seconds(3))
            #expect(!collector.output.contains("vanished"), "\(collector.output)")
            if !limit.isEnough {
                for word in ["RLIMIT_NOFILE", "each namespace takes", "Not followed: n", "ulimit -n", "LimitNOFILE="] {
                    #expect(collector.output.contains(word), "\(collector.output)")
                    #expect(health.reasons?.joined().contains(word) == true)
                }
                #expect(collector.output.components(separatedBy: "Not followed").count == 2, "said once")
            }
            #expect(await collector.stop() == 0)
        }
    }

    @Test("at a hard limit of 64 probes go in and out of more namespaces than there are descriptors, and a trace is refused")
    func commands() async throws {
        try await Sandbox.with { sandbox in
            try await Self.addNamespaces(sandbox)
            func run(_ arguments: String...) async throws -> Tool.Output {
                try await sandbox.run(Self.limited("64:64") + [Live.program] + arguments)
            }
            let installed = try await run("install-probes", "--family", "ipv4", "--table", "filter")
            #expect(installed.exitCode == 0 && installed.standardOutput.contains("in \(Self.count + 1) namespaces"))
            struct Listed: Decodable {
                struct Probe: Decodable { var netns: String }
                var probes: [Probe]
            }
            let listed = try await run("probes", "--json")
            let probes = try JSONDecoder().decode(Listed.self, from: Data(listed.standardOutput.utf8)).probes
            #expect(Set(probes.map(\.netns)).count == Self.count + 1)
            let removed = try await run("remove-probes", "--verify")
            #expect(removed.exitCode == 0 && removed.standardOutput.contains("\(probes.count) probes removed"))
            let traced = try await run("trace", "--match", "-p icmp", "--duration", "1s")
            #expect(traced.exitCode == 1)
            #expect(traced.standardError.contains("cannot trace in \(Self.count + 1) namespaces: that takes"))
            #expect(traced.standardError.contains("ulimit -n"), "\(traced.standardError)")
            #expect(try await sandbox.rules("n1").isEmpty)
        }
    }

    @Test(
        "too few descriptors to start are said by every command",
        arguments: ["install-probes", "probes", "collect", "trace", "remove-probes", "report paths", "lab list", "analyze -"])
    func tooFew(_ command: String) async throws {
        let output = try await Tool.run(
            "prlimit",
            ["--nofile=24:24", "setpriv"] + (geteuid() == 0 ? ["--bounding-set", "-sys_resource"] : []) + [Live.program]
                + command.split(separator: " ").map(String.init))
        #expect(output.exitCode == 1)
        #expect(output.standardError.contains("cannot start: that takes 32 file descriptors"), "\(output.standardError)")
        #expect(output.standardError.contains("are left of 24 (RLIMIT_NOFILE, hard limit 24)"))
    }

    /// Leaves a running program `count` descriptors to open.
    private static func leave(_ count: Int, to pid: Int32) async throws {
        let open = Set(try FileManager.default.contentsOfDirectory(atPath: "/proc/\(pid)/fd").compactMap { Int($0) })
        var limit = 0
        var free = 0
        while free < count {
            if !open.contains(limit) { free += 1 }
            limit += 1
        }
        try await Tool.require("prlimit", ["--pid", String(pid), "--nofile=\(limit):"])
    }

    @Test("rules that cannot be read make journeys incomplete until they are read again")
    func unreadRules() async throws {
        try await Sandbox.with { sandbox in
            _ = try await sandbox.trace("install-probes", "--family", "ipv4")
            // With namespaces that are named it looks for no others, and leaves its limit as it is.
            let collector = try SandboxProcess([Live.program, "collect", "--netns", "host"], in: sandbox)
            func wait(for text: String) async throws {
                for _ in 0..<500 where !collector.output.contains(text) { try await Task.sleep(for: .milliseconds(20)) }
                try #require(collector.output.contains(text), "\(collector.output)")
            }
            /// Sends pings until one ends with `outcome`: the event loop takes a survey's result a moment later.
            func ping(until outcome: String) async throws {
                func count() async throws -> UInt64 {
                    try await sandbox.paths("?proto=icmp&outcome=\(outcome)") { _ in true }.paths.reduce(0) { $0 + $1.packets }
                }
                let before = try await count()
                for _ in 0..<10 {
                    try await sandbox.sh("ping -c 1 127.0.0.1")
                    for _ in 0..<20 {
                        if try await count() == before + 2 { return }
                        try await Task.sleep(for: .milliseconds(50))
                    }
                }
                Issue.record("no ping was \(outcome)")
            }
            try await wait(for: "serving http")
            let pid = try #require(collector.processIdentifier)
            try await ping(until: "delivered")
            // Enough for a client and for sockets, too few to start iptables-save.
            try await Self.leave(DescriptorLimit.perProgram - 4, to: pid)
            try await sandbox.sh("iptables-nft -A INPUT -s 192.0.2.1 -j DROP")
            try await wait(for: "of namespace host cannot be read: cannot start nsenter")
            #expect(try await sandbox.get(HealthReport.self, "/healthz").status == "degraded")
            try await ping(until: "incomplete")
            try await Tool.require("prlimit", ["--pid", String(pid), "--nofile=1024:"])
            try await sandbox.sh("iptables-nft -D INPUT -s 192.0.2.1 -j DROP")
            try await wait(for: "are read again")
            #expect(try await sandbox.get(HealthReport.self, "/healthz").status == "ok")
            try await ping(until: "delivered")
            let report = try await sandbox.paths("?proto=icmp") { _ in true }
            #expect(Set(report.paths.map(\.outcome)) == ["delivered", "incomplete"])
            #expect(await collector.stop() == 0)
        }
    }
}
