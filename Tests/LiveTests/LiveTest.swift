import Aggregation
import Foundation
import Glibc
import Lab
import LinuxSupport
import Reports
import Testing

/// What tests against the real kernel share: a sandbox each, and the programs that were built.
enum Live {
    /// Where the build put this test and the programs beside it.
    private static var products: String {
        let path = (try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe")) ?? ""
        // swift test runs the bundle itself, or a helper of the toolchain that loads it.
        let bundle = CommandLine.arguments.first { $0.contains(".xctest") } ?? path
        return URL(fileURLWithPath: bundle).deletingLastPathComponent().path
    }

    static var program: String { "\(products)/ipt-trace" }
    static var flood: String { "\(products)/flood" }

    /// Why live tests cannot run here; `nil` where they can.
    static let obstacle: String? = {
        for tool in ["unshare", "nsenter", "ip", "iptables-nft-restore", "ping", "curl", "conntrack"] {
            let paths = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"].map { "\($0)/\(tool)" }
            if !paths.contains(where: { FileManager.default.isExecutableFile(atPath: $0) }) {
                return "\(tool) is not installed"
            }
        }
        guard FileManager.default.isExecutableFile(atPath: program) else { return "\(program) was not built" }
        return nil
    }()
}

extension Sandbox {
    /// Runs ipt-trace inside.
    func trace(_ arguments: String...) async throws -> Tool.Output { try await run([Live.program] + arguments) }

    /// Words, split at blanks, as a command that must succeed.
    @discardableResult
    func sh(_ command: String) async throws -> String {
        try await require(command.split(separator: " ").map(String.init)).standardOutput
    }

    /// The rules of a namespace without counters and comments.
    func rules(_ netns: String? = nil, tool: String = "iptables-nft-save") async throws -> [String] {
        let prefix = netns.map { ["ip", "netns", "exec", $0] } ?? []
        return try await require(prefix + [tool]).standardOutput.split(separator: "\n").filter { !$0.hasPrefix("#") }.map {
            line in
            line.hasPrefix(":") ? String(line.prefix { $0 != "[" }) : String(line)
        }
    }

    /// A collector that serves on port 9100, while `body` runs.
    func collecting<Result: Sendable>(
        _ arguments: String..., body: (SandboxProcess) async throws -> Result
    ) async throws -> Result {
        let collector = try SandboxProcess([Live.program, "collect"] + arguments, in: self)
        // Fifty namespaces on a machine that other tests keep busy take more than ten seconds.
        for _ in 0..<3000 where !collector.output.contains("serving http") {
            try #require(collector.isRunning, "collect ended: \(collector.output)")
            try await Task.sleep(for: .milliseconds(20))
        }
        do {
            try #require(collector.output.contains("serving http"), "collect serves nothing: \(collector.output)")
            let result = try await body(collector)
            await collector.stop()
            return result
        } catch {
            let isRunning = collector.isRunning
            await collector.stop()
            Issue.record("collect \(isRunning ? "was running" : "had ended") when this failed: \(collector.output)")
            throw error
        }
    }

    func get<Report: Decodable>(_ type: Report.Type, _ path: String) async throws -> Report {
        let text = try await require(["curl", "-sSf", "--retry", "3", "http://127.0.0.1:9100\(path)"]).standardOutput
        return try ReportJSON.decode(type, from: Data(text.utf8))
    }

    /// Asks for paths until `isDone` says so, at most ten seconds.
    func paths(_ query: String = "", until isDone: (PathsReport) -> Bool) async throws -> PathsReport {
        var report = try await get(PathsReport.self, "/paths\(query)")
        for _ in 0..<200 where !isDone(report) {
            try await Task.sleep(for: .milliseconds(50))
            report = try await get(PathsReport.self, "/paths\(query)")
        }
        return report
    }

    /// What our probes' own rules have counted, over all namespaces.
    func probePackets() async throws -> UInt64 {
        struct Listed: Decodable {
            struct Probe: Decodable { var packets: UInt64 }
            var probes: [Probe]
        }
        let output = try await trace("probes", "--json")
        return try JSONDecoder().decode(Listed.self, from: Data(output.standardOutput.utf8)).probes.reduce(0) {
            $0 + $1.packets
        }
    }
}

/// A client `c` and a server `s`, with IPv4 and IPv6, behind the sandbox's own namespace: a script for `sh -ec`.
let routedNetwork = """
    for n in c s; do ip netns add $n; ip -n $n link set lo up; done
    ip link add v1 type veth peer name eth0 netns c; ip link add v2 type veth peer name eth0 netns s
    ip address add 10.0.1.1/24 dev v1; ip address add 10.0.2.1/24 dev v2
    sysctl -qw net.ipv6.conf.v1.disable_ipv6=0 net.ipv6.conf.v2.disable_ipv6=0
    ip address add fd00:1::1/64 dev v1 nodad; ip address add fd00:2::1/64 dev v2 nodad; ip link set v1 up; ip link set v2 up
    ip -n c address add 10.0.1.2/24 dev eth0; ip -n s address add 10.0.2.2/24 dev eth0
    ip -n c address add fd00:1::2/64 dev eth0 nodad; ip -n s address add fd00:2::2/64 dev eth0 nodad
    ip -n c link set eth0 up; ip -n s link set eth0 up
    ip -n c route add default via 10.0.1.1; ip -n s route add default via 10.0.2.1
    ip -n c route add default via fd00:1::1; ip -n s route add default via fd00:2::1
    sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
    for a in 10.0.2.2 fd00:2::2; do for i in 1 2 3 4 5 6; do ip netns exec c ping -c 1 -W 1 $a && break; done; done
    """

/// Waits until `condition` holds, for at most 30 seconds. Does not fail when it never holds: the caller checks the result.
func waiting(until condition: () async throws -> Bool) async throws {
    let end = ContinuousClock.now + .seconds(30)
    while try await !condition(), .now < end { try await Task.sleep(for: .milliseconds(50)) }
}

extension PathReport {
    /// `guest raw/OUTPUT`, …
    var places: [String] { steps.map { "\($0.netns) \($0.table)/\($0.chain)" } }

    /// The places in one namespace without its name, by hook order.
    var brief: String {
        var text = ""
        var last = ""
        for step in steps {
            let place = "\(step.netns) \(step.chain)"
            text += place == last ? ",\(step.table)" : "\(text.isEmpty ? "" : " ")\(step.netns)/\(step.chain):\(step.table)"
            last = place
        }
        return text
    }
}
