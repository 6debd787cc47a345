import Aggregation
import ArgumentParser
import Foundation
import Glibc
import Logging
import Reports
import Synchronization
import TraceModel

/// Whether the output is coloured.
enum ColorChoice: String, ExpressibleByArgument, CaseIterable {
    case auto, always, never
}

struct ColorOption: ParsableArguments {
    @Option(help: "Colour the output: auto (on a terminal, unless NO_COLOR is set or TERM is dumb), always or never.")
    var color: ColorChoice = .auto

    var isOn: Bool {
        switch color {
        case .always: true
        case .never: false
        case .auto:
            isatty(STDOUT_FILENO) != 0 && (ProcessInfo.processInfo.environment["NO_COLOR"] ?? "").isEmpty
                && ProcessInfo.processInfo.environment["TERM"] != "dumb"
        }
    }
}

/// Results go to stdout, everything else to stderr. Both take only text that is escaped.
enum Terminal {
    static func print(_ text: TerminalText) {
        FileHandle.standardOutput.write(Data("\(text)\n".utf8))
    }

    /// Writes a document as it is.
    static func write(_ document: [UInt8]) { FileHandle.standardOutput.write(Data(document)) }

    /// Writes a remark beside the result; nothing with `--quiet`.
    static func note(_ text: TerminalText) {
        if Log.level <= .info { say(text) }
    }

    private static func say(_ text: TerminalText) {
        let isHeld = held.withLock { held in
            if held != nil, (held?.count ?? 0) < 1000 { held?.append(text) }
            return held != nil
        }
        if !isHeld { FileHandle.standardError.write(Data("\(text)\n".utf8)) }
    }

    /// What was said while the screen belongs to another view; `nil` where it does not.
    private static let held = Mutex<[TerminalText]?>(nil)

    /// Keeps what is said until `release`, the first 1,000 lines of it.
    static func hold() { held.withLock { $0 = $0 ?? [] } }

    static func release() {
        let lines = held.withLock { held in
            defer { held = nil }
            return held ?? []
        }
        for line in lines { say(line) }
    }

    /// Says why nothing happens while another process holds `ProbeLock`.
    static let noteLockIsHeld: @Sendable () -> Void = {
        note("waiting: another ipt-trace is putting probes in or taking them out")
    }

    /// Writes a message that may have several lines, as those of other programs do.
    static func say(lines text: String) { say(TerminalText(lines: text, isIndented: true)) }

    static func complain(_ text: TerminalText) { say("ipt-trace: \(text)") }

    static func complain(lines text: String) { say(lines: "ipt-trace: \(text)") }

    /// Shows progress in place of the line before; an empty text clears it.
    static func progress(_ text: TerminalText?) {
        guard Log.level <= .info else { return }
        FileHandle.standardError.write(Data("\r\u{1B}[K\(text?.description ?? "")".utf8))
    }

    /// Columns with their widest entry's width, two blanks apart.
    static func table(_ cells: [[String]]) -> TerminalText {
        let rows = cells.map { $0.map(\.printable) }
        let columns = rows.map(\.count).max() ?? 0
        let widths = (0..<columns).map { column in rows.map { column < $0.count ? $0[column].count : 0 }.max() ?? 0 }
        return rows.map { row in
            var line = ""
            for (column, cell) in row.enumerated() {
                line += cell
                if column + 1 < row.count { line += String(repeating: " ", count: widths[column] - cell.count + 2) }
            }
            return TerminalText(escaping: line)
        }
        .joined(separator: "\n")
    }
}
