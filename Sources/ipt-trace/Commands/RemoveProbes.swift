import Aggregation
import ArgumentParser
import Foundation
import LinuxSupport
import Reports
import Ruleset

struct RemoveProbes: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "remove-probes",
        abstract: "Remove the probes and nothing else.",
        discussion: """
            With --verify it exits with 2 unless the rules are as they were before the probes came, counters aside, and \
            prints each line that differs.

              sudo ipt-trace remove-probes --verify
            """)

    @OptionGroup var namespaces: NamespaceOption

    @Flag(help: "Prove that the rules are as before: exit 2 and show the difference if not.")
    var verify = false

    @Flag(help: "Print the result as JSON.")
    var json = false

    @OptionGroup var log: LogOptions

    func run() async throws {
        AbandonedSettings.putBack()
        let (reports, reading) = try await ProbeLock.whileHeld(onWait: Terminal.noteLockIsHeld) {
            let reading = ProbeJournal.read()
            for damaged in reading.damaged { Terminal.complain("journal \(damaged.path) cannot be used: \(damaged.reason)") }
            let reports = try await ProbeRemover().remove(from: try chosen(reading.journals))
            // All that a damaged file could have told of has been taken out by now.
            if namespaces.selectors == ["all"] {
                for file in ProbeJournal.erase(reading.damaged) { Terminal.complain("cannot remove \(file.path)") }
            }
            return (reports, reading)
        }
        let removed = reports.reduce(0) { $0 + $1.removed }
        let places = reports.filter { $0.removed > 0 }.count
        if json {
            let rows = reports.map { Removal.Place(netns: "\($0.namespace)", removed: $0.removed) }
            let verdict = verify ? Result { try prove(reports, reading, says: false) } : nil
            let isVerified = verdict.flatMap { verdict -> Bool? in
                guard case .success = verdict else { return false }
                // Without an installation on record there is nothing to compare with.
                return reports.contains(where: \.isRecorded) ? true : nil
            }
            Terminal.print(
                try ReportJSON.text(Removal(removed: removed, namespaces: rows, verified: isVerified), isPretty: true))
            try verdict?.get()
            return
        }
        Terminal.print("\(removed) probes removed from \(places) namespace\(places == 1 ? "" : "s")")
        for report in reports where !report.emptyTables.isEmpty {
            let tables = report.emptyTables.joined(separator: ", ")
            Terminal.note("\(report.namespace): iptables-legacy keeps these tables, empty, until the next boot: \(tables)")
        }
        for line in reports.flatMap(\.unprinted) {
            Terminal.note("\(line). Compared by nf_tables' own listing instead.")
        }
        for report in reports where !report.unrecorded.isEmpty {
            Terminal.note(
                "\(report.namespace): no usable journal for run \(report.unrecorded.sorted().joined(separator: ", ")). Its probes "
                    + "were known by their prefixes; chains and tables that held nothing else were dropped with them.")
        }
        if verify { try prove(reports, reading) }
    }

    private func chosen(_ journals: [ProbeJournal]) throws -> [NetworkNamespace] {
        var chosen = try namespaces.resolve()
        guard namespaces.selectors == ["all"] else { return chosen }
        // A namespace that was given as a path may have no name and no process.
        let paths = Set(journals.flatMap(\.places).map(\.name).filter { $0.contains("/") })
        for path in paths.sorted() {
            do {
                let more = try NamespaceDirectory.resolve([.path(path)])
                chosen += more.filter { one in !chosen.contains { $0.inode == one.inode } }
            } catch let error as NamespaceError where error.isAbsence {
                // Where the path is gone, so is the namespace.
                continue
            }
        }
        return chosen
    }

    /// Says whether the rules are as before; throws with exit code 2 where they are not, or where it cannot be known.
    ///
    /// - Parameter says: whether the result goes to stdout; differences and failures are told in any case.
    private func prove(_ reports: [ProbeRemover.Report], _ reading: ProbeJournal.Reading, says: Bool = true) throws {
        let damage = reports.flatMap(\.damage)
        let drift = reports.flatMap(\.drift)
        for line in damage + drift { if says { Terminal.print("\(line)") } else { Terminal.note("\(line)") } }
        if !damage.isEmpty {
            throw CommandFailure(
                message: "the rules changed beside the probes while they were taken out", code: ExitStatus.checkFailed)
        }
        if !drift.isEmpty {
            throw CommandFailure(
                message: "the rules differ from before the probes came (+ now, - before). The removal itself changed "
                    + "nothing but the probes, so somebody else changed them meanwhile.", code: ExitStatus.checkFailed)
        }
        // A file of another boot tells of rules that are gone, unless probes of its run were found.
        let unusable = reading.damaged.filter { !$0.isOfAnotherBoot }
        if !unusable.isEmpty || reports.contains(where: { !$0.unrecorded.isEmpty }) {
            throw CommandFailure(
                message: "not verified: the journal that has the rules from before the probes is "
                    + (unusable.isEmpty ? "missing" : "damaged (\(unusable.map(\.path).joined(separator: ", ")))")
                    + ". The removal itself changed nothing but the probes.", code: ExitStatus.checkFailed)
        }
        guard reports.contains(where: \.isRecorded) else {
            if says { Terminal.print("nothing to compare with: there were no probes, and no installation is on record") }
            return
        }
        guard says else { return }
        Terminal.print(
            "verified: the rules of \(reports.count) namespace\(reports.count == 1 ? "" : "s") are as before, counters aside")
    }
}

/// The result of `remove-probes`, as `--json` prints it.
private struct Removal: Encodable {
    struct Place: Encodable {
        var netns: String
        var removed: Int
    }

    var schema = 1
    var removed: Int
    var namespaces: [Place]
    /// Whether the rules are as before; absent without `--verify`.
    var verified: Bool?
}
