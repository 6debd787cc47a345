import Foundation
import Glibc
import Lab
import LinuxSupport
import Reports
import Testing

/// What TCP itself tells of a connection that hangs, with tcpdump as the judge.
@Suite(.enabled(if: Live.obstacle == nil, "\(Live.obstacle ?? "")"))
struct TCPSegmentTests {
    /// Accepts, and reads nothing.
    private static let server = """
        import socket, time
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        listener.bind(("", 9000))
        listener.listen()
        print("listening", flush=True)
        kept = listener.accept()
        time.sleep(60)
        """

    private static let client = """
        import socket, time
        one = socket.create_connection(("10.0.2.2", 9000))
        one.setblocking(False)
        end = time.time() + 3
        while time.time() < end:
            try: one.send(b"x" * 10000)
            except BlockingIOError: time.sleep(.05)
        """

    @Test(
        "segments that are sent again, and windows that are closed, are as many as tcpdump sees",
        .enabled(if: geteuid() == 0, "tcpdump sets its groups, which an ordinary user's namespace does not allow"))
    func segments() async throws {
        try await Sandbox.with { sandbox in
            try await sandbox.require(["sh", "-ec", routedNetwork])
            try await sandbox.sh("iptables-nft -A FORWARD -p tcp --dport 81 -j DROP")
            _ = try await sandbox.trace("install-probes")
            let server = try SandboxProcess(["ip", "netns", "exec", "s", "python3", "-c", Self.server], in: sandbox)
            try await waiting { server.output.contains("listening") }
            // What the client sends, and what it gets.
            let judge = try SandboxProcess(
                ["ip", "netns", "exec", "c", "tcpdump", "-Z", "root", "-i", "eth0", "-U", "-w", "/run/tcp.pcap", "tcp"],
                in: sandbox)
            try await waiting { judge.output.contains("listening on") }
            let (flows, journeys) = try await sandbox.collecting { _ in
                _ = try await sandbox.run([
                    "ip", "netns", "exec", "c", "timeout", "3.5", "bash", "-c", "exec 3<>/dev/tcp/10.0.2.2/81",
                ])
                try await sandbox.require(["ip", "netns", "exec", "c", "python3", "-c", Self.client])
                // Its end ends the client's probes of the window, too.
                await server.stop(signal: SIGKILL)
                try await Task.sleep(for: .seconds(2))
                return (
                    try await sandbox.get(FlowsReport.self, "/flows?proto=tcp&limit=1000").flows,
                    try await sandbox.get(JourneysReport.self, "/journeys?proto=tcp&port=81").journeys
                )
            }
            await judge.stop()
            func seen(_ expression: String) async throws -> UInt64 {
                let text = try await sandbox.require(["tcpdump", "-nr", "/run/tcp.pcap", expression]).standardOutput
                return UInt64(text.split(separator: "\n").count)
            }
            let attempt = try #require(flows.first { $0.original.destinationPort == 81 }, "\(flows)")
            let attempts = try await seen("dst port 81 and tcp[tcpflags] & tcp-syn != 0")
            #expect(attempts >= 2 && attempt.original.sentAgain == attempts - 1, "\(attempt)")
            // Each attempt but the first is such a segment.
            let first = journeys.min { $0.firstSeen < $1.firstSeen }
            #expect(
                journeys.count == attempts && journeys.count { $0.sentAgain == true } == attempts - 1 && first?.sentAgain == nil
            )
            let full = try #require(flows.first { $0.original.destinationPort == 9000 }, "\(flows)")
            let closed = try await seen("src port 9000 and tcp[14:2] = 0 and tcp[tcpflags] & tcp-rst = 0")
            #expect(closed >= 1 && full.reply?.closedWindows == closed, "\(full)")
        }
    }
}
