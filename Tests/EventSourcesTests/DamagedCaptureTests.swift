import Aggregation
import EventSources
import Foundation
import Reports
import TestSupport
import Testing
import TraceModel

/// Damaged captures: the sound part is read, and the missing part makes doubt.
@Suite struct DamagedCaptureTests {
    /// What happens to a file, at a place that the numbers choose.
    struct Damage: CustomTestStringConvertible, Sendable {
        var name: String
        /// Bytes that are hit, at most.
        var reach: Int
        /// Whether the file's form always shows it.
        var isNamed: Bool
        var apply: @Sendable (inout [UInt8], inout SplitMix) -> Void
        var testDescription: String { name }
    }

    private static let single = [
        Damage(name: "one byte cut out", reach: 1, isNamed: true) { bytes, numbers in
            bytes.remove(at: numbers.below(bytes.count))
        },
        Damage(name: "up to 100 bytes cut out", reach: 100, isNamed: false) { bytes, numbers in
            let start = numbers.below(bytes.count)
            bytes.removeSubrange(start..<min(bytes.count, start + 1 + numbers.below(100)))
        },
        Damage(name: "up to 5000 bytes cut out", reach: 5000, isNamed: false) { bytes, numbers in
            let start = numbers.below(bytes.count)
            bytes.removeSubrange(start..<min(bytes.count, start + 1 + numbers.below(5000)))
        },
        Damage(name: "one byte put in", reach: 1, isNamed: true) { bytes, numbers in
            bytes.insert(UInt8(truncatingIfNeeded: numbers.next()), at: numbers.below(bytes.count))
        },
        Damage(name: "up to 300 bytes put in", reach: 300, isNamed: true) { bytes, numbers in
            let place = numbers.below(bytes.count)
            let new = (0...numbers.below(300)).map { _ in UInt8(truncatingIfNeeded: numbers.next()) }
            bytes.insert(contentsOf: new, at: place)
        },
        Damage(name: "one bit turned", reach: 1, isNamed: false) { bytes, numbers in
            bytes[numbers.below(bytes.count)] ^= 1 << UInt8(numbers.below(8))
        },
        Damage(name: "up to 600 bytes zeroed", reach: 600, isNamed: false) { bytes, numbers in
            let start = numbers.below(bytes.count)
            for index in start..<min(bytes.count, start + 1 + numbers.below(600)) { bytes[index] = 0 }
        },
        Damage(name: "up to 2000 random bytes written over", reach: 2000, isNamed: false) { bytes, numbers in
            let start = numbers.below(bytes.count)
            for index in start..<min(bytes.count, start + 1 + numbers.below(2000)) {
                bytes[index] = UInt8(truncatingIfNeeded: numbers.next())
            }
        },
        Damage(name: "a stretch of the file put in elsewhere", reach: 3000, isNamed: false) { bytes, numbers in
            let start = numbers.below(bytes.count)
            let stretch = Array(bytes[start..<min(bytes.count, start + 1 + numbers.below(3000))])
            bytes.insert(contentsOf: stretch, at: numbers.below(bytes.count))
        },
        Damage(name: "a stretch of the file written over another", reach: 3000, isNamed: false) { bytes, numbers in
            let start = numbers.below(bytes.count)
            let stretch = Array(bytes[start..<min(bytes.count, start + 1 + numbers.below(3000))])
            let place = numbers.below(bytes.count - stretch.count)
            bytes.replaceSubrange(place..<place + stretch.count, with: stretch)
        },
        Damage(name: "the end cut off", reach: .max, isNamed: false) { bytes, numbers in
            bytes.removeLast(numbers.below(bytes.count / 2))
        },
    ]

    static let damages =
        single + [
            Damage(name: "three of the smaller ones", reach: 900, isNamed: false) { bytes, numbers in
                for _ in 0..<3 { single[[0, 1, 3, 4, 5, 6][numbers.below(6)]].apply(&bytes, &numbers) }
            }
        ]

    /// Hears of all journeys.
    private final class Ends: AnalysisObserver {
        var dropped: Set<Fingerprint> = []
        var others: Set<Fingerprint> = []
        var examples: [Fingerprint: String] = [:]

        func accepts(_ bytes: RawSpan, _ message: Range<Int>, namespace: String) -> Bool { true }
        func placed(_ bytes: RawSpan, _ message: Range<Int>, leg: UInt64) {}
        func ended(_ journey: Journey) {
            if journey.outcome == .dropped {
                dropped.insert(journey.packet.fingerprint)
                examples[journey.packet.fingerprint] =
                    "\(journey.packet.tuple) \(journey.legs.map { "\($0.namespace) \($0.lastHook)" })"
            } else {
                others.insert(journey.packet.fingerprint)
            }
        }
    }

    private static func read(_ files: [String], rules: [String] = [], links: [String] = []) throws -> (Ends, Analysis.Result) {
        var options = Analysis.Options(
            files: files, rules: try OfflineRules(arguments: rules), links: try OfflineLinks(arguments: links))
        options.seed = 1
        let ends = Ends()
        let result = try Analysis().run(options, observer: ends)
        return (ends, result)
    }

    /// A fixture, unpacked.
    private static func fixture(_ name: String) throws -> [UInt8] {
        guard name.hasSuffix(".zst") else { return try Files.bytes(name) }
        return try run("zstd", ["-dcq", "\(Files.fixtures)/\(name)"])
    }

    private static func run(_ tool: String, _ arguments: [String]) throws -> [UInt8] {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
        process.arguments = [tool] + arguments
        let output = Pipe()
        process.standardOutput = output
        try process.run()
        let data = output.fileHandleForReading.readDataToEndOfFile()
        process.waitUntilExit()
        return Array(data)
    }

    struct Form: CustomTestStringConvertible, Sendable {
        var name: String
        var file: String
        /// Places that are damaged in each way.
        var tries: Int
        var testDescription: String { name }
    }

    static let forms = [
        Form(name: "recording with drops", file: "gallery/\(drops[0])", tries: 12),
        Form(name: "recording of a balancer", file: "gallery/\(drops[1])", tries: 6),
        Form(name: "recording of pings", file: "ping/recording.pcapng", tries: 12),
    ]
    private static let drops = ["blocked-host.pcapng.zst", "balance.pcapng.zst"]
    private static let scale = ProcessInfo.processInfo.environment["DAMAGE_TRIES"].flatMap { Int($0) } ?? 1

    @Test("nothing is dropped that was not, most is read, and damage is named", arguments: forms, damages)
    func recording(_ form: Form, _ damage: Damage) async throws {
        let bytes = try Self.fixture(form.file)
        let (whole, intact) = try Files.with(bytes) { try Self.read([$0]) }
        let events = intact.snapshot.completeness.events
        var numbers = SplitMix(state: UInt64(damage.name.utf8.reduce(7) { $0 &* 31 &+ UInt64($1) }))
        var poor = 0
        var kept = 0
        var all = 0
        for number in 0..<form.tries * Self.scale {
            // Other tests get their turn.
            await Task.yield()
            var damaged = bytes
            damage.apply(&damaged, &numbers)
            let (ends, result) = try Files.with(damaged) { try Self.read([$0]) }
            // Between two blocks a file is cut without a trace.
            if damage.reach == .max, result.problems.count == 0 { continue }
            kept += ends.dropped.intersection(whole.dropped).count
            all += whole.dropped.count
            let wrong = ends.dropped.subtracting(whole.dropped)
            #expect(
                wrong.isEmpty, "try \(number): \(wrong.compactMap { ends.examples[$0] }.prefix(3)) \(result.problems.messages)")
            if damage.isNamed { #expect(result.problems.count > 0, "try \(number)") }
            // Of 150 bytes and more each, and some beside those that were hit.
            let hit = UInt64(min(damage.reach, bytes.count) / 150 + 12)
            if result.snapshot.completeness.events + hit < events { poor += 1 }
        }
        if damage.reach < .max { #expect(poor * 6 <= form.tries * Self.scale, "\(poor) poor") }
        // Drops elsewhere stay drops.
        if damage.reach <= 300, whole.dropped.count > 3 { #expect(kept * 2 >= all, "\(kept) of \(all) kept") }
    }

    @Test("captures of tcpdump that are damaged make no drops, beside others that are not", arguments: damages)
    func captures(_ damage: Damage) async throws {
        let (whole, _) = try Self.read(SameAnswerTests.captures, rules: SameAnswerTests.rules, links: SameAnswerTests.links)
        var numbers = SplitMix(state: 11)
        for number in 0..<9 * Self.scale {
            await Task.yield()
            var files = SameAnswerTests.captures
            let name = ["guest", "host", "inet"][number % 3]
            var damaged = try Files.bytes("ping/\(name).pcap")
            damage.apply(&damaged, &numbers)
            try Files.with(damaged) { path in
                files[number % 3] = "\(name)=\(path)"
                let (ends, result) = try Self.read(files, rules: SameAnswerTests.rules, links: SameAnswerTests.links)
                if damage.reach == .max, result.problems.count == 0 { return }
                let wrong = ends.dropped.subtracting(whole.dropped)
                #expect(
                    wrong.isEmpty,
                    "try \(number): \(wrong.compactMap { ends.examples[$0] }.prefix(3)) \(result.problems.messages)")
            }
        }
    }

    @Test("compressed files that are damaged or cut are read up to there and said to be", arguments: ["gzip", "zstd"])
    func compressed(_ tool: String) async throws {
        let file = "\(Files.fixtures)/ping/recording.pcapng"
        let (whole, _) = try Self.read([file])
        let packed = try Self.run(tool, ["-c", file])
        var numbers = SplitMix(state: 5)
        for number in 0..<40 {
            await Task.yield()
            var damaged = packed
            if number % 2 == 0 {
                damaged.removeLast(1 + numbers.below(packed.count * 3 / 4))
            } else {
                damaged[20 + numbers.below(packed.count - 20)] ^= UInt8(1 + numbers.below(255))
            }
            let (ends, result) = try Files.with(damaged) { try Self.read([$0]) }
            #expect(ends.dropped.subtracting(whole.dropped).isEmpty, "try \(number): \(result.problems.messages)")
            #expect(result.problems.count > 0, "try \(number)")
        }
    }

    @Test(
        "a file whose first bytes are damaged is read", arguments: ["ping/recording.pcapng", "ping/host.pcap"],
        [1, 4, 8, 24, 40])
    func beginning(_ file: String, _ count: Int) throws {
        let bytes = try Files.bytes(file)
        let (whole, intact) = try Files.with(bytes) { try Self.read([$0]) }
        var zeroed = bytes
        for index in 0..<count { zeroed[index] = 0 }
        for damaged in [zeroed, Array(bytes.dropFirst(count)), [UInt8](repeating: 7, count: count) + bytes] {
            let (ends, result) = try Files.with(damaged) { try Self.read([$0]) }
            #expect(result.snapshot.completeness.events + 3 >= intact.snapshot.completeness.events)
            #expect(result.problems.count > 0)
            #expect(ends.dropped.subtracting(whole.dropped).isEmpty)
        }
    }
}
