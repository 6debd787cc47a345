public import Aggregation
internal import Diagnosis
private import Synchronization
public import TraceModel

/// What happens, as it happens, for those who read it as a stream: journeys that end, losses, findings.
///
/// Bounded: of more than it takes a second, and of what a slow reader has not read in time, the number is told.
public final class EventFeed: JourneyWatcher {
    /// Something that happened.
    private enum Event: Sendable {
        case journey(JourneyRecord, TraceContext)
        /// Its kind, and its JSON.
        case other(String, String)
        /// Journeys that were left out, because more ended than are taken.
        case skipped(UInt64)
    }

    /// Which journeys a reader wants.
    private struct Interest {
        var selection: JourneySelection
        /// When the reader left; `nil` while it reads. For half a minute journeys are kept for it all the same: it may resume the stream.
        var leftAt: ContinuousClock.Instant?
    }

    private struct State {
        /// The latest, oldest first; the last has the number `count`.
        var events: [Event] = []
        var count: UInt64 = 0
        /// By the reader's number.
        var interests: [UInt64: Interest] = [:]
        var nextReader: UInt64 = 0
        // The present second, and how many events were taken in it.
        var second = ContinuousClock.now
        var taken = 0
        var skipped: UInt64 = 0
        // As they were told last.
        var losses: UInt64 = 0
        var findings: Set<String> = []

        /// Whether anybody wants a journey. All are asked, since each remembers which connections it has chosen.
        mutating func wants(_ journey: Journey) -> Bool {
            var isWanted = false
            for number in interests.keys where interests[number]?.selection.takes(journey) == true { isWanted = true }
            return isWanted
        }

        mutating func forgetThoseGone(_ now: ContinuousClock.Instant) {
            interests = interests.filter { $0.value.leftAt.map { $0.duration(to: now) < patience } ?? true }
        }

        mutating func append(_ event: Event) {
            if events.count >= capacity { events.removeFirst(capacity / 4) }
            events.append(event)
            count += 1
        }
    }

    private let state = Mutex(State())
    /// Tells numbers of this feed from those of another run.
    private let run: UInt64

    private static let capacity = 4096
    /// Journeys a second.
    private static let most = 2000
    private static let patience = Duration.seconds(30)
    /// Of readers, with those who have left.
    private static let mostInterests = 64

    public init() { run = UInt64.random(in: 1...UInt64.max) }

    public var isWatched: Bool { state.withLock { !$0.interests.isEmpty } }

    public func add(_ journey: Journey, describe: () -> (record: JourneyRecord, context: TraceContext)) {
        state.withLock { state in
            let now = ContinuousClock.now
            if state.second.duration(to: now) >= .seconds(1) {
                if state.skipped > 0 { state.append(.skipped(state.skipped)) }
                (state.second, state.taken, state.skipped) = (now, 0, 0)
            }
            guard state.wants(journey) else { return }
            guard state.taken < Self.most else {
                state.skipped += 1
                return
            }
            state.taken += 1
            let (record, context) = describe()
            guard state.interests.values.contains(where: { $0.selection.takes(record, in: context) }) else { return }
            state.append(.journey(record, context))
        }
    }

    /// Looks at a snapshot for losses and faults that the last one had not.
    public func look(at snapshot: TraceSnapshot) {
        let completeness = snapshot.completeness
        let losses = completeness.lost + completeness.overflows + (completeness.ruleTracesLost ?? 0)
        let findings = snapshot.findings.map { FindingReport($0, of: snapshot) }
        state.withLock { state in
            state.forgetThoseGone(.now)
            if losses > state.losses, let json = try? ReportJSON.encode(completeness) {
                state.append(.other("loss", String(decoding: json, as: UTF8.self)))
            }
            state.losses = losses
            for finding in findings where state.findings.insert("\(finding.kind) \(finding.netns) \(finding.title)").inserted {
                if let json = try? ReportJSON.encode(finding) {
                    state.append(.other("finding", String(decoding: json, as: UTF8.self)))
                }
            }
        }
    }

    /// - Parameters:
    ///   - filter: which journeys are wanted; its times and limit are not looked at.
    ///   - last: the id of the event that was read last, for going on behind it.
    public func reader(_ filter: TraceFilter, after last: String?) -> Reader {
        let (number, position) = state.withLock { state in
            state.nextReader += 1
            state.interests[state.nextReader] = Interest(selection: JourneySelection(filter))
            return (state.nextReader, last.flatMap(position(ofID:)).map { min($0, state.count) } ?? state.count)
        }
        return Reader(self, filter, number: number, position)
    }

    private func position(ofID id: String) -> UInt64? {
        let parts = id.split(separator: "-", omittingEmptySubsequences: false)
        guard parts.count == 2, UInt64(parts[0], radix: 16) == run else { return nil }
        return UInt64(parts[1])
    }

    private func leave(_ reader: UInt64) {
        state.withLock { state in
            state.interests[reader]?.leftAt = .now
            // Readers may come and go by the thousand.
            if state.interests.count > Self.mostInterests {
                state.interests = state.interests.filter { $0.value.leftAt == nil }
            }
        }
    }

    /// The events behind `position`, some at a time, with how many were lost before them.
    private func take(after position: UInt64) -> (events: [(number: UInt64, event: Event)], lost: UInt64) {
        state.withLock { state in
            let first = state.count - UInt64(state.events.count)
            let from = max(position, first)
            let some = state.events.dropFirst(Int(from - first)).prefix(Self.batch)
            return (some.enumerated().map { (from + UInt64($0.offset) + 1, $0.element) }, from - position)
        }
    }

    private static let batch = 128

    /// One who reads. Not called by several at once.
    public final class Reader: Sendable {
        private struct State {
            var position: UInt64
            var selection: JourneySelection
            var saidAt = ContinuousClock.now
            var hasBegun = false
        }

        private let feed: EventFeed
        private let number: UInt64
        private let state: Mutex<State>

        fileprivate init(_ feed: EventFeed, _ filter: TraceFilter, number: UInt64, _ position: UInt64) {
            self.feed = feed
            self.number = number
            state = Mutex(State(position: position, selection: JourneySelection(filter)))
        }

        deinit { feed.leave(number) }

        /// As server-sent events (WHATWG HTML, 9.2): what there is now, a comment where nothing came for a while.
        public func next() -> String {
            state.withLock { state in
                var text = ""
                if !state.hasBegun {
                    // A client knows from it that it is connected, and how soon to come back.
                    text += ": ipt-trace\nretry: 1000\n\n"
                    state.hasBegun = true
                }
                let (events, lost) = feed.take(after: state.position)
                if lost > 0 { text += Self.event("dropped", "{\"events\":\(lost)}", id: nil) }
                for (number, event) in events {
                    state.position = number
                    let id = "\(String(feed.run, radix: 16))-\(number)"
                    switch event {
                    case .journey(let record, let context):
                        guard state.selection.takes(record.journey), state.selection.takes(record, in: context),
                            let json = try? ReportJSON.encode(context.describe(record))
                        else { continue }
                        text += Self.event("journey", String(decoding: json, as: UTF8.self), id: id)
                    case .other(let kind, let json): text += Self.event(kind, json, id: id)
                    case .skipped(let count): text += Self.event("dropped", "{\"events\":\(count)}", id: id)
                    }
                }
                if !text.isEmpty {
                    state.saidAt = .now
                } else if state.saidAt.duration(to: .now) > .seconds(15) {
                    text = ":\n\n"
                    state.saidAt = .now
                }
                return text
            }
        }

        /// - Parameter json: without line ends, as `ReportJSON` writes it.
        private static func event(_ kind: String, _ json: String, id: String?) -> String {
            (id.map { "id: \($0)\n" } ?? "") + "event: \(kind)\ndata: \(json)\n\n"
        }
    }
}

/// Several who watch journeys, as one.
public final class JourneyWatchers: JourneyWatcher {
    private let watchers: [any JourneyWatcher]

    public init(_ watchers: [any JourneyWatcher]) { self.watchers = watchers }

    public var isWatched: Bool { watchers.contains { $0.isWatched } }

    public func add(_ journey: Journey, describe: () -> (record: JourneyRecord, context: TraceContext)) {
        for watcher in watchers where watcher.isWatched { watcher.add(journey, describe: describe) }
    }
}
