private import Foundation
internal import LinuxSupport
private import Synchronization

/// A program that goes on inside a sandbox until it is stopped.
public final class SandboxProcess: Sendable {
    private let process: Mutex<Handle>
    private let collected = Mutex(Data())
    /// Whether all that it and its children have written has been read.
    private let isRead = Mutex(false)

    private struct Handle: @unchecked Sendable {
        let process: Process
        let output: Pipe
    }

    /// Starts `command` inside `sandbox`.
    public init(_ command: [String], in sandbox: Sandbox) throws {
        try DescriptorLimit.require(DescriptorLimit.perProgram, to: "start \(command.first ?? "")")
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
        process.arguments = sandbox.entry + command
        process.standardInput = FileHandle.nullDevice
        let output = Pipe()
        process.standardOutput = output
        process.standardError = output
        self.process = Mutex(Handle(process: process, output: output))
        try process.run()
        // A thread, and no handler of Dispatch's: the pipe may outlive this value, since a child of the program may hold it open, and closing
        // it under a handler crashes libdispatch (`_dispatch_event_loop_drain`).
        let reading = Reading(handle: output.fileHandleForReading)
        let thread = Thread { [weak self] in
            while true {
                let data = reading.handle.availableData
                guard !data.isEmpty else { break }
                self?.collected.withLock { $0.append(data) }
            }
            self?.isRead.withLock { $0 = true }
        }
        thread.name = "output"
        thread.start()
    }

    /// The thread's alone once it has begun.
    private struct Reading: @unchecked Sendable {
        let handle: FileHandle
    }

    /// Its output so far, stdout and stderr together.
    public var output: String { String(decoding: collected.withLock { $0 }, as: UTF8.self) }

    public var isRunning: Bool { process.withLock { $0.process.isRunning } }

    /// Its number outside of the sandbox. nsenter forks to enter a process namespace, so the program is its child.
    public var processIdentifier: Int32? {
        let parent = process.withLock { $0.process.processIdentifier }
        let entries = (try? FileManager.default.contentsOfDirectory(atPath: "/proc")) ?? []
        return entries.compactMap { Int32($0) }.first { pid in
            guard let status = try? String(contentsOfFile: "/proc/\(pid)/status", encoding: .utf8) else { return false }
            return status.contains("\nPPid:\t\(parent)\n")
        }
    }

    /// nsenter stops together with the program that it holds, and would not notice its end.
    private func resume() {
        kill(process.withLock { $0.process.processIdentifier }, SIGCONT)
    }

    /// Asks it to end as Ctrl-C would, waits up to `seconds`, then ends it.
    ///
    /// - Parameter signal: SIGINT by default.
    /// - Returns: its exit code, when `output` has its last words.
    @discardableResult
    public func stop(signal: Int32 = 2, seconds: Double = 10) async -> Int32 {
        if let pid = processIdentifier { kill(pid, signal) }
        resume()
        let deadline = Date(timeIntervalSinceNow: seconds)
        while isRunning, Date() < deadline { try? await Task.sleep(for: .milliseconds(20)) }
        if isRunning {
            if let pid = processIdentifier { kill(pid, SIGKILL) }
            resume()
            process.withLock { $0.process.terminate() }
        }
        let status = process.withLock { handle in
            handle.process.waitUntilExit()
            return handle.process.terminationStatus
        }
        // Another thread reads; a child that goes on may hold the pipe open.
        for _ in 0..<50 where !isRead.withLock({ $0 }) { try? await Task.sleep(for: .milliseconds(20)) }
        return status
    }
}
