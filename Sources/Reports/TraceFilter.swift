internal import Aggregation
private import Foundation
internal import TraceModel

/// Which packets a report is about: one language for the command line and for HTTP.
///
/// A field may be given several times; then one of its values has to fit. All fields that are given have to fit.
public struct TraceFilter: Sendable {
    public enum Field: String, Sendable, CaseIterable {
        case limit, netns, proto, outcome, address, port, since, until
    }

    /// A point of time, or a span before the moment that the report is made for.
    enum Time: Sendable, Equatable {
        /// Microseconds since 1970.
        case moment(Int64)
        /// Microseconds.
        case before(Int64)

        func resolved(at now: Int64) -> Int64 {
            switch self {
            case .moment(let time): time
            case .before(let span): now - span
            }
        }
    }

    /// The most entries of a list.
    public var limit = 100
    /// Which page of the list; `nil` for the first one, of a list that is not read on.
    public var cursor: ListCursor?
    private(set) var namespaces: Set<String> = []
    private(set) var transports: Set<UInt8> = []
    private(set) var outcomes: Set<Outcome> = []
    private(set) var addresses: [AddressPrefix] = []
    private(set) var ports: Set<UInt16> = []
    private(set) var since: [Time] = []
    private(set) var until: [Time] = []
    /// As they were given, for a collector's query.
    public private(set) var words: [(field: Field, value: String)] = []

    public init(limit: Int = 100) { self.limit = limit }

    /// Adds one value.
    ///
    /// - Throws: `FilterProblem` for text that is none of the field's values.
    public mutating func add(_ field: Field, _ value: String) throws(FilterProblem) {
        switch field {
        case .limit:
            guard !words.contains(where: { $0.field == .limit }) else {
                throw FilterProblem(field, "is given twice; give it once")
            }
            guard let number = Int(value), (0...1_000_000).contains(number) else {
                throw FilterProblem(field, "is a number from 0 to 1000000")
            }
            limit = number
        case .netns:
            guard !value.isEmpty else { throw FilterProblem(field, "has no value") }
            namespaces.insert(value)
        case .proto:
            guard let number = TransportProtocol.number(value) else {
                throw FilterProblem(field, "is a protocol's name or number, such as tcp or 6")
            }
            transports.insert(number)
        case .outcome:
            guard let outcome = Outcome(name: value) else {
                throw FilterProblem(field, "is one of \(Outcome.allCases.map(\.name).joined(separator: ", "))")
            }
            outcomes.insert(outcome)
        case .address:
            guard let prefix = AddressPrefix(value) else {
                throw FilterProblem(field, "is an address or a prefix, such as 10.0.0.5, 10.0.0.0/8 or 2001:db8::/32")
            }
            addresses.append(prefix)
        case .port:
            guard let port = UInt16(value) else { throw FilterProblem(field, "is a number from 0 to 65535") }
            ports.insert(port)
        case .since: since.append(try Self.time(value, field))
        case .until: until.append(try Self.time(value, field))
        }
        words.append((field, value))
    }

    /// Reads `5m`, `2026-01-31T12:00:00Z`, or seconds since 1970.
    private static func time(_ text: String, _ field: Field) throws(FilterProblem) -> Time {
        let units: [Character: Int64] = ["s": 1, "m": 60, "h": 3600, "d": 86_400]
        if let unit = text.last.flatMap({ units[$0] }), let count = Int64(text.dropLast()), count >= 0 {
            let (span, isTooLong) = count.multipliedReportingOverflow(by: unit * 1_000_000)
            guard !isTooLong, span < 1 << 61 else { throw FilterProblem(field, "is too far away") }
            return .before(span)
        }
        let seconds =
            Double(text)
            ?? ((try? Date(text, strategy: .iso8601))
            ?? (try? Date(text, strategy: Date.ISO8601FormatStyle(includingFractionalSeconds: true))))?.timeIntervalSince1970
        guard let seconds else {
            throw FilterProblem(field, "is a time such as 2026-01-31T12:00:00Z, seconds since 1970, or a span such as 5m")
        }
        // A far-off year or a number like `1e300` has no place in 64 bits.
        guard let moment = Int64(exactly: (seconds * 1_000_000).rounded()) else {
            throw FilterProblem(field, "is too far away")
        }
        return .moment(moment)
    }
}

/// A filter that cannot be met, with the reason.
public struct FilterProblem: Error, CustomStringConvertible {
    public let field: TraceFilter.Field
    /// The fault, as a phrase that stands behind the field's name.
    public let text: String

    init(_ field: TraceFilter.Field, _ text: String) {
        self.field = field
        self.text = text
    }

    public var description: String { "\(field.rawValue) \(text)" }
}

// MARK: What a filter takes

extension TraceFilter {
    /// Whether addresses or ports are asked for.
    var namesEndpoints: Bool { !addresses.isEmpty || !ports.isEmpty }

    /// Whether a packet with these addresses and ports, seen at one step, is asked for.
    func admits(_ tuple: PacketTuple) -> Bool {
        admits(address: tuple.source, or: tuple.destination)
            && (ports.isEmpty || (!tuple.isICMP && (ports.contains(tuple.sourcePort) || ports.contains(tuple.destinationPort))))
    }

    private func admits(address one: IPAddress, or other: IPAddress) -> Bool {
        addresses.isEmpty || addresses.contains { $0.contains(one) || $0.contains(other) }
    }

    func admits(transport: UInt8) -> Bool { transports.isEmpty || transports.contains(transport) }

    func admits(_ outcome: Outcome) -> Bool { outcomes.isEmpty || outcomes.contains(outcome) }

    /// Whether a packet is asked for, by all but namespaces and times.
    ///
    /// - Parameter connections: of the packets that are asked for, whatever their addresses say (`PacketTuple.flow`).
    func admits(_ journey: Journey, of connections: Set<UInt64>) -> Bool {
        guard admits(journey.outcome), admits(transport: journey.packet.tuple.transport) else { return false }
        return !namesEndpoints || belongs(journey, to: connections)
    }

    /// Whether a packet has the addresses and ports that are asked for, or is of one of these connections; an ICMP error is of the one
    /// that it is about.
    func belongs(_ journey: Journey, to connections: Set<UInt64>) -> Bool {
        journey.tuples.contains { admits($0) || connections.contains($0.flow) } || connections.contains(journey.packet.flow)
    }

    func admits(netns: String) -> Bool { namespaces.isEmpty || namespaces.contains(netns) }

    /// Whether something that lasted from `first` to `last` overlaps with the time that is asked for.
    ///
    /// - Parameter now: the moment before which spans are counted, in microseconds since 1970.
    func admits(from first: Int64, to last: Int64, now: Int64) -> Bool {
        since.allSatisfy { last >= $0.resolved(at: now) } && until.allSatisfy { first <= $0.resolved(at: now) }
    }
}

extension TraceContext {
    /// Whether a way leads through a namespace that is asked for.
    func passes(_ legs: [StepPathID], _ filter: TraceFilter) -> Bool {
        filter.namespaces.isEmpty
            || legs.contains { leg in
                stepTrie.steps(of: leg).contains { step in
                    filter.admits(netns: layout.namespaces[layout.probes[Int(step.probe)].namespace].name)
                }
            }
    }
}

extension TraceSnapshot {
    /// Whether packets that a filter asks for took a path. Of a path with more addresses or ports than it notes, any may have
    /// been there.
    func admits(path index: Int, _ filter: TraceFilter) -> Bool {
        let path = paths[index]
        let counts = paths.counts(index)
        guard filter.admits(path.outcome), filter.admits(from: counts.firstSeen, to: counts.lastSeen, now: generatedAt),
            filter.transports.isEmpty || paths.protocols(index).contains(where: { filter.admits(transport: $0.transport) }),
            filter.ports.isEmpty || path.ports.count >= PathRecord.endpointLimit || !filter.ports.isDisjoint(with: path.ports)
        else { return false }
        let hasAddress =
            filter.addresses.isEmpty || path.addresses.count >= PathRecord.endpointLimit
            || path.addresses.contains { address in filter.addresses.contains { $0.contains(address) } }
        return hasAddress && context.passes(path.stepPaths, filter)
    }

    /// Whether packets that a filter asks for belong to a flow.
    func admits(_ flow: FlowRecord, _ filter: TraceFilter) -> Bool {
        let sides = [flow.original] + (flow.reply.map { [$0] } ?? [])
        guard filter.admits(transport: flow.original.tuple.transport),
            filter.admits(from: flow.firstSeen, to: flow.lastSeen, now: generatedAt),
            filter.outcomes.isEmpty || sides.contains(where: { side in filter.outcomes.contains { side.outcomes[$0] > 0 } }),
            !filter.namesEndpoints || hasEndpoints(flow, sides, filter)
        else { return false }
        return filter.namespaces.isEmpty
            || sides.flatMap(\.paths).contains { $0 < paths.count && context.passes(paths[$0].stepPaths, filter) }
    }

    /// Whether a flow has the addresses and ports that are asked for, before or behind a translation.
    private func hasEndpoints(_ flow: FlowRecord, _ sides: [FlowRecord.Side], _ filter: TraceFilter) -> Bool {
        if sides.contains(where: { filter.admits($0.tuple) }) { return true }
        // The destination of a connection behind DNAT is the server's, and its source behind SNAT the router's.
        var tuple = flow.original.tuple
        for translation in flow.translations.map(\.translation) {
            switch translation.kind {
            case .dnat: tuple = tuple.with(destination: translation.to, port: translation.toPort)
            case .snat: tuple = tuple.with(source: translation.to, port: translation.toPort)
            case .dnatReply, .snatReply: break
            }
            if filter.admits(tuple) { return true }
        }
        return false
    }

    /// Journeys that a filter asks for, with those of their connections, newest first.
    func chosenJourneys(_ filter: TraceFilter) -> (entries: ArraySlice<JourneyRecord>, next: String?) {
        var connections: Set<UInt64> = []
        if filter.namesEndpoints {
            for flow in flows where admits(flow, filter) {
                connections.insert(flow.original.tuple.flow)
                if let reply = flow.reply { connections.insert(reply.tuple.flow) }
            }
        }
        let chosen = journeys.reversed().lazy.filter { record in
            let journey = record.journey
            return filter.admits(journey, of: connections)
                && filter.admits(from: journey.firstSeen, to: journey.lastSeen, now: generatedAt)
                && context.passes(journey.legs.map(\.stepPath), filter)
        }
        // Without a cursor no more are looked for than are wanted.
        return filter.page(of: filter.cursor == nil ? Array(chosen.prefix(max(0, filter.limit))) : Array(chosen))
    }
}

extension Journey {
    /// The packet's addresses where it came into each namespace and where it left it.
    var tuples: [PacketTuple] { legs.flatMap { [$0.entry, $0.exit] } }
}

extension PacketTuple {
    /// - Parameter port: 0 where it stays.
    fileprivate func with(destination: IPAddress, port: UInt16) -> PacketTuple {
        PacketTuple(
            source: source, destination: destination, sourcePort: sourcePort,
            destinationPort: port == 0 ? destinationPort : port, transport: transport)
    }

    /// - Parameter port: 0 where it stays.
    fileprivate func with(source: IPAddress, port: UInt16) -> PacketTuple {
        PacketTuple(
            source: source, destination: destination, sourcePort: port == 0 ? sourcePort : port,
            destinationPort: destinationPort, transport: transport)
    }
}
