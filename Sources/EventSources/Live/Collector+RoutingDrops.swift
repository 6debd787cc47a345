internal import Aggregation
internal import HostLayout
internal import Logging
internal import Synchronization
internal import TraceModel

extension Collector {
    /// A snapshot with the kernel's reason for packets that vanished where they are routed, where its counters tell one.
    ///
    /// The counters are read after the snapshot was made: they have counted all of its packets, and perhaps later ones.
    func withRoutingDrops(_ snapshot: TraceSnapshot) -> TraceSnapshot {
        let losses = snapshot.routingLosses
        guard !losses.isEmpty else { return snapshot }
        var snapshot = snapshot
        let places = state.withLock { $0.places }
        var risen: [Int: RoutingDropCounters] = [:]
        for index in Set(losses.keys.map(\.namespace)) {
            guard let place = places.indices.first(where: { indexing.index(of: $0) == index }),
                let namespace = places[place].namespace, let before = places[place].routingDrops
            else { continue }
            do {
                risen[index] = try RoutingDropReader.read(namespace).risen(since: before)
            } catch {
                logger.debug("the counters of \(places[place].name) cannot be read: \(error)")
            }
        }
        for (key, packets) in losses {
            snapshot.context.routingDrops[key] = risen[key.namespace]?.only(key.family, of: packets)
        }
        return snapshot
    }
}
