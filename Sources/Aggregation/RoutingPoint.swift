public import TraceModel

/// A place on a packet's way where its namespace routed it.
public struct RoutingPoint: Sendable {
    public var lookup: RouteLookup
    /// Index of the first step behind it, over the whole way; the number of steps where it came no further.
    public var step: Int
    /// Where it went, which what the tables say has to fit; `nil` where that is not known.
    public var direction: Direction?

    public enum Direction: Sendable, Equatable {
        /// To the namespace's own sockets.
        case input
        /// Out by the interface with this index.
        case out(UInt32)
        /// It was lost there. Its mark may have been another, where the last table of PREROUTING sets marks.
        case nowhere
    }
}

extension TraceContext {
    /// Where a packet was routed, first to last: between PREROUTING and INPUT or FORWARD, before OUTPUT, and once more where OUTPUT has
    /// changed its addresses or its mark. Places that events no longer kept would tell of are left out.
    public func routingPoints(of record: JourneyRecord) -> [RoutingPoint] {
        var points: [RoutingPoint] = []
        var before = 0
        for (index, leg) in record.journey.legs.enumerated() {
            let steps = stepTrie.steps(of: leg.stepPath)
            let details = index < record.details.count ? record.details[index] : []
            defer { before += steps.count }
            let missing = steps.count - min(steps.count, details.count)
            let visits = Visit.split(steps.map { layout.probes[Int($0.probe)].hook })
            for visit in visits where visit.range.lowerBound >= missing {
                let isLast = index == record.journey.legs.count - 1 && visit.range.upperBound == steps.count
                let seen = Array(details.suffix(steps.count))
                func detail(_ step: Int) -> StepDetail { seen[step - missing] }
                if visit.isArrival {
                    add(arrival: visit, steps, detail, leg, isLast ? record.journey : nil, before, to: &points)
                } else {
                    add(departure: visit, steps, detail, leg, before, to: &points)
                }
            }
        }
        return points
    }

    /// Steps in one namespace, from arrival or sending on.
    private struct Visit {
        var range: Range<Int>
        var hooks: [Hook]
        var isArrival: Bool

        func first(_ isWanted: (Hook) -> Bool) -> Int? { range.first { isWanted(hooks[$0]) } }
        func last(_ isWanted: (Hook) -> Bool) -> Int? { range.last { isWanted(hooks[$0]) } }

        /// What begins elsewhere, such as with the probes of FORWARD alone, is none.
        static func split(_ hooks: [Hook]) -> [Visit] {
            var visits: [Visit] = []
            var start = 0
            for index in 1..<max(1, hooks.count + 1) {
                let isEnd = index == hooks.count || hooks[index - 1] == .postrouting && hooks[index] != .postrouting
                guard isEnd, start < hooks.count else { continue }
                if hooks[start] == .prerouting || hooks[start] == .output {
                    visits.append(Visit(range: start..<index, hooks: hooks, isArrival: hooks[start] == .prerouting))
                }
                start = index
            }
            return visits
        }
    }

    /// - Parameter journey: where it ended here.
    private func add(
        arrival visit: Visit, _ steps: [Step], _ detail: (Int) -> StepDetail, _ leg: JourneyLeg, _ journey: Journey?,
        _ before: Int, to points: inout [RoutingPoint]
    ) {
        guard let arrival = visit.last({ $0 == .prerouting }) else { return }
        let interfaces = layout.namespaces[leg.namespace].interfaces
        let arrivedBy = steps[arrival].inInterface
        // Packets that come from the loopback interface have been routed where they were sent.
        guard arrivedBy != 0, interfaces[arrivedBy]?.name != "lo" else { return }
        // Of multicast that arrives no table of routes decides, but who has joined the group.
        guard !leg.entry.destination.isMulticast else { return }
        func lookup(_ tuple: PacketTuple, seenAt step: Int) -> RouteLookup {
            RouteLookup(namespace: leg.namespace, tuple: tuple, inInterface: arrivedBy, mark: detail(step).mark)
        }
        if let next = visit.first({ $0 == .input || $0 == .forward }) {
            let out = steps[next].outInterface
            // A bridge that hands its packets to the IP chains does not route them.
            if visit.hooks[next] == .forward, out == arrivedBy, interfaces[out]?.bridge != nil { return }
            let direction: RoutingPoint.Direction? =
                visit.hooks[next] == .input ? .input : out == 0 ? nil : .out(out)
            points.append(
                RoutingPoint(lookup: lookup(detail(next).tuple, seenAt: next), step: before + next, direction: direction))
        } else if let journey, journey.outcome == .dropped, journey.decision?.rule == nil,
            journey.expected.allSatisfy({ [.input, .forward].contains(layout.probes[Int($0)].hook) })
        {
            points.append(
                RoutingPoint(
                    lookup: lookup(leg.exit, seenAt: arrival), step: before + visit.range.upperBound, direction: .nowhere))
        }
    }

    private func add(
        departure visit: Visit, _ steps: [Step], _ detail: (Int) -> StepDetail, _ leg: JourneyLeg, _ before: Int,
        to points: inout [RoutingPoint]
    ) {
        func point(_ step: Int) -> RoutingPoint {
            let out = steps[step].outInterface
            return RoutingPoint(
                lookup: RouteLookup(
                    namespace: leg.namespace, tuple: detail(step).tuple, inInterface: 0, mark: detail(step).mark),
                step: before + step, direction: out == 0 ? nil : .out(out))
        }
        func isSame(_ one: Int, _ other: Int) -> Bool {
            let (one, other) = (detail(one), detail(other))
            return one.tuple.source == other.tuple.source && one.tuple.destination == other.tuple.destination
                && one.mark == other.mark
        }
        let first = visit.range.lowerBound
        points.append(point(first))
        // POSTROUTING's own changes come behind its first table.
        let last = visit.first { $0 == .postrouting } ?? visit.range.upperBound - 1
        guard let changed = visit.range.first(where: { $0 <= last && isSame($0, last) }), changed > first else { return }
        points.append(point(changed))
    }
}
