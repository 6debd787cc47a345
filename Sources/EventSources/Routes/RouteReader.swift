internal import Engine
private import Foundation
internal import HostLayout
internal import LinuxSupport
internal import Logging
internal import TraceModel

/// Asks the routing tables of namespaces how packets are routed, and again when the tables have changed.
///
/// Works beside the event loop, which must not wait for the kernel's answers.
actor RouteReader {
    /// A followed namespace.
    struct Place: Sendable {
        var namespace: NetworkNamespace
        var watch: RouteWatch
    }

    private let logger: Logger
    private let places: @Sendable () -> [Int: Place]
    private let interfaces: @Sendable (Int) -> [UInt32: Interface]
    private let send: @Sendable (LoopMessage) -> Void
    /// By namespace, latest last; at most `mostKept` of each.
    private var lookups: [Int: [RouteLookup]] = [:]
    /// Namespaces whose answers have ceased to hold.
    private var stale: Set<Int> = []
    private var lastAsked: [Int: ContinuousClock.Instant] = [:]
    /// Namespaces that did not answer: said once.
    private var refused: Set<Int> = []

    /// Asked again after a change.
    private static let mostKept = 512
    /// A router's tables may change all the time: they are asked no more often than this.
    private static let interval = Duration.seconds(1)
    /// ENODEV
    private static let noSuchDevice: Int32 = 19

    /// - Parameters:
    ///   - places: the followed namespaces, by their indices in the layout.
    ///   - interfaces: of the namespace with an index.
    ///   - send: hands a message to the event loop.
    init(
        logger: Logger, places: @escaping @Sendable () -> [Int: Place],
        interfaces: @escaping @Sendable (Int) -> [UInt32: Interface], send: @escaping @Sendable (LoopMessage) -> Void
    ) {
        self.logger = logger
        self.places = places
        self.interfaces = interfaces
        self.send = send
    }

    /// Asks about packets for the first time.
    func look(up wanted: [RouteLookup]) {
        let places = places()
        for (index, group) in Dictionary(grouping: wanted, by: \.namespace) {
            guard let place = places[index] else { continue }
            lookups[index, default: []].append(contentsOf: group)
            let excess = (lookups[index]?.count ?? 0) - Self.mostKept
            if excess > 0 { lookups[index]?.removeFirst(excess) }
            ask(group, in: place, index)
        }
    }

    /// Looks for changes, and asks again where there were some.
    func follow() {
        let places = places()
        for (index, place) in places { _ = lookForChange(in: place, index) }
        for index in stale where lastAsked[index].map({ .now - $0 >= Self.interval }) != false {
            stale.remove(index)
            guard let place = places[index], let known = lookups[index] else { continue }
            lastAsked[index] = .now
            ask(known, in: place, index)
        }
    }

    private func lookForChange(in place: Place, _ index: Int) -> Bool {
        guard let time = place.watch.look() else { return false }
        send(.routesChanged(index, after: time))
        stale.insert(index)
        return true
    }

    private func tell(_ error: any Error, of place: Place, _ index: Int) {
        guard refused.insert(index).inserted else { return }
        logger.warning("how packets are routed in namespace \(place.namespace.name) is not told: \(error)")
    }

    private func ask(_ wanted: [RouteLookup], in place: Place, _ index: Int) {
        var found: [RouteLookup: RoutingDecision] = [:]
        let since = place.watch.steadySince
        let asked = EventLoop.clock()
        do {
            let tables = try RoutingTables(of: place.namespace, interfaces: interfaces(index))
            for lookup in wanted {
                do {
                    found[lookup] = try tables.decide(lookup)
                } catch  where error.code == Self.noSuchDevice {
                    // The interface by which such packets came is gone: there is nothing left to ask.
                } catch {
                    tell(error, of: place, index)
                }
            }
        } catch {
            tell(error, of: place, index)
        }
        // Answers that a change may have come between are worth nothing.
        let isOvertaken = lookForChange(in: place, index)
        logger.debug(
            "\(place.namespace.name): \(found.count) of \(wanted.count) routes told, for the time from \(since) on\(isOvertaken ? ", overtaken by a change" : "")"
        )
        guard !isOvertaken else { return }
        send(.routed(found, since: since, asked: asked))
    }
}
