import ArgumentParser
import Captures
import EventSources
import Foundation
import Glibc
import Lab
import LinuxSupport
import Reports
import Ruleset

@main
struct IptTrace: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "ipt-trace",
        abstract: "Show the paths of packets through iptables, from the kernel's own reports.",
        discussion: """
            A packet goes astray and you want to know where: put probes in, collect, look.

              sudo ipt-trace install-probes
              sudo ipt-trace collect
              curl localhost:9100/paths
              ipt-trace report precedence
              sudo ipt-trace remove-probes --verify

            In a hurry: sudo ipt-trace why 8.8.8.8:443/tcp

            To see it at work on a network of its own, without touching this machine's rules: ipt-trace lab run ping
            """,
        version: Program.version,
        subcommands: [
            InstallProbes.self, RemoveProbes.self, ProbesCommand.self, Collect.self, TraceCommand.self, WhyCommand.self,
            ReportCommand.self,
            Analyze.self, Export.self, LabCommand.self, GuardCommand.self,
        ])

    static func main() async {
        // A script's shell starts what runs in the background with SIGINT ignored; whoever sends it means it.
        for number in [SIGINT, SIGTERM] { signal(number, SIG_DFL) }
        Log.begin()
        do {
            // One for each namespace and several for its sockets are more than the 1,024 that a login mostly allows.
            DescriptorLimit.raise()
            try DescriptorLimit.require(DescriptorLimit.minimum, to: "start")
            if CommandLine.arguments.dropFirst() == ["-V"] { return Terminal.print("\(Program.version)") }
            try checkCommand()
            var command = try parseAsRoot()
            if var command = command as? any AsyncParsableCommand {
                try await command.run()
            } else {
                try command.run()
            }
        } catch let error as CommandFailure {
            Terminal.complain(lines: error.message)
            Foundation.exit(error.code)
        } catch  where isOurs(error) {
            Terminal.complain(lines: "\(error)")
            Foundation.exit(exitCode(of: error))
        } catch {
            let code = exitCode(for: error)
            // Help and the like are text of our own; a complaint may quote the user's words.
            if code.isSuccess { exit(withError: error) }
            let message = fullMessage(for: error)
            if !message.isEmpty { Terminal.say(lines: message) }
            Foundation.exit(code.rawValue)
        }
    }

    /// - Throws: `CommandFailure` where the first word is no command; it names the nearest one.
    private static func checkCommand() throws {
        guard let word = CommandLine.arguments.dropFirst().first, !word.hasPrefix("-") else { return }
        let names = configuration.subcommands.map { $0._commandName }
        guard !names.contains(word), word != "help" else { return }
        let shown = names.filter { $0 != GuardCommand._commandName }
        let guess = CommandSuggestion.nearest(to: word, among: shown).map { " Did you mean \($0)?" } ?? ""
        throw CommandFailure(
            message: "there is no command \(word).\(guess) The commands are \(shown.joined(separator: ", ")).",
            code: ExitStatus.usage)
    }

    /// Errors of our own modules, which say all in their description; the others are the argument parser's.
    private static func isOurs(_ error: any Error) -> Bool {
        error is RulesetError || error is NamespaceError || error is NetlinkError || error is CollectorFailure
            || error is CaptureError || error is LabRegistryError
    }

    private static func exitCode(of error: any Error) -> Int32 {
        switch error {
        case RulesetError.permission, CollectorFailure.permission: ExitStatus.noPermission
        case CollectorFailure.cannotReadKernelLog(_, let code) where code == EPERM || code == EACCES: ExitStatus.noPermission
        case CaptureError.invalidArgument: ExitStatus.usage
        case RulesetError.unknownTable, RulesetError.unknownChain, RulesetError.invalidMatch, RulesetError.unbalancedQuotes,
            NamespaceError.invalidSelector:
            ExitStatus.usage
        case let error as NamespaceError where error.isPermission: ExitStatus.noPermission
        case let error as NetlinkError where error.isPermission: ExitStatus.noPermission
        default: ExitStatus.failed
        }
    }
}

/// The exit codes that scripts may rely on.
enum ExitStatus {
    static let failed: Int32 = 1
    static let checkFailed: Int32 = 2
    static let nothingSeen: Int32 = 3
    static let usage: Int32 = 64
    static let noPermission: Int32 = 77
}

/// An end with a message and an exit code of its own.
struct CommandFailure: Error, CustomStringConvertible {
    var message: String
    var code: Int32 = ExitStatus.failed
    var description: String { message }
}
