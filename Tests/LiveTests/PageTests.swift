import Foundation
import Lab
import LinuxSupport
import Reports
import Testing

/// A browser that a program drives.
private enum Browser {
    static let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent().appendingPathComponent("../..")
        .standardizedFileURL.path
    static let python = "\(root)/.build/python/bin/python"

    /// Why there is none here; `nil` where there is one.
    static let obstacle: String? = {
        guard FileManager.default.isExecutableFile(atPath: "/usr/bin/chromium") else { return "chromium is not installed" }
        let library = "\(root)/.build/python/lib/python3.11/site-packages/playwright"
        return FileManager.default.fileExists(atPath: library) ? nil : "playwright is not installed (tools/prepare test)"
    }()
}

/// The page in a real browser (`Tests/PageTests/page_test.py`), with a collector that traces real packets.
@Suite(
    .serialized, .enabled(if: Live.obstacle == nil, "\(Live.obstacle ?? "")"),
    .enabled(if: Browser.obstacle == nil, "\(Browser.obstacle ?? "")"))
struct PageTests {
    private static func drive(_ sandbox: Sandbox, _ arguments: String...) async throws {
        // The browser writes a profile.
        let output = try await sandbox.run(
            ["env", "HOME=/run", "timeout", "300", Browser.python, "\(Browser.root)/Tests/PageTests/page_test.py"] + arguments)
        let lines = output.standardOutput.split(separator: "\n")
        print("page \(arguments[0]): \(lines.count { $0.hasPrefix("ok ") }) checks passed")
        let failed = lines.filter { $0.hasPrefix("FAILED") }
        #expect(output.isSuccess && failed.isEmpty, "\(failed.joined(separator: "\n"))\n\(output.standardError.suffix(2000))")
    }

    /// A guest whose pings the host drops.
    private static func build(_ sandbox: Sandbox) async throws {
        for command in [
            "ip link set lo up", "ip netns add guest", "ip -n guest link set lo up",
            "ip link add vhost type veth peer name eth0 netns guest", "ip netns add inet",
            "ip link add out0 type veth peer name up0 netns inet", "ip -n inet addr add 10.0.9.7/24 dev up0",
            "ip -n inet link set up0 up",
            "ip addr add 10.0.1.1/24 dev vhost", "ip addr add 10.0.9.1/24 dev out0", "ip link set vhost up",
            "ip link set out0 up",
            "ip -n guest addr add 10.0.1.2/24 dev eth0", "ip -n guest link set eth0 up",
            "ip -n guest route add default via 10.0.1.1", "sysctl -qw net.ipv4.ip_forward=1",
        ] {
            try await sandbox.sh(command)
        }
        try await sandbox.require([
            "iptables-nft", "-A", "FORWARD", "-p", "icmp", "-m", "comment", "--comment", "<img src=x onerror=alert(1)>", "-j",
            "DROP",
        ])
    }

    @Test("the page explains a drop: live, as a file, and with a token; every view, by both colour schemes and four widths")
    func page() async throws {
        try await Sandbox.with { sandbox in
            try await Self.build(sandbox)
            try await sandbox.collecting { _ in try await Self.drive(sandbox, "empty", "http://127.0.0.1:9100") }
            _ = try await sandbox.trace("install-probes")
            try await sandbox.collecting("--record", "/run/trace.pcapng") { _ in
                for _ in 0..<2 {
                    _ = try await sandbox.run([
                        "ip", "netns", "exec", "guest", "ping", "-c", "4", "-i", "0.5", "-W", "1", "10.0.9.7",
                    ])
                }
                try await sandbox.sh("ping -c 1 -W 1 10.0.1.2")
                _ = try await sandbox.paths("?outcome=dropped") { report in
                    report.paths.contains { $0.decidedBy?.rule != nil }
                }
                try await Self.drive(sandbox, "live", "http://127.0.0.1:9100")
                try await sandbox.require([
                    "sh", "-c", "\"$0\" report paths --format html > /run/page.html", Live.program,
                ])
                try await Self.drive(sandbox, "recorded", "/run/page.html")
            }
            try await sandbox.require([
                "sh", "-c", "echo sixteen-characters-long > /run/token; chmod 600 /run/token",
            ])
            let served = try SandboxProcess(
                [
                    Live.program, "analyze", "/run/trace.pcapng", "--serve", "--listen", "127.0.0.1:9102", "--token-file",
                    "/run/token",
                ], in: sandbox)
            try await waiting { served.output.contains("events") }
            try await Self.drive(sandbox, "token", "http://127.0.0.1:9102", "sixteen-characters-long")
            #expect(await served.stop() == 0)
        }
    }
}
