private import Foundation
package import TraceModel

/// What the routing tables of a namespace said of packets, as recordings hold it.
package struct RecordedRoute: Equatable, Sendable {
    /// In microseconds since 1970: when the namespace's routes had changed last, and when they were asked.
    package var since: Int64
    package var asked: Int64
    package var tuple: PacketTuple
    package var inInterface: UInt32
    package var mark: UInt32
    /// JSON of `RoutingDecision`.
    package var decision: [UInt8]

    package init(since: Int64, asked: Int64, tuple: PacketTuple, inInterface: UInt32, mark: UInt32, decision: [UInt8]) {
        self.since = since
        self.asked = asked
        self.tuple = tuple
        self.inInterface = inInterface
        self.mark = mark
        self.decision = decision
    }

    /// - Returns: `nil` for what no JSON can hold.
    package init?(_ decision: RoutingDecision, of lookup: RouteLookup, since: Int64, asked: Int64) {
        let encoder = JSONEncoder()
        encoder.outputFormatting = .sortedKeys
        guard let json = try? encoder.encode(decision) else { return nil }
        self.init(
            since: since, asked: asked, tuple: lookup.tuple, inInterface: lookup.inInterface, mark: lookup.mark,
            decision: Array(json))
    }

    /// - Parameter namespace: index in the layout.
    /// - Throws: where its JSON is damaged.
    package func restored(namespace: Int) throws -> (lookup: RouteLookup, decision: RoutingDecision) {
        (
            RouteLookup(namespace: namespace, tuple: tuple, inInterface: inInterface, mark: mark),
            try JSONDecoder().decode(RoutingDecision.self, from: Data(decision))
        )
    }
}
