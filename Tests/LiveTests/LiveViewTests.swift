import Foundation
import Lab
import LinuxSupport
import Reports
import Testing

/// The live view of `collect` and `trace`, on a terminal of its own.
@Suite(.serialized, .enabled(if: Live.obstacle == nil, "\(Live.obstacle ?? "")"))
struct LiveViewTests {
    /// Runs a command on a pseudo-terminal: waits for a text on its screen, then types keys, in turn; prints the last screen, whether the
    /// terminal is as it was before, and the command's exit code.
    private static let terminal = """
        import fcntl, json, os, pty, select, struct, subprocess, sys, termios, time
        steps = json.loads(sys.argv[1])
        main, side = pty.openpty()
        fcntl.ioctl(side, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 120, 0, 0))
        before = termios.tcgetattr(side)
        process = subprocess.Popen(sys.argv[2:], stdin=side, stdout=side, stderr=subprocess.PIPE,
            preexec_fn=lambda: (os.setsid(), fcntl.ioctl(0, termios.TIOCSCTTY, 0)), env={**os.environ, "TERM": "xterm"})
        seen = b""
        result = {"missing": []}
        def read(seconds):
            global seen
            end = time.time() + seconds
            while time.time() < end:
                if select.select([main], [], [], 0.05)[0]:
                    seen += os.read(main, 65536)
                    return
        for step in steps:
            if "run" in step:
                subprocess.run(step["run"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            end = time.time() + 20
            while step.get("text", "").encode() not in seen and time.time() < end and process.poll() is None:
                read(0.2)
            if step.get("text", "").encode() not in seen:
                result["missing"].append(step["text"])
            seen = b""
            os.write(main, step.get("keys", "").encode())
        end = time.time() + 20
        while process.poll() is None and time.time() < end:
            read(0.2)
        read(0.2)
        result["exit"] = process.poll()
        result["isAsBefore"] = termios.tcgetattr(side) == before
        result["isLeft"] = b"\\x1b[?1049l" in seen and b"\\x1b[?25h" in seen
        if process.poll() is None:
            process.kill()
        result["said"] = process.stderr.read().decode()
        print(json.dumps(result))
        """

    private struct Result: Decodable {
        var missing: [String]
        var exit: Int?
        var isAsBefore: Bool
        var isLeft: Bool
        var said: String
    }

    private struct Step: Encodable {
        var run: [String]?
        var text: String?
        var keys: String?
    }

    private static func run(_ steps: [Step], _ command: [String], in sandbox: Sandbox) async throws -> Result {
        let script = String(decoding: try JSONEncoder().encode(steps), as: UTF8.self)
        let output = try await sandbox.require(["python3", "-c", terminal, script, Live.program] + command)
        return try JSONDecoder().decode(Result.self, from: Data(output.standardOutput.utf8))
    }

    private static let ping = ["ip", "netns", "exec", "guest", "ping", "-c", "3", "-i", "0.5", "-W", "1", "8.8.8.8"]

    @Test("collect shows why a ping is lost and what would mend it, and leaves the terminal as it was")
    func collect() async throws {
        try await Sandbox.with { sandbox in
            try await Gallery.ping.setUp(in: sandbox, variant: Gallery.ping.variant(named: "forward-drop"))
            #expect(try await sandbox.trace("install-probes").isSuccess)
            let result = try await Self.run(
                [
                    Step(text: "No packet has ended its journey yet"),
                    Step(run: Self.ping, text: "by the policy of filter/FORWARD in host", keys: "\r"),
                    Step(text: "what would mend it:", keys: "\u{1B}"), Step(text: "Paths", keys: "/incomplete\r"),
                    Step(text: "No packet is like that", keys: "q"),
                ], ["collect"], in: sandbox)
            #expect(result.missing == [] && result.exit == 0, "\(result)")
            #expect(result.isAsBefore && result.isLeft)
            #expect(result.said.contains("collecting group 5") && result.said.contains("events lost"))
        }
    }

    @Test("trace takes its probes out when its view is left, and when it is interrupted", arguments: ["q", "\u{3}"])
    func trace(_ key: String) async throws {
        try await Sandbox.with { sandbox in
            try await Gallery.ping.setUp(in: sandbox)
            let before = try await sandbox.rules()
            let result = try await Self.run(
                [
                    Step(text: "No packet has ended its journey yet"),
                    Step(run: Self.ping, text: "guest → host → inet", keys: key),
                ], ["trace", "--match", "-p icmp"], in: sandbox)
            #expect(result.missing == [] && result.isAsBefore && result.isLeft, "\(result.said)")
            #expect(try await sandbox.rules() == before)
        }
    }
}
