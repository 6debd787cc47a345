import ArgumentParser
import Foundation
import Glibc
import LinuxSupport
import Ruleset

/// A process that takes probes out when this one ends without having done so.
struct Guardian {
    private let process: Process
    private let input: FileHandle

    /// Where runs were named: that there is nothing left to take out.
    static let lastWord = "done"

    init() throws {
        try DescriptorLimit.require(DescriptorLimit.perProgram, to: "start the process that takes the probes out")
        process = Process()
        // A socket, since a write to a pipe that nobody reads any more would end this process.
        guard let ends = SocketCalls.pair() else {
            throw CommandFailure(message: "cannot start the process that takes the probes out: error \(errno)")
        }
        input = FileHandle(fileDescriptor: ends.0, closeOnDealloc: true)
        let output = FileHandle(fileDescriptor: ends.1, closeOnDealloc: true)
        process.executableURL = URL(fileURLWithPath: Program.path)
        process.arguments = ["guard"]
        // It waits for the end of its input, which comes when this process is gone, for whatever reason.
        process.standardInput = output
        process.standardOutput = FileHandle.nullDevice
        try process.run()
        try output.close()
    }

    /// Puts the probes of a run into its care.
    ///
    /// - Throws: `CommandFailure` where the process has ended.
    func watch(_ run: String) throws {
        guard say(run) else { throw CommandFailure(message: "the process that would take the probes out has ended") }
    }

    private func say(_ word: String) -> Bool {
        let line = Array("\(word)\n".utf8)
        return SocketCalls.send(input.fileDescriptor, line) == line.count
    }

    /// Ends it: there is nothing left to take out.
    func dismiss() {
        // One that has ended already needs no word.
        _ = say(Self.lastWord)
        try? input.close()
        process.waitUntilExit()
    }
}

struct GuardCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(commandName: "guard", shouldDisplay: false)

    func run() async throws {
        // Whatever ends the trace from the terminal must not end this.
        for number in [SIGINT, SIGHUP, SIGTERM, SIGQUIT] { signal(number, SIG_IGN) }
        let said = FileHandle.standardInput.readDataToEndOfFile()
        let runs = Set(String(decoding: said, as: UTF8.self).split(separator: "\n").map(String.init))
        guard !runs.contains(Guardian.lastWord), !runs.isEmpty else { return }
        AbandonedSettings.putBack()
        try await ProbeLock.whileHeld {
            _ = try await ProbeRemover().remove(from: try NamespaceDirectory.resolve([.all]), .only(runs))
        }
    }
}
