internal import Aggregation
internal import Captures
internal import HostLayout
internal import LinuxSupport
internal import Logging
internal import Synchronization
internal import TraceModel

extension Collector {
    /// The counters of all namespaces as they were read last, by index.
    struct DropCounts {
        var risen: [Int: DropCounters] = [:]
        /// Microseconds of the monotonic clock.
        var readAt: Int64 = .min / 2
    }

    /// Microseconds for which counters that explain no packet are not read again.
    private static let freshness: Int64 = 2_000_000

    /// A snapshot with what the kernel's counters say: why packets vanished where they are routed, where one counter tells, and what was
    /// lost at sockets.
    ///
    /// The counters are read after the snapshot was made: they have counted all of its packets, and perhaps later ones.
    func withDropCounters(_ snapshot: TraceSnapshot) -> TraceSnapshot {
        var snapshot = snapshot
        snapshot.explain(by: risenCounters(now: snapshot.losingNamespaces))
        return snapshot
    }

    /// Puts what the counters say at the end into the recording.
    func recordCounters(of snapshot: TraceSnapshot) {
        guard let recorder = options.recorder else { return }
        do {
            let notes = try snapshot.context.dropCounters.compactMap { try RecordedNote.counters($0.value, of: $0.key) }
            recorder.take(notes.map { .note($0) })
        } catch {
            logger.warning("the recording lacks the kernel's counters: \(error)")
        }
    }

    /// - Parameter indices: the namespaces of which the counters are to be those of this moment.
    private func risenCounters(now indices: Set<Int>) -> [Int: DropCounters] {
        let places = state.withLock { $0.places }
        let now = Clock.monotonic
        let isStale = dropCounts.withLock { counts in
            guard now - counts.readAt > Self.freshness else { return false }
            counts.readAt = now
            return true
        }
        var read: [Int: DropCounters] = [:]
        for (place, followed) in places.enumerated() {
            let index = indexing.index(of: place)
            guard isStale || indices.contains(index), let namespace = followed.namespace, let before = followed.dropCounters
            else { continue }
            do {
                read[index] = try DropCounterReader.read(namespace).risen(since: before)
            } catch {
                logger.debug("the counters of \(followed.name) cannot be read: \(error)")
            }
        }
        return dropCounts.withLock { [read] counts in
            if isStale { counts.risen = [:] }
            counts.risen.merge(read) { _, new in new }
            return counts.risen
        }
    }
}
