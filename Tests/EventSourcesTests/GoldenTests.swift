import Aggregation
import EventSources
import Foundation
import Reports
import Testing

/// What people read, word by word: every report of some recordings in every form but JSON, whose fields other tests compare. Where a change is
/// meant, `make golden` writes them anew; the difference shows what it does to the answers.
@Suite struct GoldenTests {
    private static let directory = "\(Files.fixtures)/golden"
    private static let recordings = [
        "ping.forward-drop", "docker", "hairpin.no-masquerade", "reject6", "tunnel", "forwarding.reverse-path", "zones",
    ]

    private static var isWriting: Bool { ProcessInfo.processInfo.environment["GOLDEN"] == "write" }

    /// JSON is long, and the page is a program with JSON inside: other tests look at both.
    private static func isKept(_ format: ReportFormat) -> Bool { format.name != "json" && !format.holdsAllReports }

    /// Without what differs from run to run: journeys are named by a random number.
    private static func text(_ report: any Report, _ format: ReportFormat) throws -> String {
        func print(_ report: some Report) throws -> String { try "\(format.text(of: report, .plain))" }
        return try print(report).replacing(/[0-9a-f]{32}/, with: "JOURNEY")
    }

    @Test("the reports of a recording read as they did", arguments: recordings)
    func reports(_ recording: String) throws {
        let snapshot = try analyze(["\(Files.fixtures)/gallery/\(recording).pcapng.zst"], seed: 1).snapshot
        for report in ReportTable.all {
            let made = report.init(snapshot, TraceFilter())
            for format in ReportFormat.all where Self.isKept(format) && format.isOffered(by: report) {
                let name = "\(recording).\(report.name).\(format.name == "text" ? "txt" : format.name)"
                let text = try Self.text(made, format) + "\n"
                let path = "\(Self.directory)/\(name)"
                if Self.isWriting {
                    try FileManager.default.createDirectory(atPath: Self.directory, withIntermediateDirectories: true)
                    try Data(text.utf8).write(to: URL(fileURLWithPath: path))
                } else {
                    let expected = try Files.text("golden/\(name)")
                    #expect(text == expected, "\(name) reads otherwise; where that is meant: make golden")
                }
            }
        }
    }

    @Test("every golden file is of a report that there is")
    func complete() throws {
        let forms = ReportTable.all.flatMap { report in
            ReportFormat.all.filter { Self.isKept($0) && $0.isOffered(by: report) }.map {
                "\(report.name).\($0.name == "text" ? "txt" : $0.name)"
            }
        }
        let wanted = Set(Self.recordings.flatMap { recording in forms.map { "\(recording).\($0)" } })
        #expect(Set(try FileManager.default.contentsOfDirectory(atPath: Self.directory)) == wanted)
    }
}
