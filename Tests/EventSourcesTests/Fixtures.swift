import Aggregation
import EventSources
import Foundation
import Reports

/// Files beside the tests, and files made for one test.
enum Files {
    static let fixtures =
        URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent().path + "/Fixtures"

    /// Runs `body` with the path of a file that has `bytes`.
    @discardableResult
    static func with<Result>(_ bytes: [UInt8], _ body: (String) throws -> Result) throws -> Result {
        let path = "\(NSTemporaryDirectory())ipt-trace-test-\(UUID().uuidString)"
        try Data(bytes).write(to: URL(fileURLWithPath: path))
        defer { try? FileManager.default.removeItem(atPath: path) }
        return try body(path)
    }

    @discardableResult
    static func with<Result>(_ text: String, _ body: (String) throws -> Result) throws -> Result {
        try with(Array(text.utf8), body)
    }

    static func bytes(_ fixture: String) throws -> [UInt8] {
        Array(try Data(contentsOf: URL(fileURLWithPath: "\(fixtures)/\(fixture)")))
    }

    static func text(_ fixture: String) throws -> String { String(decoding: try bytes(fixture), as: UTF8.self) }
}

/// Reads files to their ends.
func analyze(
    _ files: [String], rules: [String] = [], links: [String] = [], seed: UInt64? = nil
) throws -> Analysis.Result {
    var options = Analysis.Options(
        files: files, rules: try OfflineRules(arguments: rules), links: try OfflineLinks(arguments: links))
    if let seed { options.seed = seed }
    return try Analysis().run(options)
}

/// What of a path does not depend on when and by whom it was seen.
struct PathSummary: Hashable, CustomStringConvertible {
    var packets: UInt64
    var outcome: String
    var steps: [String]
    var translations: [String]

    init(_ path: PathReport) {
        packets = path.packets
        outcome = path.outcome
        steps = path.steps.map { "\($0.netns) \($0.table)/\($0.chain) \($0.in ?? "-") \($0.out ?? "-")" }
        translations = path.translations.map { "\($0.kind) in \($0.netns) \($0.from) → \($0.to) at \($0.step), \($0.packets)" }
    }

    var description: String {
        "\(packets) \(outcome): \(steps.joined(separator: ", ")); \(translations.joined(separator: ", "))"
    }
}

extension PathsReport {
    var summaries: Set<PathSummary> { Set(paths.map(PathSummary.init)) }
}
