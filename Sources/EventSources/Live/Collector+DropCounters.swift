internal import Aggregation
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
        let losses = snapshot.routingLosses
        let untracked = snapshot.trackingLosses
        let losing = Set(losses.keys.map(\.namespace)).union(untracked.keys)
        var snapshot = snapshot
        snapshot.context.dropCounters = risenCounters(now: losing)
        // A counter has counted packets that no probe reported, too: where there may be some, it explains none of those that were.
        let completeness = snapshot.completeness
        guard completeness.lost == 0, completeness.thinned == nil, completeness.sampledOneIn == nil else { return snapshot }
        let filtered = snapshot.layout.filteredNamespaces
        for (key, packets) in losses where !filtered.contains(key.namespace) {
            snapshot.context.routingDrops[key] = snapshot.context.dropCounters[key.namespace]?.only(key.family, of: packets)
        }
        for (namespace, packets) in untracked where !filtered.contains(namespace) {
            guard let counters = snapshot.context.dropCounters[namespace] else { continue }
            // Those whose entry could not be put in were lost elsewhere, at the end of their way through the namespace.
            let (all, late) = (counters[.ipv4, .untracked], counters[.ipv4, .insertionFailed])
            if all >= late, all - late >= packets { snapshot.context.trackingDrops.insert(namespace) }
        }
        return snapshot
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
