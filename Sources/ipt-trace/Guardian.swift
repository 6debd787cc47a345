import ArgumentParser
import Foundation
import LinuxSupport
import Ruleset

/// A process that takes probes out when this one ends without having done so.
struct Guardian {
    private let process: Process
    private let input: Pipe

    /// Where runs were named: that there is nothing left to take out.
    static let lastWord = "done"

    init() throws {
        try DescriptorLimit.require(DescriptorLimit.perProgram, to: "start the process that takes the probes out")
        process = Process()
        input = Pipe()
        process.executableURL = URL(fileURLWithPath: Program.path)
        process.arguments = ["guard"]
        // It waits for the end of its input, which comes when this process is gone, for whatever reason.
        process.standardInput = input
        process.standardOutput = FileHandle.nullDevice
        try process.run()
    }

    /// Puts the probes of a run into its care.
    func watch(_ run: String) throws { try input.fileHandleForWriting.write(contentsOf: Data("\(run)\n".utf8)) }

    /// Ends it: there is nothing left to take out.
    func dismiss() {
        try? input.fileHandleForWriting.write(contentsOf: Data("\(Self.lastWord)\n".utf8))
        try? input.fileHandleForWriting.close()
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
        try await ProbeLock.whileHeld {
            _ = try await ProbeRemover().remove(from: try NamespaceDirectory.resolve([.all]), .only(runs))
        }
    }
}
