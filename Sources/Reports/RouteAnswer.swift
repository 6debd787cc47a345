internal import Aggregation
internal import TraceModel

/// A routing decision on a packet's way, and what the routes of that namespace say of it: inferred, since they are asked afterwards.
public struct RouteAnswer: Codable, Sendable, Equatable {
    public var netns: String
    /// The packet's: `original` or `reply`.
    public var direction: String
    public var `protocol`: String
    // The packet as it was routed: behind the translation of PREROUTING or OUTPUT, before that of POSTROUTING.
    public var source: String
    public var destination: String
    public var sourcePort: Int?
    public var destinationPort: Int?
    /// The interface that it had come by; `null` for a packet that was sent there.
    @ExplicitNull public var `in`: String?
    public var mark: Int
    /// The entry of a routing table that fits, as `ip route get fibmatch` prints it.
    @ExplicitNull public var route: String?
    /// Why there is none, in the words of ip.
    @ExplicitNull public var error: String?
    public var evidence = "inferred"

    /// What `ip` is asked (ip-route(8)).
    public var words: [String] {
        var words = ["route", "get", "fibmatch", destination, "from", source]
        if let device = self.in { words += ["iif", device] }
        if mark != 0 { words += ["mark", "\(mark)"] }
        guard ["tcp", "udp", "sctp"].contains(self.protocol), let sourcePort, let destinationPort else { return words }
        return words + ["ipproto", self.protocol, "sport", "\(sourcePort)", "dport", "\(destinationPort)"]
    }

    /// `default via 10.0.2.2 dev eth0`; without what the kernel adds for itself.
    var brief: String? {
        guard let route else { return nil }
        var kept: [Substring] = []
        let words = route.split(separator: " ")
        for (index, word) in words.enumerated() {
            let before = index > 0 ? words[index - 1] : ""
            if index < 2 && !["proto", "scope", "src", "metric"].contains(word) || ["via", "dev", "table"].contains(word)
                || ["via", "dev", "table"].contains(before)
            {
                kept.append(word)
            }
        }
        return kept.joined(separator: " ")
    }
}

extension JourneyReport {
    /// The packet's routing decisions, to be asked for: one for each namespace that it was routed in.
    func routes() -> [RouteAnswer] {
        var visits: [[Step]] = []
        for step in steps {
            if let last = visits.last?.last, last.netns == step.netns, last.hook != "POSTROUTING" || step.hook == "POSTROUTING"
            {
                visits[visits.count - 1].append(step)
            } else {
                visits.append([step])
            }
        }
        return visits.compactMap { visit in
            let arrival = visit.last { $0.hook == "PREROUTING" }
            // A packet that was dropped before was not routed.
            if visit.allSatisfy({ $0.hook == "PREROUTING" }), droppedBetween?.suspects.contains("routing") != true {
                return nil
            }
            guard
                let routed = visit.first(where: { $0.hook == "FORWARD" || $0.hook == "INPUT" }) ?? arrival
                    ?? visit.last(where: { $0.hook == "OUTPUT" }),
                let source = routed.source, let destination = routed.destination
            else { return nil }
            return RouteAnswer(
                netns: routed.netns, direction: direction, protocol: self.protocol, source: source, destination: destination,
                sourcePort: routed.sourcePort, destinationPort: routed.destinationPort, in: arrival?.in,
                mark: (arrival ?? routed).mark ?? 0, route: nil, error: nil)
        }
    }
}
