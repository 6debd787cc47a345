// Cost of a collector and its probes, against the real kernel and in namespaces of their own. No root needed
// where ordinary users may have namespaces.
//
//   LoadBenchmark load [PACKETS] [--rounds N] [--only TEXT]     receivers in turn: `make bench-load`
//   LoadBenchmark overload [PACKETS]                            collect with a tenth of a core: `make bench-overload`
//   LoadBenchmark probes [PACKETS] [--rounds N]                 what probes cost without a listener: `make bench-probes`
//   LoadBenchmark traces [PACKETS] [--rounds N]                 what rule traces cost untraced traffic: `make bench-traces`
//   LoadBenchmark reasons [PACKETS] [--rounds N]                what asking for drop reasons costs: `make bench-reasons`
//   LoadBenchmark install [NAMESPACES RULES] [--rounds N]       how long installing takes: `make bench-install`
//   LoadBenchmark readers [PACKETS]                             how soon HTTP answers: `make bench-readers`
//   LoadBenchmark record PACKETS FILE                           makes a recording: for `make bench-captures`

import Foundation

struct Arguments {
    var numbers: [Int] = []
    var rounds = 3
    var only: String?

    init(_ words: ArraySlice<String>) {
        var rest = words
        while let word = rest.popFirst() {
            switch word {
            case "--rounds": rounds = rest.popFirst().flatMap { Int($0) }.map { max(1, $0) } ?? rounds
            case "--only": only = rest.popFirst()
            default: if let number = Int(word) { numbers.append(max(1, number)) }
            }
        }
    }
}

let words = CommandLine.arguments.dropFirst()
let arguments = Arguments(words.dropFirst())
do {
    switch words.first ?? "load" {
    case "load":
        let topologies = LoadTopology.allCases.filter { topology in arguments.only.map { topology.rawValue == $0 } ?? true }
        try await LoadBench.run(packets: arguments.numbers.first ?? 300_000, rounds: arguments.rounds, topologies: topologies)
    case "probes":
        try await ProbeCostBench.run(packets: arguments.numbers.first ?? 200_000, rounds: arguments.rounds)
    case "traces":
        try await RuleTraceBench.run(packets: arguments.numbers.first ?? 200_000, rounds: arguments.rounds)
    case "reasons":
        try await DropReasonBench.run(packets: arguments.numbers.first ?? 200_000, rounds: arguments.rounds)
    case "install":
        try await InstallBench.run(
            namespaces: arguments.numbers.first ?? 100, rules: arguments.numbers.dropFirst().first ?? 20_000,
            rounds: arguments.rounds)
    case "overload":
        try await OverloadBench.run(packets: arguments.numbers.first ?? 900_000, share: 0.1)
    case "readers":
        try await ReaderBench.run(packets: arguments.numbers.first ?? 200_000)
    case "record":
        guard let file = words.last, words.count == 3 else { throw Failure(description: "usage: record PACKETS FILE") }
        try await RecordBench.run(packets: arguments.numbers.first ?? 300_000, to: file)
    default:
        throw Failure(
            description: "no such benchmark; there are load, overload, probes, traces, reasons, install, readers and record")
    }
} catch {
    FileHandle.standardError.write(Data("\(error)\n".utf8))
    exit(1)
}
