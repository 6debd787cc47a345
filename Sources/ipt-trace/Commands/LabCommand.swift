import Aggregation
import ArgumentParser
import EventSources
import Foundation
import Lab
import LinuxSupport
import Reports

struct LabCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "lab",
        abstract: "Run example networks in namespaces of their own; needs no root, leaves this machine's rules alone.",
        discussion: """
              ipt-trace lab run ping
              ipt-trace lab run ping --variant forward-drop
              ipt-trace lab up ping && ipt-trace lab shell ping
            """,
        subcommands: [
            LabList.self, LabRun.self, LabJudge.self, LabUp.self, LabShell.self, LabDown.self, LabServe.self, LabConnect.self,
            LabSend.self, LabHold.self,
        ])
}

struct LabNameArgument: ParsableArguments {
    @Argument(help: "A network's name; ipt-trace lab list has them.")
    var name: String

    func network() throws -> LabNetwork {
        guard let network = Gallery.network(named: name) else {
            let names = Gallery.networks.map(\.name).joined(separator: ", ")
            throw CommandFailure(message: "no network named \(name). There are: \(names)", code: ExitStatus.usage)
        }
        return network
    }

    /// The sandbox of the network, which has to be up.
    func sandbox() throws -> Sandbox {
        guard let sandbox = try LabRegistry().sandbox(of: try network().name) else {
            throw CommandFailure(message: "\(name) is not up. Bring it up with: ipt-trace lab up \(name)")
        }
        return sandbox
    }
}

struct LabVariantOption: ParsableArguments {
    @Option(help: "A variant of the network; ipt-trace lab list has them.")
    var variant: String?

    func resolve(_ network: LabNetwork) throws -> LabNetwork.Variant? {
        guard let variant else { return nil }
        guard let found = network.variant(named: variant) else {
            let names = network.variants.map(\.name).joined(separator: ", ")
            throw CommandFailure(
                message: "\(network.name) has no variant \(variant). There are: \(names)", code: ExitStatus.usage)
        }
        return found
    }
}

struct LabList: ParsableCommand {
    static let configuration = CommandConfiguration(commandName: "list", abstract: "List the networks.")

    private struct Entry: Encodable {
        struct Variant: Encodable {
            var name: String
            var summary: String
        }
        var name: String
        var summary: String
        var variants: [Variant]
    }

    @Flag(help: "Print JSON.")
    var json = false

    func run() throws {
        if json {
            let entries = Gallery.networks.map { network in
                Entry(
                    name: network.name, summary: network.summary,
                    variants: network.variants.map { Entry.Variant(name: $0.name, summary: $0.summary) })
            }
            return Terminal.print(try ReportJSON.text(["networks": entries], isPretty: true))
        }
        for network in Gallery.networks {
            Terminal.print("\(network.name): \(network.summary)")
            for variant in network.variants { Terminal.print("  --variant \(variant.name): \(variant.summary)") }
        }
    }
}

struct LabRun: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "run",
        abstract: "Set a network up, trace its traffic with the commands that a person would type, and take it down.")

    @OptionGroup var argument: LabNameArgument
    @OptionGroup var option: LabVariantOption

    @Flag(help: "Print what /paths has and whether it is as expected, as JSON, and nothing else.")
    var json = false

    @Flag(help: "Leave the network up, to look around in it with lab shell; lab down takes it away.")
    var keep = false

    @Option(
        help: ArgumentHelp(
            "Record the traffic into a capture (pcapng), ask the collector nothing, and judge the recording.",
            valueName: "file"))
    var record: String?

    @OptionGroup var log: LogOptions

    func run() async throws {
        let plain = try argument.network()
        let network = plain.with(try option.resolve(plain))
        let stop = StopSignal()
        let isQuiet = json
        let isKept = keep
        let recording = record.map { URL(fileURLWithPath: $0).path }
        let work = Task {
            if !isQuiet { Terminal.print(TerminalText(lines: "\(network.summary)\n\n\(network.drawing)\n")) }
            let demonstration = Demonstration(
                network, program: Program.path, show: { if !isQuiet { Terminal.print(TerminalText(lines: $0)) } })
            if isKept {
                return try await demonstration.run(in: try await LabUp.bringUp(network), recording: recording)
            }
            return try await Sandbox.with { sandbox in
                try await network.setUp(in: sandbox)
                return try await demonstration.run(in: sandbox, recording: recording)
            }
        }
        let watcher = Task {
            await stop.wait()
            if !Task.isCancelled {
                // The sandbox ends with this process, and everything in it with the sandbox; one to be kept is ended here.
                if isKept { try? LabDown.takeDown(network.name) }
                Terminal.note("interrupted: the network is gone")
                Foundation.exit(130)
            }
        }
        defer { watcher.cancel() }
        let result: Demonstration.Result
        do {
            result = try await work.value
        } catch let error as Sandbox.Unavailable {
            throw CommandFailure(message: error.description)
        } catch let error as LabNetwork.Unmet {
            throw CommandFailure(message: error.description)
        }
        let reports: LabReports
        if let asked = result.reports {
            reports = asked
        } else {
            reports = LabReports(try await AnalysisRun(files: [recording ?? ""]).finish().snapshot)
        }
        let verdict = LabAssessment(network, reports, traffic: result.traffic)
        Terminal.print(json ? try ReportJSON.text(verdict, isPretty: true) : verdict.text)
        if keep {
            Terminal.note(
                "\(network.name) is up still: ipt-trace lab shell \(network.name), and then ipt-trace lab down \(network.name)")
        }
        if !verdict.asExpected { throw ExitCode(ExitStatus.checkFailed) }
    }
}

struct LabJudge: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "judge",
        abstract: "Compare a recording of a network's traffic with the result expected of it; needs no kernel.",
        discussion: """
              ipt-trace lab run ping --record ping.pcapng
              ipt-trace lab judge ping ping.pcapng
            """)

    @OptionGroup var argument: LabNameArgument
    @OptionGroup var option: LabVariantOption

    @Argument(help: "What lab run --record wrote; gzip and zstd are read too.")
    var file: String

    @Flag(help: "Print what was seen and whether it is as expected, as JSON.")
    var json = false

    @OptionGroup var log: LogOptions

    func run() async throws {
        let plain = try argument.network()
        let network = plain.with(try option.resolve(plain))
        let verdict = LabAssessment(network, LabReports(try await AnalysisRun(files: [file]).finish().snapshot))
        Terminal.print(json ? try ReportJSON.text(verdict, isPretty: true) : verdict.text)
        if !verdict.asExpected { throw ExitCode(ExitStatus.checkFailed) }
    }
}

struct LabUp: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "up", abstract: "Set a network up and leave it there, for lab shell; lab down takes it away.")

    @OptionGroup var argument: LabNameArgument
    @OptionGroup var option: LabVariantOption

    @OptionGroup var log: LogOptions

    func run() async throws {
        let plain = try argument.network()
        let network = plain.with(try option.resolve(plain))
        do {
            _ = try await Self.bringUp(network)
        } catch let error as Sandbox.Unavailable {
            throw CommandFailure(message: error.description)
        } catch let error as LabNetwork.Unmet {
            throw CommandFailure(message: error.description)
        }
        Terminal.print(TerminalText(lines: network.drawing))
        Terminal.print("\n\(network.name) is up. Work in it with: ipt-trace lab shell \(network.name)")
    }

    /// Sets a network up in a sandbox that outlives this process.
    static func bringUp(_ network: LabNetwork) async throws -> Sandbox {
        guard try LabRegistry().sandbox(of: network.name) == nil else {
            throw CommandFailure(
                message: "\(network.name) is up already. Take it down with: ipt-trace lab down \(network.name)")
        }
        let sandbox = try await Sandbox.detached(keeper: [Program.path, "lab", "hold"])
        do {
            // First, so that `lab down` finds it whatever happens to this process.
            try LabRegistry().add(network.name, sandbox)
            try await network.setUp(in: sandbox)
        } catch {
            sandbox.end()
            try? LabRegistry().remove(network.name)
            throw error
        }
        return sandbox
    }
}

struct LabShell: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "shell",
        abstract: "Start a shell inside a network that is up, as its root; or run one command.",
        discussion: """
              ipt-trace lab shell ping
              ipt-trace lab shell ping -- ip netns exec guest ping -c 1 8.8.8.8
            """)

    @OptionGroup var argument: LabNameArgument

    @Argument(parsing: .postTerminator, help: "A command instead of the shell.")
    var command: [String] = []

    func run() async throws {
        let sandbox = try argument.sandbox()
        let shell = ProcessInfo.processInfo.environment["SHELL"] ?? "/bin/sh"
        let directory = (Program.path as NSString).deletingLastPathComponent
        let path = ProcessInfo.processInfo.environment["PATH"] ?? "/usr/bin:/bin"
        unsafe setenv("PATH", "\(directory):\(path):/usr/sbin:/sbin", 1)
        let words = sandbox.entry + (command.isEmpty ? [shell] : command)
        Program.become(words)
        throw CommandFailure(message: "cannot start \(words[0])")
    }
}

struct LabDown: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "down", abstract: "Take a network down, with everything in it.")

    @OptionGroup var argument: LabNameArgument

    @OptionGroup var log: LogOptions

    func run() async throws {
        _ = try argument.sandbox()
        try Self.takeDown(try argument.network().name)
        Terminal.print("\(argument.name) is down")
    }

    /// Ends a network that is up.
    static func takeDown(_ name: String) throws {
        try LabRegistry().sandbox(of: name)?.end()
        try LabRegistry().remove(name)
    }
}

/// The first process of a network that `lab up` made: its life is the network's.
struct LabHold: ParsableCommand {
    static let configuration = CommandConfiguration(commandName: "hold", shouldDisplay: false)

    func run() {
        Terminal.print("ready")
        close(STDOUT_FILENO)
        while true { pause() }
    }
}

/// This program.
enum Program {
    /// As in the changelog: the release, or the next one with `-dev`.
    static let version = "0.2.0-dev"

    /// Its path, whatever it was called by.
    static var path: String {
        (try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe")) ?? CommandLine.arguments[0]
    }

    /// Replaces this program with another, found on the search path; returns only where that fails.
    static func become(_ words: [String]) {
        var pointers: [UnsafeMutablePointer<CChar>?] = unsafe words.map { unsafe strdup($0) }
        unsafe pointers.append(nil)
        DescriptorLimit.restore()
        unsafe execvp(words[0], pointers)
        unsafe pointers.forEach { unsafe free($0) }
    }
}
