import Foundation
import Lab
import LinuxSupport

/// Parts that the benchmarks share.
enum Bench {
    /// Where the build put this program and those beside it.
    static let products = URL(fileURLWithPath: CommandLine.arguments[0]).deletingLastPathComponent().path
    static let program = "\(products)/ipt-trace"

    /// A line at a time, into a pipe too.
    static func show(_ text: String) { FileHandle.standardOutput.write(Data((text + "\n").utf8)) }

    /// Cells in columns: the first to the left, the others to the right.
    static func row(_ cells: [String], _ widths: [Int]) -> String {
        zip(cells, widths).enumerated().map { index, cell in
            let padding = String(repeating: " ", count: max(0, cell.1 - cell.0.count))
            return index == 0 ? cell.0 + padding : padding + cell.0
        }.joined(separator: "  ")
    }

    static func text(_ value: Double, _ digits: Int = 2) -> String { String(format: "%.\(digits)f", value) }

    static func median(_ values: [Double]) -> Double {
        let sorted = values.sorted()
        guard let last = sorted.last else { return 0 }
        return sorted.count % 2 == 1
            ? sorted[sorted.count / 2] : (sorted[sorted.count / 2 - 1] + min(last, sorted[sorted.count / 2])) / 2
    }

    /// The number before `words` in a program's output.
    static func number(before words: String, in text: String) -> Int? {
        guard let end = text.range(of: words)?.lowerBound else { return nil }
        return text[..<end].split(whereSeparator: { !$0.isNumber }).last.flatMap { Int($0) }
    }

    static func number(after words: String, in text: String) -> Double? {
        guard let begin = text.range(of: words)?.upperBound else { return nil }
        return Double(text[begin...].drop { $0 == " " }.prefix { $0.isNumber || $0 == "." })
    }

    static func wait(for words: String, of process: SandboxProcess) async throws {
        for _ in 0..<1500 {
            if process.output.contains(words) { return }
            guard process.isRunning else { break }
            try await Task.sleep(for: .milliseconds(20))
        }
        throw Failure(description: "it did not start: \(process.output)")
    }
}

struct Failure: Error, CustomStringConvertible {
    var description: String
}

/// CPU time and memory that a process has used so far.
struct ProcessUse {
    var user = 0.0
    var system = 0.0
    var peakMiB = 0

    init() {}

    init(of pid: Int32) {
        let ticks = Double(sysconf(Int32(_SC_CLK_TCK)))
        if let text = try? String(contentsOfFile: "/proc/\(pid)/stat", encoding: .utf8), let end = text.lastIndex(of: ")") {
            // Fields 14 and 15, counted from behind the name.
            let fields = text[text.index(after: end)...].split(separator: " ")
            user = (Double(fields[11]) ?? 0) / ticks
            system = (Double(fields[12]) ?? 0) / ticks
        }
        if let text = try? String(contentsOfFile: "/proc/\(pid)/status", encoding: .utf8) {
            peakMiB = Int(Bench.number(after: "VmHWM:", in: text.replacing("\t", with: " ")) ?? 0) / 1024
        }
    }
}

extension Sandbox {
    /// Words, split at blanks, as a command that must succeed.
    @discardableResult
    func sh(_ command: String) async throws -> String {
        try await require(command.split(separator: " ").map(String.init)).standardOutput
    }

    /// Packets counted by our probes' rules, over all namespaces.
    func probePackets() async throws -> UInt64 {
        struct Listed: Decodable {
            struct Probe: Decodable { var packets: UInt64 }
            var probes: [Probe]
        }
        let output = try await require([Bench.program, "probes", "--json"])
        return try JSONDecoder().decode(Listed.self, from: Data(output.standardOutput.utf8)).probes.reduce(0) {
            $0 + $1.packets
        }
    }
}
