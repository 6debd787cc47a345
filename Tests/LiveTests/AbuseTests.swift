import Aggregation
import Foundation
import Lab
import LinuxSupport
import Reports
import Testing

/// The endpoint of a real collector under clients that mean it harm, while packets are traced.
@Suite(.serialized, .enabled(if: Live.obstacle == nil, "\(Live.obstacle ?? "")"))
struct AbuseTests {
    struct Abuse: Sendable, CustomTestStringConvertible {
        var testDescription: String
        /// Python: opens sockets with `connect(number)` and keeps them in `kept`; says nothing.
        var script: String
    }

    /// Sockets come from as many loopback addresses as are needed, so that no bound of one address keeps them out.
    private static let preamble = """
        import resource, socket, sys, threading, time
        resource.setrlimit(resource.RLIMIT_NOFILE, (20000, 20000))
        kept = []
        def connect(number):
            one = socket.socket()
            one.settimeout(5)
            # Little room: what is not read fills it soon.
            one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            one.bind((f"127.1.{number >> 6 & 255}.{1 + (number >> 14)}", 0))
            one.connect(("127.0.0.1", 9100))
            kept.append(one)
            return one
        def attempt(number, data):
            try:
                connect(number).sendall(data)
            except OSError:
                pass

        """

    static let abuses = [
        Abuse(
            testDescription: "10,000 connections that ask for nothing",
            script: "for number in range(10000): attempt(number, b'')"),
        Abuse(
            testDescription: "2,000 heads that are never ended",
            script: "for number in range(2000): attempt(number, b'GET /paths HTTP/1.1\\r\\nHost: localhost\\r\\nX: ')"),
        Abuse(
            testDescription: "200 clients that send one byte a second",
            script: """
                for number in range(200): attempt(number, b'G')
                def trickle():
                    for byte in b'ET /paths HTTP/1.1\\r\\n':
                        time.sleep(1)
                        for one in kept:
                            try: one.send(bytes([byte]))
                            except OSError: pass
                threading.Thread(target=trickle, daemon=True).start()
                """),
        Abuse(
            testDescription: "300 streams that are asked for, and never read",
            script: "for number in range(300): attempt(number * 64, b'GET /events HTTP/1.1\\r\\nHost: localhost\\r\\n\\r\\n')"),
        Abuse(
            testDescription: "500 times ten large answers that are never read",
            script: "for number in range(500): attempt(number, b'GET /metrics HTTP/1.1\\r\\nHost: localhost\\r\\n\\r\\n' * 10)"),
        Abuse(
            testDescription: "heads of 256 KiB in one line",
            script:
                "for number in range(100): attempt(number, b'GET / HTTP/1.1\\r\\nHost: localhost\\r\\nX: ' + b'a' * 262144 + b'\\r\\n\\r\\n')"
        ),
        Abuse(
            testDescription: "streams that are opened and reset, over and over",
            script: """
                import struct
                for number in range(1000):
                    attempt(number, b'GET /events HTTP/1.1\\r\\nHost: localhost\\r\\n\\r\\n')
                    kept[-1].setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    kept.pop().close()
                """),
    ]

    @Test(
        "others are answered meanwhile, a stream goes on, no event is lost, and no descriptor is left behind", arguments: abuses
    )
    func endures(_ abuse: Abuse) async throws {
        try await Sandbox.with { sandbox in
            try await sandbox.sh("ip link set lo up")
            // Not of the abuse itself, which would be hundreds of thousands of events a second.
            _ = try await sandbox.trace("install-probes", "--netns", "host", "--family", "ipv4", "--match", "-p icmp")
            try await sandbox.collecting("--netns", "host") { collector in
                func descriptors() async throws -> Int {
                    let metrics = try await sandbox.require(["curl", "-sSf", "http://127.0.0.1:9100/metrics"]).standardOutput
                    let line = metrics.split(separator: "\n").first { $0.hasPrefix("process_open_fds ") }
                    return try #require(line?.split(separator: " ").last.flatMap { Int($0) })
                }
                let before = try await descriptors()
                // A well-behaved reader of the stream, connected before the abuse begins.
                let reader = try SandboxProcess(
                    ["curl", "-sN", "-m", "60", "-o", "/run/stream", "http://127.0.0.1:9100/events?proto=icmp"], in: sandbox)
                let traffic = try SandboxProcess(["ping", "-q", "-i", "0.05", "-c", "100", "127.0.0.1"], in: sandbox)
                let abuser = try SandboxProcess(
                    ["python3", "-c", Self.preamble + abuse.script + "\nprint('open', flush=True)\ntime.sleep(60)"], in: sandbox
                )
                // From its first connection on, and for a while when all are there.
                for _ in 0..<600 where !abuser.output.contains("open") {
                    let output = try await sandbox.run(["curl", "-sSf", "-m", "5", "http://127.0.0.1:9100/healthz"])
                    #expect(output.isSuccess, "\(output.standardError)")
                }
                #expect(abuser.output.contains("open") && abuser.isRunning, "\(abuser.output)")
                for _ in 0..<20 {
                    for path in ["/paths", "/healthz"] {
                        let output = try await sandbox.run(["curl", "-sSf", "-m", "5", "http://127.0.0.1:9100\(path)"])
                        #expect(output.isSuccess, "\(path): \(output.standardError)")
                    }
                }
                try await waiting { !traffic.isRunning }
                await abuser.stop(signal: SIGKILL)
                // Echo requests and replies, from PREROUTING to INPUT and from OUTPUT to POSTROUTING: journeys through the loopback.
                var told = 0
                try await waiting {
                    let text = try await sandbox.require(["cat", "/run/stream"]).standardOutput
                    told = text.components(separatedBy: "\nevent: journey\n").count - 1
                    return told >= 200
                }
                #expect(told == 200 && reader.isRunning)
                await reader.stop(signal: SIGTERM)
                let report = try await sandbox.get(PathsReport.self, "/paths?proto=icmp")
                #expect(report.completeness.lost == 0 && report.completeness.thinned == nil)
                #expect(report.paths.reduce(0) { $0 + $1.packets } == 200)
                try await waiting { try await descriptors() <= before }
                #expect(try await descriptors() <= before)
                #expect(collector.isRunning)
            }
        }
    }
}
