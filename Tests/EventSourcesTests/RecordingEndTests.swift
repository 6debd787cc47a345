import Aggregation
import Captures
import EventSources
import Foundation
import Reports
import Testing
import WireFormat

/// A recording as its pcapng blocks.
private struct Blocks {
    var blocks: [[UInt8]]

    init(_ bytes: [UInt8]) {
        blocks = []
        var offset = 0
        while offset + 12 <= bytes.count {
            let length = Int(bytes.octets.native32(offset + 4))
            blocks.append(Array(bytes[offset..<offset + length]))
            offset += length
        }
    }

    private init(blocks: [[UInt8]]) { self.blocks = blocks }

    /// One that was made before recordings said how they end.
    static func recorded() throws -> Blocks { Blocks(try Files.bytes("ping/recording.pcapng")) }

    var bytes: [UInt8] { blocks.flatMap { $0 } }

    static func note(_ note: RecordedNote) -> [UInt8] {
        var writer = CaptureWriter()
        writer.note(note)
        return writer.bytes
    }

    private static func type(_ block: [UInt8]) -> UInt32 { block.octets.native32(0) }

    private static func content(_ block: [UInt8]) -> TraceBlock? {
        guard type(block) == CaptureFormat.traceBlock else { return nil }
        return TraceBlock(block.octets, 8..<block.count - 4)
    }

    private static func isLayout(_ block: [UInt8]) -> Bool { if case .layout = content(block) { true } else { false } }

    static func isPacket(_ block: [UInt8]) -> Bool { type(block) == CaptureFormat.enhancedPacket }

    /// Microseconds since 1970.
    static func time(_ packet: [UInt8]) -> Int64 {
        Int64(packet.octets.native32(12)) << 32 | Int64(packet.octets.native32(16))
    }

    /// With the note that a section's end will be noted.
    var begun: Blocks {
        var copy = self
        copy.blocks.insert(Self.note(.begin(part: 1, time: 0, gap: nil)), at: 2)
        return copy
    }

    func first(_ count: Int) -> Blocks { Blocks(blocks: Array(blocks.prefix(count))) }

    func ended(_ end: RecordingEnd) -> Blocks {
        let time = blocks.last(where: Self.isPacket).map(Self.time) ?? 0
        return Blocks(blocks: blocks + [Self.note(.end(end, time: time, leftOut: 0))])
    }

    /// The part behind `start`, without the events from `end` on, as a file that can be read alone.
    func rest(from start: Int, leftOutFrom end: Int) -> Blocks {
        let missing = blocks[end..<start].filter(Self.isPacket)
        let gap = RecordingGap(since: missing.first.map(Self.time) ?? 0, events: UInt64(missing.count))
        let latest = blocks[..<start].last(where: Self.isPacket).map(Self.time) ?? 0
        let layout = blocks[..<start].last(where: Self.isLayout) ?? []
        let before = blocks[1..<start].filter { block in
            if case .note(.connection) = Self.content(block) { return true }
            return Self.type(block) == CaptureFormat.interfaceDescription
        }
        return Blocks(
            blocks: [blocks[0], layout, Self.note(.begin(part: 2, time: latest, gap: start == end ? nil : gap))] + before
                + blocks[start...])
    }
}

@Suite struct RecordingEndTests {
    private func check(
        _ result: Analysis.Result, gaps: UInt64?, _ comment: String, sourceLocation: SourceLocation = #_sourceLocation
    ) {
        let report = result.snapshot.pathsReport()
        #expect(result.snapshot.completeness.gaps == gaps, "\(comment)", sourceLocation: sourceLocation)
        // Nothing is dropped in this network.
        let dropped = report.paths.filter { $0.outcome == "dropped" }
        #expect(dropped.isEmpty, "\(comment): \(dropped.map(PathSummary.init))", sourceLocation: sourceLocation)
    }

    @Test("a recording that was cut off says so, and calls nothing dropped, wherever it was", arguments: [0, 17])
    func cutOff(bytesMore: Int) throws {
        let recording = try Blocks.recorded().begun
        for count in stride(from: 8, to: recording.blocks.count - 1, by: 11) {
            let bytes = recording.first(count).bytes + recording.blocks[count].prefix(bytesMore)
            try Files.with(bytes) { path in
                let result = try analyze([path])
                check(result, gaps: 1, "cut behind block \(count)")
                #expect(result.problems.messages.contains { $0.contains("has no end") })
                let text = result.snapshot.pathsReport().text()
                #expect(!text.description.contains("nothing lost") && text.description.contains("1 gap in the recording"))
            }
        }
    }

    @Test("a closed recording gives the answer of one without end notes, and no problem")
    func closed() throws {
        let recording = try Blocks.recorded()
        let before = try Files.with(recording.bytes) { try analyze([$0]) }
        let after = try Files.with(recording.begun.ended(.closed).bytes) { try analyze([$0]) }
        #expect(before.problems.count == 0 && before.snapshot.completeness.gaps == nil)
        #expect(after.problems.count == 0 && after.snapshot.completeness.gaps == nil)
        #expect(after.snapshot.pathsReport().summaries == before.snapshot.pathsReport().summaries)
    }

    @Test("around a time for which nothing was recorded nothing is called dropped, in either file and in both")
    func gap() throws {
        let recording = try Blocks.recorded().begun
        for end in stride(from: 20, to: recording.blocks.count - 60, by: 23) {
            for length in [1, 4, 40] {
                let first = recording.first(end).ended(.failed).bytes
                let second = recording.rest(from: end + length, leftOutFrom: end).ended(.closed).bytes
                try Files.with(first) { first in
                    try Files.with(second) { second in
                        let comment = "blocks \(end) to \(end + length) missing"
                        check(try analyze([first]), gaps: 1, comment)
                        check(try analyze([second]), gaps: 1, comment)
                        check(try analyze([first, second]), gaps: 1, comment)
                        check(try analyze([second, first]), gaps: 1, comment)
                    }
                }
            }
        }
    }

    @Test("a recording whose clock was set by decades is read at once, and all packets are in it", .timeLimit(.minutes(1)))
    func clockSet() throws {
        var recording = try Blocks.recorded()
        let before = try Files.with(recording.bytes) { try analyze([$0]) }
        let first = try #require(recording.blocks.firstIndex(where: Blocks.isPacket))
        let time = Blocks.time(recording.blocks[first])
        recording.blocks.insert(Blocks.note(.complete(time)), at: first + 1)
        recording.blocks.insert(Blocks.note(.complete(1)), at: first)
        let after = try Files.with(recording.bytes) { try analyze([$0]) }
        #expect(after.snapshot.completeness.events == before.snapshot.completeness.events)
        #expect(after.snapshot.completeness.journeys == before.snapshot.completeness.journeys)
    }

    @Test("files of one recording without a gap between them give the answer of one file")
    func continued() throws {
        let recording = try Blocks.recorded().begun
        let whole = try Files.with(recording.ended(.closed).bytes) { try analyze([$0]).snapshot.pathsReport().summaries }
        let middle = recording.blocks.count / 2
        let second = recording.rest(from: middle, leftOutFrom: middle)
        try Files.with(recording.first(middle).ended(.continued).bytes) { first in
            try Files.with(second.ended(.closed).bytes) { second in
                let result = try analyze([first, second])
                check(result, gaps: nil, "two files")
                #expect(result.snapshot.pathsReport().summaries == whole && result.problems.count == 0)
            }
        }
    }

    @Test("what continues in another file, or comes from one, is not called dropped where that one is not read")
    func aloneOfSeveral() throws {
        let recording = try Blocks.recorded().begun
        for middle in stride(from: 20, to: recording.blocks.count - 20, by: 7) {
            let second = recording.rest(from: middle, leftOutFrom: middle)
            try Files.with(recording.first(middle).ended(.continued).bytes) {
                check(try analyze([$0]), gaps: nil, "up to block \(middle)")
            }
            try Files.with(second.ended(.closed).bytes) {
                check(try analyze([$0]), gaps: nil, "from block \(middle) on")
            }
        }
    }
}
