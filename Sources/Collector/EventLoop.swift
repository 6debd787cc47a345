internal import Correlation
private import Foundation
private import Glibc
internal import Mailbox
internal import Namespaces
internal import Netlink
internal import Reports
internal import TraceModel
internal import WireFormat

/// What the event loop is told from outside.
enum LoopMessage: Sendable {
    /// The registry has a new layout.
    case layoutChanged
    case add(Handover)
    /// A namespace has vanished: by its index in the layout.
    case remove(Int)
    case publishSnapshot
    case stop

    /// A source on its way from the thread that opened it to the loop, which alone uses it from then on.
    struct Handover: @unchecked Sendable {
        let source: NamespaceSource
    }
}

/// The one hot thread: waits on all sockets, drains each in large batches, parses in place, correlates, adds up.
struct EventLoop: ~Copyable {
    private let mailbox: Mailbox<LoopMessage>
    private let registry: LayoutRegistry
    private let exchange: SnapshotExchange
    private let feed: JourneyFeed
    private let run: UInt64
    private let since: Int64
    private var sources: [NamespaceSource] = []
    private var correlator: Correlator
    private var sink: Sink
    private var generation = -1
    /// Deliveries that were dropped because a receive buffer was full.
    private var bufferDrops: UInt64 = 0
    /// Counts of namespaces that have vanished.
    private var departed = NamespaceReader.Counters()
    private var isStopping = false

    /// Adds journeys up and shows them to who watches.
    private struct Sink: JourneySink {
        var aggregate: TraceAggregate
        let feed: JourneyFeed
        let run: UInt64
        var layout = Layout()

        mutating func accept(_ journey: Journey, routes: RouteTable, history: EventHistory) {
            guard let direction = aggregate.add(journey, history: history), feed.isWatched else { return }
            let context = TraceSnapshot(
                generatedAt: 0, since: 0, run: run, layout: layout, routes: routes, completeness: Completeness(), paths: [],
                flows: [], journeys: [])
            feed.add(
                context.describe(
                    JourneyRecord(
                        journey: journey, events: journey.segments.map { history.events(upTo: $0.lastEvent) },
                        direction: direction)))
        }
    }

    init(
        mailbox: Mailbox<LoopMessage>, registry: LayoutRegistry, exchange: SnapshotExchange, feed: JourneyFeed,
        limits: Correlator.Limits, run: UInt64, ownEndpoint: TraceAggregate.OwnEndpoint?
    ) {
        self.mailbox = mailbox
        self.registry = registry
        self.exchange = exchange
        self.feed = feed
        self.run = run
        since = Self.clock()
        correlator = Correlator(limits: limits)
        sink = Sink(aggregate: TraceAggregate(ownEndpoint: ownEndpoint), feed: feed, run: run)
    }

    /// Microseconds since 1970 that never jump: what the clock on the wall said at the beginning, and the time that has
    /// passed since. Setting the wall clock neither ends journeys nor keeps them from ending.
    private static func clock() -> Int64 { wallClockAtBegin + microseconds(CLOCK_MONOTONIC) }

    private static let wallClockAtBegin = microseconds(CLOCK_REALTIME) - microseconds(CLOCK_MONOTONIC)

    private static func microseconds(_ clock: clockid_t) -> Int64 {
        var time = timespec()
        unsafe clock_gettime(clock, &time)
        return Int64(time.tv_sec) * 1_000_000 + Int64(time.tv_nsec) / 1000
    }

    /// Runs until told to stop; then closes what is under way and publishes the last snapshot.
    consuming func runUntilStopped() {
        takeLayout()
        var buffer = [UInt8](repeating: 0, count: 1 << 18)
        var descriptors: [pollfd] = []
        while !isStopping {
            descriptors.removeAll(keepingCapacity: true)
            descriptors.append(pollfd(fd: mailbox.descriptor, events: Int16(POLLIN), revents: 0))
            for source in sources {
                descriptors.append(pollfd(fd: source.log.descriptor, events: Int16(POLLIN), revents: 0))
                descriptors.append(
                    pollfd(fd: source.conntrack?.socket.descriptor ?? -1, events: Int16(POLLIN), revents: 0))
            }
            // While journeys are under way their ends are looked for, else there is nothing to do until something comes.
            let timeout: Int32 = correlator.liveJourneys > 0 ? 10 : 1000
            // This thread may be kept from running at any point. A socket that is not readable had nothing before poll
            // was called; what came into one that is drained before its drain began is in.
            let asked = Self.clock()
            _ = unsafe poll(&descriptors, nfds_t(descriptors.count), timeout)
            let begun = Self.clock()
            correlator.receive(at: begun)
            for (position, source) in sources.enumerated() {
                if descriptors[position * 2 + 2].revents != 0 { drainConntrack(source, &buffer) }
                if descriptors[position * 2 + 1].revents == 0 {
                    source.drainedAt = asked
                } else if drain(source, &buffer, now: begun) {
                    source.drainedAt = begun
                }
            }
            // A probe of ours that the survey has not seen yet may have come up.
            if correlator.probeCount != sink.layout.probes.count { sink.layout = registry.current.layout }
            // A loss is known from the next sequence number, if there is one; the socket's own count knows it now.
            if correlator.liveJourneys > 0 { countDrops() }
            // A journey may only be closed for want of events that were received everywhere.
            correlator.advance(to: sources.map(\.drainedAt).min() ?? begun, into: &sink)
            if descriptors[0].revents != 0 {
                for message in mailbox.receive() { handle(message) }
            }
        }
        receiveTheRest(&buffer)
        sink.layout = registry.current.layout
        countDrops()
        correlator.finish(into: &sink)
        exchange.publish(snapshot())
    }

    /// What the kernel still gathers is delivered within its flush timeout of 10 ms; twice that is waited for, in turns.
    private mutating func receiveTheRest(_ buffer: inout [UInt8]) {
        for _ in 0..<4 {
            usleep(5000)
            // Bounded, because the traffic need not end only because we do.
            for source in sources { for _ in 0..<64 where drain(source, &buffer, now: Self.clock()) { break } }
        }
    }

    /// Receives what is there, in large batches.
    ///
    /// - Returns: whether nothing is left; false where there is more than one turn takes.
    private mutating func drain(_ source: NamespaceSource, _ buffer: inout [UInt8], now: Int64) -> Bool {
        for _ in 0..<128 {
            switch source.log.receive(into: &buffer) {
            case .nothing: return true
            // An overflow shows as a gap in the sequence numbers, and is counted there.
            case .failed: return true
            case .bytes(let count):
                // Bytes have no padding, which is what makes a span's bytes unsafe in general.
                let bytes = unsafe buffer.span.bytes.extracting(0..<count)
                source.reader.read(bytes, now: now, into: &correlator)
            }
        }
        return false
    }

    private mutating func drainConntrack(_ source: NamespaceSource, _ buffer: inout [UInt8]) {
        guard let conntrack = source.conntrack else { return }
        conntrack.socket.drain(into: &buffer) { connection, isNew in
            if isNew {
                correlator.noteTranslation(
                    namespace: source.index, original: connection.original, reply: connection.reply)
            } else {
                correlator.forgetTranslation(
                    namespace: source.index, original: connection.original, reply: connection.reply)
            }
        }
    }

    /// Connections that began before us.
    private mutating func loadTranslations(of source: NamespaceSource) {
        for connection in (try? source.namespace.enter { try ConntrackSocket.existing() }) ?? [] {
            correlator.noteTranslation(namespace: source.index, original: connection.original, reply: connection.reply)
        }
    }

    private mutating func countDrops() {
        for source in sources {
            let drops = source.log.drops
            guard drops != source.drops else { continue }
            bufferDrops += UInt64(drops &- source.drops)
            source.drops = drops
            correlator.noteLoss(namespace: source.index)
        }
    }

    private mutating func takeLayout() {
        let current = registry.current
        guard current.generation != generation else { return }
        generation = current.generation
        correlator.update(current.layout)
        sink.layout = current.layout
        for source in sources { source.reader.layoutChanged() }
    }

    private mutating func handle(_ message: LoopMessage) {
        switch message {
        case .layoutChanged: takeLayout()
        case .add(let handover):
            sources.append(handover.source)
            loadTranslations(of: handover.source)
        case .remove(let index):
            for source in sources where source.index == index {
                let counters = source.reader.counters
                departed.events += counters.events
                departed.lost += counters.lost
                departed.malformed += counters.malformed
                departed.unplaced += counters.unplaced
            }
            sources.removeAll { $0.index == index }
            correlator.forgetTranslations(namespace: index)
        case .publishSnapshot: exchange.publish(snapshot())
        case .stop: isStopping = true
        }
    }

    private mutating func snapshot() -> TraceSnapshot {
        var completeness = Completeness()
        for counters in sources.map(\.reader.counters) + [departed] {
            completeness.events += counters.events
            completeness.lost += counters.lost
            completeness.malformed += counters.malformed
            completeness.unplaced += counters.unplaced
        }
        completeness.journeys = correlator.counters.journeys
        completeness.ambiguous = correlator.counters.ambiguous
        completeness.evicted = correlator.counters.evicted
        completeness.incomplete = sink.aggregate.incomplete
        completeness.own = sink.aggregate.own
        completeness.unlisted = sink.aggregate.unlisted
        completeness.open = UInt64(correlator.liveJourneys)
        completeness.overflows = bufferDrops
        var journeys = sink.aggregate.recentJourneys(history: correlator.history)
        let history = correlator.history
        correlator.forEachOpen(limit: 256) { journey in
            journeys.append(
                JourneyRecord(
                    journey: journey, events: journey.segments.map { history.events(upTo: $0.lastEvent) },
                    direction: journey.segments.lazy.compactMap(\.direction).first ?? .original))
        }
        return TraceSnapshot(
            generatedAt: Self.clock(), since: since, run: run, layout: registry.current.layout, routes: correlator.routes,
            completeness: completeness, paths: sink.aggregate.paths, flows: sink.aggregate.flows, journeys: journeys)
    }
}
