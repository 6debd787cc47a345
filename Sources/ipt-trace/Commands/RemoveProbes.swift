import ArgumentParser
import Foundation
import Namespaces
import Ruleset

struct RemoveProbes: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "remove-probes",
        abstract: "Takes out our probes and nothing else.",
        discussion: """
            With --verify it exits with 2 unless the rules are as they were before the probes came, counters aside, and \
            prints each line that differs.

              sudo ipt-trace remove-probes --verify
            """)

    @OptionGroup var namespaces: NamespaceOption

    @Flag(help: "Prove that the rules are as before: exit 2 and show the difference if not.")
    var verify = false

    func run() async throws {
        let journals = ProbeJournal.readAll()
        var chosen = try namespaces.resolve()
        if namespaces.selectors == ["all"] {
            // A namespace that was given as a path may have no name and no process.
            let paths = Set(journals.flatMap(\.places).map(\.name).filter { $0.contains("/") })
            for path in paths.sorted() {
                let more = (try? NamespaceDirectory.resolve([.path(path)])) ?? []
                chosen += more.filter { one in !chosen.contains { $0.inode == one.inode } }
            }
        }
        let reports = try await ProbeRemover().remove(from: chosen)
        let removed = reports.reduce(0) { $0 + $1.removed }
        let places = reports.filter { $0.removed > 0 }.count
        Terminal.print("\(removed) probes removed from \(places) namespace\(places == 1 ? "" : "s")")
        for report in reports where !report.emptyTables.isEmpty {
            Terminal.note(
                "\(report.namespace): iptables-legacy keeps these tables, empty, until the next boot: "
                    + report.emptyTables.joined(separator: ", "))
        }
        guard verify else { return }
        let damage = reports.flatMap(\.damage)
        let drift = reports.flatMap(\.drift)
        for line in damage + drift { Terminal.print(line) }
        if !damage.isEmpty {
            throw CommandFailure(
                message: "the rules changed beside the probes while they were taken out", code: ExitStatus.checkFailed)
        }
        if !drift.isEmpty {
            throw CommandFailure(
                message: "the rules differ from before the probes came (+ now, - before). The removal itself changed "
                    + "nothing but the probes, so somebody else changed them meanwhile.", code: ExitStatus.checkFailed)
        }
        guard !journals.isEmpty else {
            Terminal.print(
                "nothing to compare with: no installation is on record. The removal itself changed nothing but probes.")
            return
        }
        Terminal.print(
            "verified: the rules of \(reports.count) namespace\(reports.count == 1 ? "" : "s") are as before, counters aside")
    }
}
