import Analysis
import Captures
import Foundation
import Reports
import Testing

@Suite struct CaptureAnalysisTests {
    static let guest = "\(Files.fixtures)/ping/guest.pcap"

    private func run(_ tool: String, _ arguments: [String]) throws -> [UInt8] {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
        process.arguments = [tool] + arguments
        let output = Pipe()
        process.standardOutput = output
        try process.run()
        let data = output.fileHandleForReading.readDataToEndOfFile()
        process.waitUntilExit()
        try #require(process.terminationStatus == 0)
        return Array(data)
    }

    @Test("what gzip and zstd packed", arguments: [["gzip", "-c"], ["gzip", "-1c"], ["zstd", "-qc"], ["zstd", "-q19c"]])
    func compressed(_ command: [String]) throws {
        let plain = try analyze([Self.guest]).snapshot.pathsReport().summaries
        let packed = try run(command[0], Array(command.dropFirst()) + [Self.guest])
        try Files.with(packed) { try #expect(analyze([$0]).snapshot.pathsReport().summaries == plain) }
        // Cut short, what was unpacked until then is read.
        try Files.with(Array(packed.dropLast(packed.count / 3))) {
            let result = try analyze([$0])
            #expect(result.problems.messages.contains { $0.contains("cut short") })
        }
        var damaged = packed
        damaged[packed.count / 2] ^= 0x55
        try Files.with(damaged) { _ = try analyze([$0]) }
        // Two packed files behind one another are one.
        let log = try run(command[0], Array(command.dropFirst()) + ["\(Files.fixtures)/classic-ping.log"])
        try Files.with(log + log) { try #expect(analyze([$0]).snapshot.completeness.events == 36) }
    }

    @Test func cutAtAnyByteTheJourneysBeforeTheCutAreThere() throws {
        let bytes = try Files.bytes("ping/guest.pcap")
        let all = try analyze([Self.guest]).snapshot.completeness.events
        var last: UInt64 = 0
        for end in stride(from: 24, to: bytes.count, by: 37) {
            try Files.with(Array(bytes[..<end])) {
                let result = try analyze([$0])
                let events = result.snapshot.completeness.events
                #expect(events >= last && events <= all)
                // What is no whole record is named.
                #expect(result.problems.count <= 1)
                last = events
            }
        }
        #expect(last >= all - 1)
    }

    @Test func aBitFlippedAnywhereCostsAtMostTwoEvents() throws {
        let bytes = try Files.bytes("ping/guest.pcap")
        let all = try analyze([Self.guest]).snapshot.completeness.events
        for position in stride(from: 24, to: bytes.count, by: 61) {
            var damaged = bytes
            damaged[position] ^= UInt8(1 << (position % 8))
            try Files.with(damaged) {
                let found = try analyze([$0]).snapshot.completeness
                #expect(found.events + 2 >= all, "byte \(position)")
            }
        }
    }

    @Test func aRecordingCutOrDamagedAnywhereIsStillRead() throws {
        let bytes = try Files.bytes("ping/recording.pcapng")
        for position in stride(from: 28, to: bytes.count, by: 4999) {
            var damaged = bytes
            damaged[position] ^= 0x10
            try Files.with(damaged) { try #expect(analyze([$0]).snapshot.completeness.events >= 368) }
            try Files.with(Array(bytes[..<position])) { _ = try analyze([$0]) }
        }
    }

    @Test func damageIsNamedByItsPlace() throws {
        var bytes = try Files.bytes("ping/guest.pcap")
        // The first record's length, at 24 + 8.
        bytes[34] = 0xFF
        try Files.with(bytes) {
            let result = try analyze([$0])
            #expect(result.problems.messages.first?.contains("from byte 24 on") == true)
        }
    }

    @Test func framesOfEthernetSayNothingOfChainsAndThatIsSaid() throws {
        var bytes = try Files.bytes("ping/guest.pcap")
        bytes[20] = 1
        try Files.with(bytes) {
            let result = try analyze([$0])
            #expect(result.snapshot.completeness.events == 0)
            #expect(result.problems.messages.first?.contains("link type 1") == true)
        }
    }

    @Test func whatIsNeitherIsRefused() throws {
        try Files.with([UInt8](repeating: 0, count: 100)) { path in
            #expect(throws: CaptureError.unknownFormat(file: path)) { try analyze([path]) }
        }
        #expect(throws: CaptureError.self) { try analyze(["/nonexistent"]) }
        #expect(throws: CaptureError.self) { try analyze(["/tmp"]) }
        try Files.with("") { try #expect(analyze([$0]).snapshot.completeness.events == 0) }
        try Files.with("*filter\nnonsense\n") { path in
            #expect(throws: CaptureError.self) { try analyze([Self.guest], rules: [path]) }
            #expect(throws: CaptureError.self) { try analyze([Self.guest], links: [path]) }
        }
    }

    @Test func aFileThatGrowsIsFollowedAndOneThatIsRotatedToo() async throws {
        let path = "\(NSTemporaryDirectory())ipt-trace-test-\(UUID().uuidString)"
        let lines = try Files.text("classic-ping.log").split(separator: "\n").map { $0 + "\n" }
        try lines[..<5].joined().write(toFile: path, atomically: false, encoding: .utf8)
        defer {
            try? FileManager.default.removeItem(atPath: path)
            try? FileManager.default.removeItem(atPath: path + ".1")
        }
        let analysis = Analysis()
        let run = FollowedRun(analysis, path)
        func wait(for events: UInt64) async throws {
            for _ in 0..<500 where (analysis.progress.events) < events { try await Task.sleep(for: .milliseconds(20)) }
            #expect(analysis.progress.events == events)
        }
        try await wait(for: 5)
        let file = try FileHandle(forWritingTo: URL(fileURLWithPath: path))
        try file.seekToEnd()
        // Half a line is none.
        try file.write(contentsOf: Data(lines[5].utf8.prefix(40)))
        try await Task.sleep(for: .milliseconds(300))
        #expect(analysis.progress.events == 5)
        try file.write(contentsOf: Data(Array(lines[5].utf8.dropFirst(40)) + Array(lines[6...8].joined().utf8)))
        try file.close()
        try await wait(for: 9)
        try FileManager.default.moveItem(atPath: path, toPath: path + ".1")
        try lines[9...].joined().write(toFile: path, atomically: false, encoding: .utf8)
        try await wait(for: 18)
        let snapshot = try #require(analysis.snapshot())
        #expect(snapshot.completeness.events == 18)
        analysis.stop()
        let result = try #require(await run.result())
        #expect(result.snapshot.pathsReport().paths.map(\.steps.count) == [9, 9])
    }
}

/// An analysis on a thread of its own: it blocks, which threads of Swift's pool must not.
private final class FollowedRun: Sendable {
    private let results: AsyncStream<Analysis.Result?>

    init(_ analysis: Analysis, _ path: String) {
        let (stream, continuation) = AsyncStream.makeStream(of: Analysis.Result?.self)
        results = stream
        let thread = Thread {
            continuation.yield(try? analysis.run(Analysis.Options(files: [path], follows: true)))
            continuation.finish()
        }
        thread.start()
    }

    func result() async -> Analysis.Result? {
        for await result in results { return result }
        return nil
    }
}
