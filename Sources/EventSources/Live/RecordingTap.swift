internal import Captures
internal import Engine
internal import TraceModel
internal import WireFormat

/// The event loop's items for a recorder: gathered during a turn, handed over at its end.
final class RecordingTap: DatagramTap {
    private let recorder: Recorder
    private var items: [RecordItem] = []
    /// As the correlator was told last, and as it was recorded last.
    private var complete: Int64?
    private var noted: Int64?

    private struct DescribedRule: Hashable {
        var namespace: Int
        var place: RulePlace
        var text: String?
    }

    /// Rules whose accepting neighbours have been recorded.
    private var described: Set<DescribedRule> = []
    private static let mostDescribed = 1 << 12

    /// Microseconds between two notes of completeness while no events come: journeys that are under way end meanwhile.
    private static let busyInterval: Int64 = 250_000
    private static let idleInterval: Int64 = 10_000_000

    init(_ recorder: Recorder) { self.recorder = recorder }

    func add(_ datagram: RawSpan, namespace: Int, time: Int64, tags: [UInt64]) {
        noteComplete()
        items.append(.events(RecordedDatagram(datagram, namespace: namespace, time: time, tags: tags)))
    }

    func add(_ connection: ConntrackMessage, namespace: Int, isNew: Bool) {
        noteComplete()
        items.append(
            .note(.connection(namespace: namespace, original: connection.original, reply: connection.reply, isNew: isNew)))
    }

    /// Notes that all events reported before `time` have been received.
    ///
    /// - Parameter isIdle: whether no journey is under way.
    func advance(to time: Int64, isIdle: Bool) {
        complete = time
        if time - (noted ?? 0) >= (isIdle ? Self.idleInterval : Self.busyInterval) { noteComplete() }
    }

    /// Comes before everything that journeys may still take: one that had ended has ended in the recording, too.
    private func noteComplete() {
        guard let complete, complete != noted else { return }
        items.append(.note(.complete(complete)))
        noted = complete
    }

    /// A rule trace told what dropped a packet.
    func add(_ drop: RuleDrop, namespace: Int) {
        let rule = DescribedRule(namespace: namespace, place: drop.decision.place, text: drop.decision.text)
        guard let recorded = RecordedTrace(drop, isDescribed: described.contains(rule)) else { return }
        if described.count < Self.mostDescribed { described.insert(rule) }
        noteComplete()
        items.append(.note(.drop(namespace: namespace, recorded)))
    }

    /// Rule traces told which rules packets met, and the texts of such rules were read.
    func add(_ notes: [WalkNote]) {
        guard !notes.isEmpty else { return }
        noteComplete()
        for note in notes {
            switch note {
            case .walk(let walk, let packet, let time):
                if let recorded = RecordedTrace(walk, of: packet, time: time) {
                    items.append(.note(.walk(namespace: walk.namespace, recorded)))
                }
            case .rule(let namespace, let place, let text):
                let rule = RecordedRule(place: place, text: text.text, position: text.position, isProbe: text.isProbe)
                if let json = rule.json { items.append(.note(.rule(namespace: namespace, json: json))) }
            }
        }
    }

    /// The kernel told why it dropped packets.
    ///
    /// - Parameter now: microseconds since 1970.
    func add(_ drops: [KernelDrop], now: Int64) {
        guard !drops.isEmpty else { return }
        noteComplete()
        // A storm of drops must not keep events from being written: that some are missing is noted instead.
        if drops.count > Self.mostDrops {
            items.append(.note(.kernelDropsMissing(now)))
        } else {
            for drop in drops { items.append(.note(.kernelDrop(drop))) }
        }
    }

    /// Of the kernel's drops in a turn of the event loop, of 5 ms or more.
    private static let mostDrops = 64

    /// The routing tables of a namespace answered.
    func add(_ decision: RoutingDecision, of lookup: RouteLookup, since: Int64, asked: Int64) {
        guard let recorded = RecordedRoute(decision, of: lookup, since: since, asked: asked) else { return }
        noteComplete()
        items.append(.note(.route(namespace: lookup.namespace, recorded)))
    }

    func addRouteChange(namespace: Int, after time: Int64) {
        noteComplete()
        items.append(.note(.routesChanged(namespace: namespace, after: time)))
    }

    func addLoss(namespace: Int) { items.append(.note(.loss(namespace: namespace))) }

    func add(_ layout: Layout, ownPort: OwnPort?) { items.append(.layout(layout, ownPort: ownPort)) }

    /// A journey has ended: its events belong to `path`, 0 for one that is in no report.
    func note(_ path: UInt64, _ journey: Journey) {
        for leg in journey.legs { items.append(.ended(leg: leg.firstEvent, path: path)) }
    }

    func handOver() {
        guard !items.isEmpty else { return }
        recorder.take(items)
        items.removeAll(keepingCapacity: true)
    }

    /// Hands over the rest, at the end.
    func finish() {
        noteComplete()
        handOver()
    }
}
