internal import Aggregation
internal import TraceModel

/// A routing decision on a packet's way, and what the routing tables of that namespace say of it: inferred, since the kernel is asked
/// afterwards. What does not fit the way that the packet took is left out.
public struct RoutingReport: Codable, Sendable, Equatable {
    /// Index of the first step behind it; the number of steps where it came no further.
    public var step: Int
    public var netns: String
    // The packet as it was routed: behind the translation of PREROUTING or OUTPUT, before that of POSTROUTING. Ports of the range that
    // connections take by chance are not asked with.
    public var source: String
    public var destination: String
    public var sourcePort: Int?
    public var destinationPort: Int?
    /// The interface that it had come by; `null` for a packet that was sent there.
    @ExplicitNull public var `in`: String?
    public var mark: Int
    /// The entry of a routing table that fits, as `ip route get fibmatch` prints it; where the packet goes nowhere, the entry that says so;
    /// `null` where it is not known.
    @ExplicitNull public var route: String?
    /// The table of that entry: `main`, `local`, `default`, or a number.
    @ExplicitNull public var table: String?
    /// The rule that led to the table, as `ip rule` prints it.
    @ExplicitNull public var rule: String?
    /// Entries of that table which fit, too, and have shorter prefixes, longest first; `null` where they are not known.
    @ExplicitNull public var passedOver: [String]?
    /// The source address that the entry gives packets which have none.
    @ExplicitNull public var preferredSource: String?
    /// Why the packet goes nowhere: `no route`, `unreachable`, `prohibited`, `blackhole`, `source refused`.
    @ExplicitNull public var error: String?
    /// `inferred`; `none` where nothing is known.
    public var evidence: String

    /// Whether the tables have been asked.
    public var isKnown: Bool { route != nil || error != nil }

    /// `default via 10.0.2.2 dev eth0`; `no route`; `prohibited by prohibit 10.0.0.0/8`; `nil` where nothing is known.
    public var text: String? {
        switch (route, error) {
        case (let route?, nil): route
        case (let route?, let error?): "\(error) by \(route)"
        case (nil, let error?): error
        case (nil, nil): nil
        }
    }

    /// `text` with the policy rule that chose the table, unless every machine has that rule, and the shorter prefixes passed over.
    var fullText: String? {
        guard let text else { return nil }
        var remarks: [String] = []
        if let rule, !Self.usualRules.contains(rule) { remarks.append("rule \(rule)") }
        if let passedOver, !passedOver.isEmpty { remarks.append("before \(passedOver.joined(separator: ", "))") }
        return remarks.isEmpty ? text : "\(text) (\(remarks.joined(separator: "; ")))"
    }

    private static let usualRules = [
        "0: from all lookup local", "32766: from all lookup main", "32767: from all lookup default",
    ]
}

extension TraceSnapshot {
    /// How the packets of a path were routed, by its example.
    func routing(ofPath index: Int) -> [RoutingReport] {
        let example = paths[index].example
        let last = paths.counts(index).lastSeen
        return routing(of: example, during: [last...last, example.journey.firstSeen...example.journey.lastSeen])
    }

    func routing(of record: JourneyRecord) -> [RoutingReport] {
        routing(of: record, during: [record.journey.firstSeen...max(record.journey.firstSeen, record.journey.lastSeen)])
    }

    /// - Parameter times: the first for which an answer holds counts.
    private func routing(of record: JourneyRecord, during times: [ClosedRange<Int64>]) -> [RoutingReport] {
        context.routingPoints(of: record).map { point in
            let decision = times.lazy.compactMap { routes.decision(of: point.lookup, during: $0) }.first
            return context.describe(point, decision.flatMap { context.fits($0, point) ? $0 : nil })
        }
    }
}

extension TraceContext {
    fileprivate func fits(_ decision: RoutingDecision, _ point: RoutingPoint) -> Bool {
        let isLocal = decision.route.map { ["local", "broadcast", "multicast", "anycast"].contains($0.type) } ?? false
        switch point.direction {
        case nil: return true
        // A route that there is does not explain the loss.
        case .nowhere?: return decision.failure != nil
        case .input?: return decision.failure == nil && isLocal
        case .out(let interface)?:
            let name = layout.interfaceName(interface, namespace: point.lookup.namespace)
            return decision.failure == nil
                && (isLocal && name == "lo" || decision.route?.nextHops.contains { $0.device == name } == true)
        }
    }

    fileprivate func describe(_ point: RoutingPoint, _ decision: RoutingDecision?) -> RoutingReport {
        let lookup = point.lookup
        let tuple = lookup.tuple
        return RoutingReport(
            step: point.step, netns: layout.namespaces[lookup.namespace].name, source: "\(tuple.source)",
            destination: "\(tuple.destination)", sourcePort: tuple.sourcePort == 0 ? nil : Int(tuple.sourcePort),
            destinationPort: tuple.destinationPort == 0 ? nil : Int(tuple.destinationPort),
            in: layout.interfaceName(lookup.inInterface, namespace: lookup.namespace), mark: Int(lookup.mark),
            route: decision?.route?.text, table: decision?.route?.table, rule: decision?.rule,
            passedOver: decision?.passedOver?.map(\.text), preferredSource: decision?.preferredSource,
            error: decision?.failure?.rawValue,
            evidence: decision == nil ? "none" : "inferred")
    }
}
