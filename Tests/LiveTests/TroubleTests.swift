import Aggregation
import Foundation
import Glibc
import Lab
import LinuxSupport
import Reports
import Testing

/// Bad input and trouble: a clear message, the right exit code, nothing left behind.
@Suite(.serialized, .enabled(if: Live.obstacle == nil, "\(Live.obstacle ?? "")"))
struct TroubleTests {
    @Test(
        "what cannot be done is said with the way out",
        arguments: [
            ("install-probes --netns nowhere", 1, "no network namespace named nowhere under /run/netns (there are none)"),
            ("install-probes --netns pid:999999999", 1, "no process 999999999"),
            ("install-probes --netns pid:x", 64, "pid:x is not a namespace"),
            ("install-probes --netns /dev/null", 1, "/dev/null is not a network namespace"),
            ("install-probes --netns ../../proc/self/ns/net/x", 1, "cannot open"),
            ("install-probes --table nope", 64, "no table nope. There are: raw, mangle"),
            ("install-probes --chain NOPE", 64, "no chain NOPE in raw"),
            ("install-probes --match nonsense", 1, "Nothing was left installed"),
            ("install-probes --match -jDROP", 1, "refused"),
            ("install-probes --group 0", 64, "--group 0 is the kernel's own"),
            ("install-probes --expires soon", 64, "soon"),
            ("collect --netns nowhere", 1, "no network namespace named nowhere"),
            ("collect --listen nowhere", 64, "is not an address to listen on"),
            ("report paths --from http://127.0.0.1:1", 1, "no collector answers at http://127.0.0.1:1"),
            ("report paths --from file:///etc/passwd", 64, "is not a URL such as http://127.0.0.1:9100"),
            ("lab run nothing", 64, "no network named nothing. There are: ping"),
            ("lab shell ping", 1, "ping is not up"),
            ("frobnicate", 64, "frobnicate"),
        ] as [(String, Int32, String)])
    func refusal(_ command: String, _ code: Int32, _ message: String) async throws {
        try await Sandbox.with { sandbox in
            let output = try await sandbox.run([Live.program] + command.split(separator: " ").map(String.init))
            #expect(output.exitCode == code)
            #expect(output.standardError.contains(message), "\(output.standardError)")
            #expect(output.standardOutput.isEmpty)
            #expect(try await sandbox.rules().isEmpty)
        }
    }

    @Test func withoutIptablesItSaysWhichPackageToInstall() async throws {
        try await Sandbox.with { sandbox in
            // Hides the programs from this sandbox alone.
            for directory in ["/usr/sbin", "/sbin"] where FileManager.default.fileExists(atPath: directory) {
                try await sandbox.sh("mount -t tmpfs tmpfs \(directory)")
            }
            for command in ["install-probes", "collect", "probes"] {
                let output = try await sandbox.trace(command)
                #expect(output.exitCode == 1)
                #expect(output.standardError.contains("sudo apt-get install iptables"), "\(output.standardError)")
            }
            // Probes in nf_tables go without any program.
            #expect(try await sandbox.trace("remove-probes").isSuccess)
        }
    }

    @Test func aGroupThatAnotherProcessHasIsNamed() async throws {
        try await Sandbox.with { sandbox in
            try await sandbox.collecting("--netns", "host") { _ in
                let second = try await sandbox.trace("collect", "--netns", "host", "--listen", "127.0.0.1:9101")
                #expect(second.exitCode == 1)
                #expect(second.standardError.contains("cannot bind NFLOG group 5 in namespace host: another process has it"))
                #expect(second.standardError.contains("--group 6"))
            }
        }
    }

    @Test func aPortThatIsTakenIsNamedWithItsUsualOwner() async throws {
        try await Sandbox.with { sandbox in
            try await sandbox.collecting("--netns", "host") { _ in
                let second = try await sandbox.trace("collect", "--netns", "host", "--group", "6")
                #expect(second.exitCode == 1)
                #expect(
                    second.standardError.contains("node_exporter") && second.standardError.contains("--listen 127.0.0.1:9101"))
            }
        }
    }

    @Test(.enabled(if: geteuid() == 0, "only root can become somebody without privilege"))
    func withoutPrivilegeItSaysSoWithACodeOfItsOwn() async throws {
        try await Sandbox.with { sandbox in
            // The program is copied to where anybody may read it.
            try await sandbox.sh("cp \(Live.program) /run/ipt-trace-copy")
            try await sandbox.sh("chmod 755 /run /run/ipt-trace-copy")
            for command in ["install-probes", "collect --netns host"] {
                let output = try await sandbox.run(
                    ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "/run/ipt-trace-copy"]
                        + command.split(separator: " ").map(String.init))
                #expect(output.exitCode == 77, "\(output.standardError)")
                #expect(output.standardError.contains("sudo"))
            }
        }
    }

    @Test func aNamespaceThatVanishesWhileTracedIsLetGo() async throws {
        try await Sandbox.with { sandbox in
            try await sandbox.sh("ip netns add gone")
            try await sandbox.sh("ip netns exec gone ip link set lo up")
            _ = try await sandbox.trace("install-probes", "--family", "ipv4")
            try await sandbox.collecting { collector in
                try await sandbox.sh("ip netns exec gone ping -c 1 127.0.0.1")
                let before = try await sandbox.paths { $0.completeness.journeys == 2 }
                try await sandbox.sh("ip netns del gone")
                for _ in 0..<100 where !collector.output.contains("namespace gone has vanished") {
                    try await Task.sleep(for: .milliseconds(50))
                }
                #expect(collector.output.contains("namespace gone has vanished"))
                try await sandbox.sh("ping -c 1 127.0.0.1")
                let after = try await sandbox.paths { $0.completeness.journeys - $0.completeness.own == 4 }
                #expect(after.paths.reduce(0) { $0 + $1.packets } == 4)
                #expect(before.completeness.events < after.completeness.events)
            }
            #expect(try await sandbox.trace("remove-probes", "--verify").isSuccess)
        }
    }

    @Test func aNamespaceThatHasVanishedIsGoneFromTheKernelToo() async throws {
        try await Sandbox.with { sandbox in
            try await sandbox.sh("ip netns add gone")
            try await sandbox.sh("ip link add here type veth peer name there netns gone")
            try await sandbox.collecting { collector in
                try await sandbox.sh("ip netns del gone")
                for _ in 0..<200 where !collector.output.contains("namespace gone has vanished") {
                    try await Task.sleep(for: .milliseconds(50))
                }
                // A veth goes with its peer's namespace, once nobody holds that any more.
                try await waiting { try await !sandbox.run(["ip", "link", "show", "here"]).isSuccess }
                #expect(!(try await sandbox.run(["ip", "link", "show", "here"]).isSuccess))
            }
        }
    }

    @Test func aFarOffTimeIsABadRequest() async throws {
        try await Sandbox.with { sandbox in
            try await sandbox.collecting("--netns", "host") { collector in
                for since in ["500000-01-01T00:00:00Z", "1e300", "-1e300", "nan", "soon"] {
                    let output = try await sandbox.run(
                        ["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "http://127.0.0.1:9100/paths?since=\(since)"])
                    #expect(output.standardOutput == "400", "\(since)")
                }
                #expect(collector.isRunning)
            }
        }
    }

    @Test func probesThatComeLaterAndNamespacesThatAppearAreTraced() async throws {
        try await Sandbox.with { sandbox in
            try await sandbox.collecting { collector in
                #expect(collector.output.contains("No probes report to group 5 yet"))
                try await sandbox.sh("ip netns add late")
                try await sandbox.sh("ip netns exec late ip link set lo up")
                for _ in 0..<100 where !collector.output.contains("namespace late has appeared") {
                    try await Task.sleep(for: .milliseconds(50))
                }
                _ = try await sandbox.trace("install-probes", "--family", "ipv4", "--match", "-p icmp")
                // The rules are read again within a second.
                for _ in 0..<100 {
                    let namespaces = try await sandbox.get(NamespacesReport.self, "/namespaces").namespaces
                    if namespaces.count == 2, namespaces.allSatisfy({ $0.probes == 17 }) { break }
                    try await Task.sleep(for: .milliseconds(50))
                }
                try await sandbox.sh("ip netns exec late ping -c 1 127.0.0.1")
                let report = try await sandbox.paths { $0.completeness.journeys >= 2 }
                #expect(report.completeness.unplaced == 0)
                #expect(report.paths.map(\.outcome) == ["delivered"])
                #expect(report.paths.first?.steps.first?.netns == "late")
            }
        }
    }

    @Test func traceTakesItsProbesOutEvenWhenItIsKilled() async throws {
        try await Sandbox.with { sandbox in
            let trace = try SandboxProcess([Live.program, "trace", "--netns", "host", "--match", "-p icmp"], in: sandbox)
            for _ in 0..<250 where !trace.output.contains("tracing with") { try await Task.sleep(for: .milliseconds(20)) }
            #expect(try await sandbox.rules().contains { $0.contains("ipt-trace:t") })
            await trace.stop(signal: SIGKILL)
            try await waiting { try await sandbox.rules().isEmpty }
            #expect(try await sandbox.rules().isEmpty)
        }
    }

    @Test func traceShowsPacketsAndLeavesOtherProbesAlone() async throws {
        try await Sandbox.with { sandbox in
            _ = try await sandbox.trace("install-probes", "--family", "ipv4")
            let before = try await sandbox.rules()
            let trace = try SandboxProcess(
                [Live.program, "trace", "--netns", "host", "--match", "-p icmp", "--count", "2"], in: sandbox)
            for _ in 0..<250 where !trace.output.contains("tracing with") { try await Task.sleep(for: .milliseconds(20)) }
            try await sandbox.sh("ping -c 1 127.0.0.1")
            for _ in 0..<250 where trace.isRunning { try await Task.sleep(for: .milliseconds(20)) }
            #expect(!trace.isRunning)
            #expect(
                trace.output.contains("icmp 127.0.0.1 → 127.0.0.1 echo request 1  delivered to the sockets of host"),
                "\(trace.output)"
            )
            #expect(trace.output.contains("icmp 127.0.0.1 → 127.0.0.1 echo reply 1  delivered to the sockets of host"))
            #expect(try await sandbox.rules() == before)
        }
    }

    @Test func howMuchIsSaidIsChosen() async throws {
        try await Sandbox.with { sandbox in
            try await sandbox.sh("ip netns add guest")
            let installed = try await sandbox.trace("install-probes", "--family", "ipv4", "-v")
            #expect(
                installed.isSuccess && installed.standardError.contains("in guest: exited(0)"), "\(installed.standardError)")
            func collected(_ options: String...) async throws -> String {
                let collector = try SandboxProcess([Live.program, "collect"] + options, in: sandbox)
                try await waiting { try await sandbox.run(["curl", "-s", "http://127.0.0.1:9100/healthz"]).isSuccess }
                try await sandbox.sh("ping -c 1 127.0.0.1")
                try await Task.sleep(for: .seconds(1))
                #expect(await collector.stop() == 0)
                return collector.output
            }
            #expect(try await collected("--quiet").isEmpty)
            let usual = try await collected()
            #expect(
                usual.contains("serving http") && usual.contains(" delivered)") && !usual.contains("debug:")
                    && !usual.contains("trace:"))
            let debug = try await collected("-v")
            #expect(debug.contains("debug: the rules of guest, host have been read") && !debug.contains("trace:"), "\(debug)")
            #expect(!debug.contains("echo request"), "only packets whose end is not known")
            let trace = try await collected("--log-level", "trace")
            #expect(trace.contains("trace: netlink, to bind NFLOG group 5: 72 bytes sent"), "\(trace)")
            #expect(trace.contains("echo request 1  delivered to the sockets of host"))
            // Errors are said whatever is chosen, and two choices are none.
            let failed = try await sandbox.trace("install-probes", "--netns", "nowhere", "-q")
            #expect(failed.exitCode == 1 && failed.standardError.contains("no network namespace named nowhere"))
            #expect(try await sandbox.trace("probes", "-q", "-v").exitCode == 64)
        }
    }

    @Test func ctrlCEndsACollectionWithASummary() async throws {
        try await Sandbox.with { sandbox in
            _ = try await sandbox.trace("install-probes", "--family", "ipv4")
            for signal in [SIGINT, SIGTERM] {
                let collector = try SandboxProcess([Live.program, "collect"], in: sandbox)
                for _ in 0..<250 where !collector.output.contains("serving http") {
                    try await Task.sleep(for: .milliseconds(20))
                }
                try await sandbox.sh("ping -c 1 127.0.0.1")
                #expect(await collector.stop(signal: signal) == 0)
                #expect(collector.output.contains("2 journeys (2 delivered), 0 events lost"), "\(collector.output)")
            }
        }
    }
}
