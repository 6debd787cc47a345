import Aggregation
import Captures
import EventSources
import Foundation
import Reports
import Testing
import TraceModel
import WireFormat

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
        // Cut short, the part unpacked until then is read.
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
                // An incomplete record is named.
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

    /// Records of one batch are written over those of the one before, so that many are needed.
    @Test func framesOfEthernetAmongMessagesChangeNothingOfThem() throws {
        func little(_ value: Int, _ count: Int) -> [UInt8] { (0..<count).map { UInt8(truncatingIfNeeded: value >> (8 * $0)) } }
        func block(_ type: Int, _ body: [UInt8]) -> [UInt8] {
            let length = little(12 + body.count, 4)
            return little(type, 4) + length + body + length
        }
        func packet(_ interface: Int, _ time: Int, _ data: [UInt8]) -> [UInt8] {
            let padding = [UInt8](repeating: 0, count: (4 - data.count % 4) % 4)
            return block(
                6,
                little(interface, 4) + little(0, 4) + little(time, 4) + little(data.count, 4) + little(data.count, 4) + data
                    + padding)
        }
        func attribute(_ type: Int, _ value: [UInt8]) -> [UInt8] {
            little(4 + value.count, 2) + little(type, 2) + value + [UInt8](repeating: 0, count: (4 - value.count % 4) % 4)
        }
        func message(_ number: Int) -> [UInt8] {
            let header: [UInt8] = [0x45, 0, 0, 28, UInt8(number >> 8 & 255), UInt8(number & 255), 0, 0, 64, 17, 0, 0]
            let datagram = header + [10, 0, 0, 1, 10, 0, 0, 2, 3, 232, 0, 53, 0, 8, 0, 0]
            return [2, 0, 0, 5] + attribute(1, [8, 0, 0, 0])
                + attribute(10, Array("ipt-trace:a1b2c3:raw:PREROUTING".utf8) + [0]) + attribute(9, datagram)
        }
        let section = block(0x0A0D_0D0A, little(0x1A2B_3C4D, 4) + little(1, 2) + little(0, 2) + little(-1, 8))
        let head = section + block(1, little(239, 2) + little(0, 6)) + block(1, little(1, 2) + little(0, 6))
        let frame = [UInt8](repeating: 0xEE, count: 60)
        let messages = (0..<5000).flatMap { packet(0, $0, message($0)) }
        let frames = (0..<5000).flatMap { packet(1, 5000 + $0, frame) }
        let last = (5000..<5003).flatMap { packet(0, 5000 + $0, message($0)) }
        try Files.with(head + messages + frames + last) { file in
            let result = try analyze([file])
            #expect(result.snapshot.completeness.events == 5003)
            #expect(result.snapshot.completeness.journeys == 5003)
            #expect(result.snapshot.completeness.malformed == 0)
        }
    }

    /// A recording of another machine, or of later, whose namespaces have the same names and no probes.
    private func laterRecording(_ machine: MachineIdentity, run: UInt64, seconds: Int64) throws -> [UInt8] {
        var writer = CaptureWriter()
        writer.section(application: "test")
        let layout = Layout(namespaces: ["host", "guest", "inet"].map { NamespaceLayout(name: $0, inode: 1) })
        writer.layout(json: try RecordedLayout(layout, run: run, machine: machine, ownPort: nil).json())
        writer.interface(name: "host", description: "")
        let bytes: [UInt8] = [2, 0, 0, 5]
        writer.packet(
            interface: 0, time: (1_795_262_400 + seconds) * 1_000_000, bytes.octets, 0..<4, comment: nil)
        return writer.bytes
    }

    @Test func aLayoutHoldsFromItsOwnPacketsOn() throws {
        let first = "\(Files.fixtures)/ping/recording.pcapng"
        let alone = try analyze([first]).snapshot.pathsReport().summaries
        let machine = MachineIdentity(
            host: "00000000000000000000000000000001", boot: "00000000-0000-4000-8000-000000000001")
        try Files.with(try laterRecording(machine, run: 2, seconds: 86_400)) { later in
            try #expect(analyze([first, later]).snapshot.pathsReport().summaries == alone)
            try #expect(analyze([later, first]).snapshot.pathsReport().summaries == alone)
        }
        // Another machine's host is another host, whenever its recording was made.
        try Files.with(try laterRecording(MachineIdentity(host: "b"), run: 3, seconds: -86_400)) { other in
            let result = try analyze([first, other])
            #expect(result.snapshot.pathsReport().summaries.map(\.outcome) == alone.map(\.outcome))
            #expect(result.snapshot.layout.namespaces.contains { $0.name.hasSuffix("@2") })
        }
    }

    /// Made for one seed: the second packet is looked for among hashes up to the greatest.
    @Test("a packet whose hashes end at the greatest one is read with the seed that it was made for, and with any other")
    func greatestHash() throws {
        for seed in [0x6970_745F_7472_6163, nil] as [UInt64?] {
            let result = try analyze(["\(Files.fixtures)/hash-range-end.pcapng"], seed: seed)
            #expect(result.snapshot.completeness.events == 3 && result.snapshot.completeness.journeys == 2)
            #expect(result.problems.messages == [])
        }
    }

    @Test(
        "what comes of a file does not depend on the seed of its fingerprints",
        arguments: [
            "ping/recording.pcapng", "ping/guest.pcap", "ping/kernel.log", "accuracy/copies.pcapng.zst",
            "gallery/balance.pcapng.zst",
        ])
    func anySeed(_ file: String) throws {
        func report(_ seed: UInt64) throws -> String {
            let snapshot = try analyze(["\(Files.fixtures)/\(file)"], seed: seed).snapshot
            return String(
                decoding: try ReportJSON.encode(snapshot.pathsReport()) + ReportJSON.encode(snapshot.journeysReport()),
                as: UTF8.self)
        }
        let first = try report(0)
        for seed in [1, 0x6970_745F_7472_6163, .max, .random(in: 0...(.max))] as [UInt64] {
            #expect(try report(seed) == first, "seed \(seed)")
        }
    }

    @Test func timesAtTheEndsOfTheirRangeDoNotOverflow() throws {
        let bytes = try Files.bytes("ping/guest.pcap")
        for seconds in [[0, 0, 0, 0], [0xFF, 0xFF, 0xFF, 0xFF]] as [[UInt8]] {
            var damaged = bytes
            damaged.replaceSubrange(24..<28, with: seconds)
            try Files.with(damaged) { _ = try analyze([$0]) }
        }
        var writer = CaptureWriter()
        writer.section(application: "test")
        writer.interface(name: "host", description: "")
        for time in [Int64.min, -1, 0, Int64.max] {
            writer.packet(
                interface: 0, time: time, bytes.octets, 40..<(40 + Int(bytes[32])), comment: nil)
        }
        try Files.with(writer.bytes) { try #expect(analyze([$0]).snapshot.completeness.events == 4) }
        let log =
            "{\"__REALTIME_TIMESTAMP\":\"-9223372036854775808\",\"_SOURCE_MONOTONIC_TIMESTAMP\":\"9223372036854775807\",\"MESSAGE\":\"x\"}\n"
        try Files.with(log + log.replacing("-92", with: "92")) { try #expect(analyze([$0]).otherLines == 2) }
    }

    @Test func aRecordingOfALaterVersionIsNotMisread() throws {
        let json = try RecordedLayout(Layout(), run: 1, machine: MachineIdentity(), ownPort: nil).json()
        let later = String(decoding: json, as: UTF8.self).replacing("\"schema\":1", with: "\"schema\":9")
        var writer = CaptureWriter()
        writer.section(application: "test")
        writer.layout(json: Array(later.utf8))
        let bytes = writer.bytes
        try Files.with(bytes) {
            try #expect(analyze([$0]).problems.messages.first?.contains("later version") == true)
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
        let snapshot = try #require(await analysis.snapshot())
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
            continuation.yield(try? analysis.run(Analysis.Options(files: [path], follows: true, linger: 60_000_000)))
            continuation.finish()
        }
        thread.start()
    }

    func result() async -> Analysis.Result? {
        for await result in results { return result }
        return nil
    }
}
