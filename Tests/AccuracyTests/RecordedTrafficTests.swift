import Foundation
import Judge
import Testing

/// The same check as `make accuracy`, on small recordings of its traffic (`AccuracyBenchmark 160 --keep FOLDER`).
@Suite(.serialized) struct RecordedTrafficTests {
    private static let fixtures =
        URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent().path + "/Fixtures/accuracy"

    /// - Parameters:
    ///   - name: of the recording.
    ///   - right: the least part of the journeys that is exactly right.
    ///   - rightWithLoss: the same without one in a hundred events.
    struct Expected: CustomTestStringConvertible, Sendable {
        var name: String
        var right: Double
        var rightWithLoss: Double

        var testDescription: String { name }
    }

    static let all = [
        // A journey of 22 events has lost none with a chance of 80 %.
        Expected(name: "udp", right: 1, rightWithLoss: 0.6),
        Expected(name: "tcp", right: 1, rightWithLoss: 0.6),
        Expected(name: "icmp", right: 1, rightWithLoss: 0.6),
        Expected(name: "again", right: 1, rightWithLoss: 0.6),
        Expected(name: "paced", right: 0, rightWithLoss: 0),
        Expected(name: "interleaved", right: 0, rightWithLoss: 0),
        Expected(name: "copies", right: 0, rightWithLoss: 0),
        Expected(name: "twice", right: 0, rightWithLoss: 0),
    ]

    @Test("nothing is wrong that is not marked, and most is right where packets differ", arguments: all)
    func judged(_ expected: Expected) throws {
        let judgement = try Judge.judge("\(Self.fixtures)/\(expected.name).pcapng.zst")
        #expect(judgement.packets > 60 && judgement.events > judgement.packets * 15)
        #expect(judgement.wrong == 0, "\(judgement.examples)")
        #expect(Double(judgement.right) >= expected.right * Double(judgement.journeys), "\(judgement)")
        #expect(judgement.journeys == judgement.packets)
    }

    @Test("the same while one event in a hundred is lost", arguments: all)
    func judgedWithLoss(_ expected: Expected) throws {
        for seed in UInt64(1)...5 {
            let judgement = try Judge.judge(
                "\(Self.fixtures)/\(expected.name).pcapng.zst", without: Judge.Removal(parts: 10_000, seed: seed))
            #expect(judgement.removed > 0)
            #expect(judgement.wrong == 0, "seed \(seed): \(judgement.examples)")
            #expect(
                Double(judgement.right) >= expected.rightWithLoss * Double(judgement.journeys), "seed \(seed): \(judgement)")
        }
    }
}
