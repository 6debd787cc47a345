package import Aggregation
package import TraceModel

/// The packets of a live trace that a filter asks for, one after another. A packet whose connection was chosen before is chosen too,
/// whatever a translation has made of its addresses.
package struct JourneySelection {
    /// Connections that are remembered, each as it looks in one place; past it all are forgotten.
    private static let mostConnections = 1 << 16

    private let filter: TraceFilter
    private let expression: (@Sendable (Journey) -> Bool)?
    /// By `PacketTuple.flow`.
    private var connections: Set<UInt64> = []

    /// - Parameters:
    ///   - filter: its times and limit are not looked at; its namespaces only by `takes(_:in:)`.
    ///   - expression: chooses packets one by one, of those that the filter chooses.
    package init(_ filter: TraceFilter, expression: (@Sendable (Journey) -> Bool)? = nil) {
        self.filter = filter
        self.expression = expression
    }

    /// Whether the packet is asked for, by all but the namespaces that it passed.
    package mutating func takes(_ journey: Journey) -> Bool {
        if let expression, !expression(journey) { return false }
        // By its endpoints first: a connection of which one packet is left out for its outcome is still the one that was asked for.
        guard filter.namesEndpoints else { return filter.admits(journey, of: []) }
        if filter.belongs(journey, to: connections) {
            if connections.count > Self.mostConnections { connections.removeAll(keepingCapacity: true) }
            connections.formUnion(journey.tuples.map(\.flow))
        }
        return filter.admits(journey, of: connections)
    }

    /// Whether the packet passed a namespace that is asked for.
    package func takes(_ record: JourneyRecord, in context: TraceContext) -> Bool {
        context.passes(record.journey.legs.map(\.stepPath), filter)
    }
}
