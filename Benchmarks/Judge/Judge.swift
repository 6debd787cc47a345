package import Captures
internal import EventSources
package import TraceModel
internal import WireFormat

/// Comparison of a recording's journeys with the packets' serial numbers.
package struct Judgement {
    /// Packets with a serial number that any event was left of.
    package var packets = 0
    package var events = 0
    /// Events that were left out on purpose.
    package var removed = 0
    /// Journeys with events that carry a serial number; the sum of the next four.
    package var journeys = 0
    /// All events of one packet and no others, not marked, with the outcome that the packet had.
    package var right = 0
    package var ambiguous = 0
    /// Marked `incomplete` or `open`, and not ambiguous.
    package var incomplete = 0
    /// Neither right nor marked.
    package var wrong = 0
    /// Journeys without a serial number, such as TCP's acknowledgements.
    package var others = 0
    /// The first few that are wrong, in words.
    package var examples: [String] = []

    package init() {}

    package static func + (one: Judgement, other: Judgement) -> Judgement {
        var sum = one
        sum.packets += other.packets
        sum.events += other.events
        sum.removed += other.removed
        sum.journeys += other.journeys
        sum.right += other.right
        sum.ambiguous += other.ambiguous
        sum.incomplete += other.incomplete
        sum.wrong += other.wrong
        sum.others += other.others
        sum.examples += other.examples
        return sum
    }
}

/// Replays a recording through the analysis and holds each journey against the serial numbers of its events.
package final class Judge: AnalysisObserver {
    /// Part of the recording to leave out.
    package struct Removal: Sendable {
        /// Of a million events.
        var parts: UInt64
        var seed: UInt64

        package init(parts: UInt64, seed: UInt64 = 1) {
            self.parts = parts
            self.seed = seed
        }

        package static let none = Removal(parts: 0)
    }

    private struct Packet {
        var events: Int32 = 0
        var isDelivered = false
    }

    private struct JourneyEnd {
        var outcome: Outcome
        var isAmbiguous: Bool
        var events: Int32 = 0
        /// Of its first event; -1 before it, -2 for none.
        var packet: Int32 = -1
        /// Whether all events are of one packet.
        var isPure = true
    }

    private let removal: Removal
    private var state: UInt64
    private var numbers: [Serial: Int32] = [:]
    private var packets: [Packet] = []
    // By event: its packet, -2 for none, and its leg.
    private var owners: [Int32] = []
    private var legs: [UInt64] = []
    private var journeyOf: [UInt64: Int32] = [:]
    private var ends: [JourneyEnd] = []
    private var removed = 0
    /// Messages of each namespace that are still to come. The last is kept: the gap before it is how a loss is noticed.
    private var left: [String: Int] = [:]

    private init(_ removal: Removal) {
        self.removal = removal
        state = removal.seed
    }

    /// - Throws: `CaptureError` where the file cannot be read.
    package static func judge(_ file: String, without removal: Removal = .none) throws(CaptureError) -> Judgement {
        let judge = Judge(removal)
        if removal.parts > 0 {
            let census = Census()
            _ = try Analysis().run(Analysis.Options(files: [file]), observer: census)
            judge.left = census.messages
        }
        _ = try Analysis().run(Analysis.Options(files: [file]), observer: judge)
        return judge.judgement()
    }

    // MARK: While it is read

    package func accepts(_ bytes: RawSpan, _ message: Range<Int>, namespace: String) -> Bool {
        guard let logged = try? NFLogMessage(parsing: bytes, body: message) else { return true }
        let owner = number(bytes, logged)
        // The truth is of all events, whether or not they are left out.
        if owner >= 0, bytes.hasSuffix("security:INPUT", in: logged.prefix) { packets[Int(owner)].isDelivered = true }
        guard removal.parts > 0 else { return true }
        left[namespace, default: 0] -= 1
        guard left[namespace, default: 0] > 0 else { return true }
        // splitmix64
        state &+= 0x9E37_79B9_7F4A_7C15
        var word = state
        word = (word ^ word >> 30) &* 0xBF58_476D_1CE4_E5B9
        word = (word ^ word >> 27) &* 0x94D0_49BB_1331_11EB
        guard (word ^ word >> 31) % 1_000_000 < removal.parts else { return true }
        removed += 1
        return false
    }

    package func placed(_ bytes: RawSpan, _ message: Range<Int>, leg: UInt64) {
        guard let logged = try? NFLogMessage(parsing: bytes, body: message) else { return }
        let owner = number(bytes, logged)
        if owner >= 0 { packets[Int(owner)].events += 1 }
        owners.append(owner)
        legs.append(leg)
    }

    package func ended(_ journey: Journey) {
        for leg in journey.legs { journeyOf[leg.firstEvent] = Int32(ends.count) }
        ends.append(JourneyEnd(outcome: journey.outcome, isAmbiguous: journey.isAmbiguous))
    }

    private func number(_ bytes: RawSpan, _ message: NFLogMessage) -> Int32 {
        guard let serial = Serial(bytes, packet: message.payload) else { return -2 }
        if let known = numbers[serial] { return known }
        let number = Int32(packets.count)
        numbers[serial] = number
        packets.append(Packet())
        return number
    }

    // MARK: Afterwards

    private func judgement() -> Judgement {
        for (owner, leg) in zip(owners, legs) {
            guard let journey = journeyOf[leg].map(Int.init) else { continue }
            ends[journey].events += 1
            if ends[journey].packet == -1 { ends[journey].packet = owner }
            if ends[journey].packet != owner { ends[journey].isPure = false }
        }
        var judgement = Judgement()
        judgement.events = owners.count
        judgement.removed = removed
        judgement.packets = packets.count { $0.events > 0 }
        for end in ends {
            if end.isPure, end.packet < 0 {
                judgement.others += 1
                continue
            }
            judgement.journeys += 1
            if end.isAmbiguous {
                judgement.ambiguous += 1
            } else if end.outcome == .incomplete || end.outcome == .open {
                judgement.incomplete += 1
            } else if let fault = fault(end) {
                judgement.wrong += 1
                if judgement.examples.count < 5 { judgement.examples.append(fault) }
            } else {
                judgement.right += 1
            }
        }
        return judgement
    }

    /// Fault of a journey; `nil` if it has none.
    private func fault(_ end: JourneyEnd) -> String? {
        guard end.isPure else { return "\(end.outcome.name): \(end.events) events of more than one packet" }
        let packet = packets[Int(end.packet)]
        guard end.events == packet.events else {
            return "\(end.outcome.name): \(end.events) of a packet's \(packet.events) events"
        }
        let outcome: Outcome = packet.isDelivered ? .delivered : .dropped
        return end.outcome == outcome ? nil : "\(end.outcome.name), though it was \(outcome.name)"
    }
}

/// Counts a recording's messages.
private final class Census: AnalysisObserver {
    var messages: [String: Int] = [:]

    func accepts(_ bytes: RawSpan, _ message: Range<Int>, namespace: String) -> Bool {
        messages[namespace, default: 0] += 1
        return true
    }
    func placed(_ bytes: RawSpan, _ message: Range<Int>, leg: UInt64) {}
    func ended(_ journey: Journey) {}
}

extension RawSpan {
    fileprivate func hasSuffix(_ text: StaticString, in range: Range<Int>) -> Bool {
        let length = text.utf8CodeUnitCount
        guard range.count >= length else { return false }
        return text.withUTF8Buffer { suffix in
            suffix.indices.allSatisfy { unsafe byte(range.upperBound - length + $0) == suffix[$0] }
        }
    }
}
