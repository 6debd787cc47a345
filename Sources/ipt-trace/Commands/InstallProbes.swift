import Aggregation
import ArgumentParser
import Foundation
import LinuxSupport
import Reports
import Ruleset
import TraceModel

struct InstallProbes: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "install-probes",
        abstract: "Put a probe at the head of every chain of every table.",
        discussion: """
            A probe is an NFLOG (or LOG) rule: it reports each packet and changes none. Every table is applied as one \
            iptables-restore --noflush transaction; if one fails, all that were applied are taken back. Probes go inert \
            by themselves after --expires, with no process alive. Installing again replaces the earlier probes.

              sudo ipt-trace install-probes
              sudo ipt-trace install-probes --netns host --netns guest --match '-p icmp'
              sudo ipt-trace install-probes --sentinels
              ipt-trace install-probes --dry-run --family ipv4 --table filter
            """)

    @OptionGroup var namespaces: NamespaceOption
    @OptionGroup var filter: ProbeFilterOptions

    @Option(help: "nflog (to a socket; the collector's way) or log (to the kernel log).")
    var target: TargetChoice = .nflog

    @Option(help: "The NFLOG group, 1 to 65535.")
    var group: UInt16 = 5

    @Option(help: ArgumentHelp("When the probes go inert: 90s, 10m, 1h, 2d or never.", valueName: "time"))
    var expires = Lifetime(seconds: 3600)

    @Flag(help: "Print what iptables-restore would read, and change nothing.")
    var dryRun = false

    @Flag(help: "Print the result as JSON.")
    var json = false

    @OptionGroup var log: LogOptions

    func validate() throws {
        guard !json || !dryRun else {
            throw ValidationError("--dry-run prints what iptables-restore would read; leave --json out.")
        }
        guard target == .nflog || !filter.sentinels else {
            throw ValidationError("--sentinels report to an NFLOG group; leave --target log out.")
        }
        guard group > 0 else {
            throw ValidationError("--group 0 is the kernel's own default group; take one from 1 to 65535, such as 5.")
        }
    }

    func run() async throws {
        let options = try filter.probeOptions(target: target.target, group: group, expires: expires.end)
        let installer = try await ProbeInstaller()
        let chosen = try namespaces.resolve()
        if !dryRun { AbandonedSettings.putBack() }
        if dryRun {
            let plan: ProbeInstaller.Plan
            do {
                plan = try await installer.plan(options, in: chosen)
            } catch let error as NamespaceError where error.isPermission {
                plan = installer.planWithoutRules(options, in: chosen)
                Terminal.note(
                    "The rules here cannot be read without root: this is for the built-in chains alone. What user-defined chains and "
                        + "tables of the other backend there are is not known.")
            }
            Self.noteLeftOut(plan)
            for place in plan.places {
                for input in place.inputs {
                    Terminal.print("# namespace \(place.namespace.name), \(input.title)")
                    Terminal.print(TerminalText(lines: input.text))
                }
            }
            return
        }
        let (plan, replaced) = try await Self.interruptibly {
            try await ProbeLock.whileHeld(onWait: Terminal.noteLockIsHeld) {
                let plan = try await installer.plan(options, in: chosen)
                Self.noteLeftOut(plan)
                return (plan, try await installer.install(plan))
            }
        }
        if json {
            return Terminal.print(
                try ReportJSON.text(
                    Installation(
                        run: plan.run, target: target.target.rawValue, group: target == .nflog ? Int(group) : nil,
                        probes: plan.probeCount, replaced: replaced, namespaces: plan.places.map(\.namespace.name),
                        expires: options.expires.map { Timestamp.text($0 * 1_000_000) },
                        leftOut: plan.places.flatMap { place in
                            Set(place.leftOut).sorted { $0.chain < $1.chain }.map {
                                Installation.LeftOut(netns: place.namespace.name, chain: $0.chain, reason: $0.reason)
                            }
                        }), isPretty: true))
        }
        let count = plan.places.count
        var text: TerminalText = "\(plan.probeCount) probes in \(count) namespace\(count == 1 ? "" : "s") (run \(plan.run)"
        switch target {
        case .nflog: text += ", NFLOG group \(group)"
        case .log: text += ", kernel log"
        }
        if let sample = options.sample { text += ", 1 flow in \(sample.oneIn)" }
        if let end = options.expires { text += ", inert from \(ProbeRule.dateText(end)) UTC" }
        text += ")"
        if replaced > 0 { text += "; \(replaced) earlier ones replaced" }
        Terminal.print(text)
        Terminal.note("Next: ipt-trace collect. To take them out: ipt-trace remove-probes --verify")
    }

    /// Says which chains get no probe and why, and which packets the match does not see.
    static func noteLeftOut(_ plan: ProbeInstaller.Plan) {
        if plan.options.dependsOnTranslation {
            Terminal.note(
                "The match is on addresses or ports: where they are translated, a packet may meet it in some chains only.")
        }
        for place in plan.places where !place.leftOut.isEmpty {
            for (reason, chains) in Dictionary(grouping: place.leftOut, by: \.reason).sorted(by: { $0.key < $1.key }) {
                let names = Set(chains.map(\.chain)).sorted().joined(separator: ", ")
                Terminal.note("\(place.namespace.name): no probe in \(names): \(reason)")
            }
        }
    }
}

/// The result of `install-probes`, as `--json` prints it.
private struct Installation: Encodable {
    struct LeftOut: Encodable {
        var netns: String
        /// `table/CHAIN`.
        var chain: String
        var reason: String
    }

    var schema = 1
    var run: String
    var target: String
    var group: Int?
    var probes: Int
    /// Probes of earlier installations that were taken out.
    var replaced: Int
    var namespaces: [String]
    /// When the probes go inert; `nil`: never.
    var expires: String?
    var leftOut: [LeftOut]
}

extension InstallProbes {
    /// Runs `body`; Ctrl-C cancels it, so that it can take back its changes.
    static func interruptibly<Result: Sendable>(_ body: @escaping @Sendable () async throws -> Result) async throws -> Result {
        let stop = StopSignal()
        let work = Task { try await body() }
        let watcher = Task {
            await stop.wait()
            if !Task.isCancelled { work.cancel() }
        }
        defer { watcher.cancel() }
        do {
            return try await work.value
        } catch is CancellationError {
            throw CommandFailure(message: "interrupted: nothing was left installed", code: 130)
        }
    }
}

enum TargetChoice: String, ExpressibleByArgument, CaseIterable {
    case nflog, log

    var target: ProbeRule.Target {
        switch self {
        case .nflog: .nflog
        case .log: .log
        }
    }
}
