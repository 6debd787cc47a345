internal import TraceModel

/// A rule that would have accepted a dropped packet but for some of its conditions: inferred from the rules as they were read.
public struct NearestRule: Sendable, Hashable {
    public struct Failed: Sendable, Hashable {
        /// `--dport 443`
        public var condition: String
        /// The packet's value instead; `nil` where it had no such thing.
        public var packetValue: String?
    }

    /// As the tool printed it.
    public var rule: String
    /// The conditions that the packet did not meet.
    public var failed: [Failed]
    /// The conditions that cannot be checked: on states, marks and sets, or on something that no probe reported.
    public var undecided: [String]
}

extension NearestRule {
    /// The most that are told.
    private static let most = 3

    /// Of rules that accept, those that come closest to a packet which none of them accepted: fewest unmet conditions first.
    static func nearest(_ rules: [AcceptingRule], to packet: RuleMatch.Packet) -> [NearestRule] {
        var found: [NearestRule] = []
        for rule in rules {
            let failed = rule.match.failed(by: packet).map { Failed(condition: $0.text, packetValue: $0.value(of: packet)) }
            let undecided = rule.match.undecided(by: packet).map(\.text) + rule.others
            // One that accepts it was put in later.
            guard !failed.isEmpty || !undecided.isEmpty else { continue }
            found.append(NearestRule(rule: rule.text, failed: failed, undecided: undecided))
        }
        // Of two rules with as many conditions left, the one whose conditions certainly failed comes first.
        func order(_ one: (offset: Int, element: NearestRule)) -> (Int, Int, Int) {
            (one.element.failed.count + one.element.undecided.count, one.element.undecided.count, one.offset)
        }
        let sorted = found.enumerated().sorted { order($0) < order($1) }
        return sorted.prefix(most).map(\.element)
    }
}
