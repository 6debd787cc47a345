private import Foundation
public import LinuxSupport

/// Network, mount and process namespaces of their own, in which anything may be done to networks and rules without
/// touching the machine: its own interfaces, its own iptables, its own `/run` and `/proc`.
///
/// Ordinary users get a user namespace as well, in which they are root. Everything in it ends with it: processes,
/// namespaces, rules.
public struct Sandbox: Sendable {
    /// The process that holds the namespaces: `unshare`, waiting for the first process within.
    package let process: ProcessIdentity
    let hasUserNamespace: Bool

    public var holder: Int32 { process.pid }

    /// Why no sandbox can be had.
    public struct Unavailable: Error, CustomStringConvertible {
        public var description: String
    }

    // MARK: Holding

    /// Makes a sandbox, runs `body` with it, and ends it, however `body` or this process ends: the first process within
    /// waits for the end of its input, which this process holds.
    public static func with<Result: Sendable>(_ body: (Sandbox) async throws -> Result) async throws -> Result {
        try DescriptorLimit.require(DescriptorLimit.perProgram, to: "make a sandbox")
        let input = Pipe()
        let output = Pipe()
        // Nothing is written before "ready" is wanted, and nothing read behind it.
        let process = try launch(["cat"], input: input, output: output, isDetached: false)
        input.fileHandleForWriting.write(Data("ready\n".utf8))
        let answer = output.fileHandleForReading.availableData
        guard !answer.isEmpty else { throw await failure(of: process) }
        defer {
            // The first process within ends at the end of its input, and unshare with it.
            try? input.fileHandleForWriting.close()
            process.waitUntilExit()
        }
        let sandbox = try Sandbox(holder: process.processIdentifier)
        defer { sandbox.end() }
        try await sandbox.prepare()
        return try await body(sandbox)
    }

    /// Makes a sandbox that outlives this process; `end` ends it.
    ///
    /// - Parameter keeper: a command that prints a line and then waits until it is killed.
    public static func detached(keeper: [String]) async throws -> Sandbox {
        try DescriptorLimit.require(DescriptorLimit.perProgram, to: "make a sandbox")
        let output = Pipe()
        let process = try launch(keeper, input: nil, output: output, isDetached: true)
        guard !output.fileHandleForReading.availableData.isEmpty else { throw await failure(of: process) }
        let sandbox = try Sandbox(holder: process.processIdentifier)
        do {
            try await sandbox.prepare()
        } catch {
            sandbox.end()
            throw error
        }
        return sandbox
    }

    /// Ends a sandbox and everything in it: `unshare --kill-child` takes the first process within along, and that one takes all
    /// the others.
    public func end() { process.kill() }

    public var isAlive: Bool { process.isRunning }

    package init(process: ProcessIdentity, hasUserNamespace: Bool) {
        self.process = process
        self.hasUserNamespace = hasUserNamespace
    }

    private init(holder: Int32) throws {
        guard let process = ProcessIdentity(of: holder) else { throw Unavailable(description: "the sandbox ended at once") }
        self.init(process: process, hasUserNamespace: geteuid() != 0)
    }

    private static func launch(_ command: [String], input: Pipe?, output: Pipe, isDetached: Bool) throws -> Process {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
        var arguments: [String] = []
        // In two steps: the kernel gives files under /proc/net to the namespace's root, whom it has to know by then
        // (xt_proto_init in net/netfilter/x_tables.c, nfnl_log_net_init in nfnetlink_log.c).
        if geteuid() != 0 { arguments += ["unshare", "--user", "--map-root-user", "--"] }
        arguments += ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--"] + command
        // nohup keeps it when the terminal goes.
        process.arguments = (isDetached ? ["nohup"] : []) + arguments
        process.standardInput = input ?? FileHandle.nullDevice
        process.standardOutput = output
        process.standardError = isDetached ? FileHandle.nullDevice : FileHandle.standardError
        do {
            try process.run()
        } catch {
            throw Unavailable(description: "cannot start unshare: \(error.localizedDescription)")
        }
        return process
    }

    private static func failure(of process: Process) async -> Unavailable {
        process.waitUntilExit()
        var text = "namespaces of one's own cannot be had here (unshare failed with \(process.terminationStatus))."
        if geteuid() != 0 {
            text +=
                " Ordinary users need them switched on: sysctl kernel.unprivileged_userns_clone=1, "
                + "kernel.apparmor_restrict_unprivileged_userns=0, user.max_user_namespaces above 0. Or run it as root."
        }
        return Unavailable(description: text)
    }

    // MARK: Working in it

    /// A `/run` of its own, for names of namespaces, iptables' lock and our journal; loopback up.
    private func prepare() async throws {
        try await require(["mount", "-t", "tmpfs", "tmpfs", "/run"])
        try await require(["mkdir", "-p", "/run/netns"])
        try await require(["ip", "link", "set", "lo", "up"])
    }

    /// The words before a command that run it inside.
    public var entry: [String] {
        var words = ["nsenter", "--target", String(holder), "--net", "--mount"]
        if hasUserNamespace { words += ["--user", "--preserve-credentials"] }
        // The holder itself is outside of the process namespace that it made.
        return words + ["--pid=/proc/\(holder)/ns/pid_for_children", "--"]
    }

    /// Runs a command inside and returns its output.
    public func run(_ command: [String], input: String = "") async throws -> Tool.Output {
        let words = entry + command
        return try await Tool.run(words[0], Array(words.dropFirst()), input: input)
    }

    /// As `run`; an exit code other than 0 throws.
    @discardableResult
    public func require(_ command: [String], input: String = "") async throws -> Tool.Output {
        let output = try await run(command, input: input)
        guard output.isSuccess else {
            throw NamespaceError.toolFailed(
                command: command.joined(separator: " "), status: "\(output.status)", message: output.standardError)
        }
        return output
    }
}
