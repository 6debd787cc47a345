import Foundation
import Glibc
import Lab
import Testing

/// The register of running networks under hands that are not the user's.
struct LabRegistryTests {
    @Test("an entry that was added is found, its process ended, its directories removed")
    func ownEntry() throws {
        try Fixture.with { fixture in
            try fixture.register.add("ping", fixture.sandbox)
            let found = try #require(try fixture.register.sandbox(of: "ping"))
            #expect(found.holder == fixture.sleeper.processIdentifier)
            #expect(try fixture.register.sandbox(of: "relay") == nil)
            found.end()
            fixture.sleeper.waitUntilExit()
            #expect(fixture.sleeper.terminationReason == .uncaughtSignal)
            #expect(try fixture.register.sandbox(of: "ping") == nil)
            try fixture.register.remove("ping")
            #expect(try FileManager.default.contentsOfDirectory(atPath: fixture.parent).isEmpty)
        }
    }

    @Test("without a private parent the fallback gets a directory for each user, mode 0700")
    func fallback() throws {
        try Fixture.with { fixture in
            try fixture.change("chmod 1777 \(fixture.parent)")
            let register = LabRegistry(parents: [fixture.parent, "/nonexistent"], fallback: fixture.parent)
            try register.add("ping", fixture.sandbox)
            var status = stat()
            let path = "\(fixture.parent)/ipt-trace-\(geteuid())"
            #expect(unsafe lstat(path, &status) == 0 && status.st_mode & 0o7777 == 0o700)
            #expect(try register.sandbox(of: "ping") != nil)
        }
    }

    /// `$D` is the register's directory, `$P` its parent.
    @Test(
        "what another user may have written is refused by its path, and the process that it names lives on",
        arguments: [
            ("directory of another user", "chown 65534 $D", "/ipt-trace/labs belongs to user 65534"),
            ("directory above of another user", "chown 65534 $D/..", "/ipt-trace belongs to user 65534"),
            ("directory that everybody may write", "chmod 777 $D", "/labs can be written by other users"),
            ("directory with a sticky bit", "chmod 1777 $D", "/labs can be written by other users"),
            ("directory that a group may write", "chmod 770 $D", "/labs can be written by other users"),
            ("symbolic link to a directory of our own", "mv $D $D.real; ln -s $D.real $D", "/labs is not a directory"),
            ("symbolic link above", "mv $P/ipt-trace $P/real; ln -s $P/real $P/ipt-trace", "/ipt-trace is not a directory"),
            ("dangling symbolic link", "rm -r $D; ln -s /nonexistent $D", "/labs is not a directory"),
            ("file in the directory's place", "rm -r $D; touch $D", "/labs is not a directory"),
            ("entry of another user", "chown 65534 $D/ping.json", "ping.json belongs to user 65534"),
            ("entry that everybody may write", "chmod 666 $D/ping.json", "ping.json can be written by other users"),
            ("entry as a symbolic link", "mv $D/ping.json $D/x; ln -s x $D/ping.json", "ping.json is a symbolic link"),
            ("entry as a FIFO", "rm $D/ping.json; mkfifo $D/ping.json", "ping.json is not a regular file"),
            ("entry as a directory", "rm $D/ping.json; mkdir $D/ping.json", "ping.json is not a regular file"),
            ("parent that others may change", "chmod 777 $P", "lets other users replace what is in it"),
            ("entry cut short", "truncate -s 20 $D/ping.json", "ping.json is damaged"),
            ("entry with a number alone", "echo '{\"holder\": 1}' > $D/ping.json", "ping.json is damaged"),
        ] as [(String, String, String)])
    func foreign(_ name: String, _ change: String, _ message: String) throws {
        guard geteuid() == 0 || !change.hasPrefix("chown") else { return }
        try Fixture.with { fixture in
            try fixture.register.add("ping", fixture.sandbox)
            try fixture.change(change)
            let error = #expect(throws: LabRegistryError.self) { try fixture.register.sandbox(of: "ping")?.end() }
            let text = error?.description ?? ""
            #expect(text.contains(message) && (text.contains("Remove") || text.contains("XDG_RUNTIME_DIR")), "\(text)")
            #expect(fixture.sleeper.isRunning)
        }
    }

    @Test(
        "a process that is not the one recorded is not signalled, though it has its number",
        arguments: ["start time", "user", "network namespace", "boot"])
    func otherProcess(_ difference: String) throws {
        try Fixture.with { fixture in
            var process = fixture.sandbox.process
            switch difference {
            case "start time": process.startTime += 1
            case "user": process.user += 1
            case "network namespace": process.networkNamespace = "net:[1]"
            default: process.boot = "another"
            }
            let sandbox = Sandbox(process: process, hasUserNamespace: false)
            try fixture.register.add("ping", sandbox)
            #expect(try fixture.register.sandbox(of: "ping") == nil)
            sandbox.end()
            #expect(!sandbox.isAlive && fixture.sleeper.isRunning)
        }
    }

    @Test("numbers that kill(2) takes for groups of processes are nobody's", arguments: [0, -1, -2, Int32.min])
    func groups(pid: Int32) { #expect(ProcessIdentity(of: pid) == nil) }
}

/// A process to be spared, and a register in a directory of its own.
private struct Fixture {
    let parent: String
    let sleeper: Process
    let sandbox: Sandbox
    let register: LabRegistry

    static func with(_ body: (Fixture) throws -> Void) throws {
        let parent = FileManager.default.temporaryDirectory.appendingPathComponent("ipt-trace-\(UUID().uuidString)").path
        try FileManager.default.createDirectory(
            atPath: parent, withIntermediateDirectories: false, attributes: [.posixPermissions: 0o700])
        let sleeper = Process()
        sleeper.executableURL = URL(fileURLWithPath: "/bin/sleep")
        sleeper.arguments = ["60"]
        try sleeper.run()
        defer {
            // SIGTERM is blocked in children of the threads that tests run on.
            if sleeper.isRunning { kill(sleeper.processIdentifier, SIGKILL) }
            sleeper.waitUntilExit()
            try? FileManager.default.removeItem(atPath: parent)
        }
        let process = try #require(ProcessIdentity(of: sleeper.processIdentifier))
        try body(
            Fixture(
                parent: parent, sleeper: sleeper, sandbox: Sandbox(process: process, hasUserNamespace: false),
                register: LabRegistry(parents: [parent], fallback: "/nonexistent")))
    }

    func change(_ command: String) throws {
        let shell = Process()
        shell.executableURL = URL(fileURLWithPath: "/bin/sh")
        shell.arguments = ["-c", command]
        shell.environment = ["PATH": "/usr/bin:/bin", "P": parent, "D": "\(parent)/ipt-trace/labs"]
        try shell.run()
        shell.waitUntilExit()
        try #require(shell.terminationStatus == 0)
    }
}
