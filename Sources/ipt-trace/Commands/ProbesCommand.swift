import Aggregation
import ArgumentParser
import Foundation
import Reports
import Ruleset
import TraceModel

struct ProbesCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "probes",
        abstract: "List the probes: places, counters, and whether they are still in place.",
        discussion: """
            Other programs' LOG and NFLOG rules count as probes too. `lost` means that the journal has a probe that is \
            no longer among the rules; `covered` that rules were put before it; `expired` that its time is over.

              sudo ipt-trace probes
              sudo ipt-trace probes --netns guest --json
            """)

    @OptionGroup var namespaces: NamespaceOption

    @Flag(help: "Print JSON.")
    var json = false

    @OptionGroup var log: LogOptions

    func run() async throws {
        let survey = try await ProbeSurvey()
        let journals = ProbeJournal.readAll()
        var rows: [ProbeRow] = []
        for namespace in try namespaces.resolve() {
            rows += try await survey.rows(of: namespace, journals: journals)
        }
        if json {
            Terminal.print(try ReportJSON.text(ProbeList(probes: rows), isPretty: true))
            return
        }
        if rows.isEmpty {
            Terminal.note("No probes. Put some in with: sudo ipt-trace install-probes")
            return
        }
        let head = ["NAMESPACE", "FAMILY", "TABLE", "CHAIN", "PACKETS", "STATE", "PREFIX"]
        Terminal.print(
            Terminal.table(
                [head] + rows.map { [$0.netns, $0.family, $0.table, $0.chain, String($0.packets), $0.state, $0.prefix] }))
    }
}
