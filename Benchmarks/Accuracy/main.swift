// How often journeys are right: sends packets with serial numbers that the correlation cannot see through two routers, one of
// which translates, records the probes' reports, replays the recording as `analyze` does, and compares. `make accuracy`
// runs it; docs/accuracy.md says more.
//
//   AccuracyBenchmark [PACKETS] [--only TEXT] [--keep FOLDER] [--again]
//
// --again replays an earlier run's recordings and sends nothing.

import Captures
import Foundation
import Judge
import Lab
import LinuxSupport

struct Arguments {
    var packets = 40_000
    var only: String?
    var folder: String
    var keeps = false
    var isAgain = false

    init(_ words: [String]) {
        // In memory, where there is such a place: a disk may not keep up, and journeys that are not recorded cannot be judged.
        let memory = "/dev/shm"
        let parent = FileManager.default.isWritableFile(atPath: memory) ? memory : NSTemporaryDirectory()
        folder = "\(parent)/ipt-trace-accuracy-\(getpid())"
        var rest = words[...]
        while let word = rest.popFirst() {
            switch word {
            case "--only": only = rest.popFirst()
            case "--keep":
                folder = rest.popFirst() ?? folder
                keeps = true
            case "--again": isAgain = true
            default: packets = Int(word) ?? packets
            }
        }
    }
}

let arguments = Arguments(Array(CommandLine.arguments.dropFirst()))
let kinds = Kind.all(packets: arguments.packets).filter { kind in arguments.only.map(kind.name.contains) ?? true }
var table = ResultTable()
do {
    try FileManager.default.createDirectory(atPath: arguments.folder, withIntermediateDirectories: true)
    defer { if !arguments.keeps { try? FileManager.default.removeItem(atPath: arguments.folder) } }
    ResultTable.show(ResultTable.heading)
    for kind in kinds {
        let file = "\(arguments.folder)/\(kind.file).pcapng"
        let trial = Trial(kind, file: file)
        let reception = arguments.isAgain ? Reception(lost: 0, leftOut: 0, seconds: 1) : try await trial.run()
        for removal in [Judge.Removal.none, Judge.Removal(parts: 10_000)] {
            table.add(kind, reception, removal, try Judge.judge(file, without: removal))
        }
        if !arguments.keeps { try? FileManager.default.removeItem(atPath: file) }
    }
} catch {
    FileHandle.standardError.write(Data("\(error)\n".utf8))
    exit(1)
}
ResultTable.show(table.summary)
exit(table.isReached ? 0 : 2)
