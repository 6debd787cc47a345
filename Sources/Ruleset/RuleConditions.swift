internal import TraceModel

/// What a rule asks of a packet, one condition for each option, for comparing rules with one another.
struct RuleConditions {
    fileprivate struct Condition: Hashable {
        var option: String
        var arguments: [String]
        var isNegated: Bool
    }

    private var conditions: [Condition] = []
    /// Whether it depends on more than the packet itself: rates, chance, time, what happened before.
    private(set) var isChangeable = false

    init(_ match: [String]) {
        var isNegated = false
        for word in match {
            if word == "!" {
                isNegated = true
            } else if word.hasPrefix("-"), word.count > 1, !word.dropFirst().allSatisfy(\.isNumber) {
                conditions.append(Condition(option: word, arguments: [], isNegated: isNegated))
                isNegated = false
            } else if let last = conditions.indices.last {
                conditions[last].arguments.append(word)
            }
        }
        // A module alone asks nothing; its options do, and so do those that need none.
        let plain: Set<String> = [
            "tcp", "udp", "udplite", "icmp", "icmp6", "sctp", "dccp", "comment", "multiport", "iprange", "conntrack", "state",
            "mark", "addrtype", "mac", "physdev", "tos", "dscp", "length", "ttl", "hl", "set", "pkttype",
        ]
        for condition in conditions where condition.option == "-m" {
            if !plain.contains(condition.arguments.first ?? "") { isChangeable = true }
        }
        conditions.removeAll { $0.option == "-m" || $0.option == "--comment" }
    }

    /// The first argument of an option that is not negated.
    func argument(_ option: String) -> String? {
        conditions.first { $0.option == option && !$0.isNegated }?.arguments.first
    }

    /// Whether every packet that meets `other` meets these as well. `false` where that is not certain.
    func includes(_ other: RuleConditions) -> Bool {
        guard !isChangeable else { return false }
        return conditions.allSatisfy { mine in
            other.conditions.contains { theirs in
                mine == theirs || (mine.option == theirs.option && mine.isWider(than: theirs))
            }
        }
    }
}

extension RuleConditions.Condition {
    fileprivate func isWider(than other: RuleConditions.Condition) -> Bool {
        guard !isNegated, !other.isNegated, let mine = arguments.first, let theirs = other.arguments.first,
            arguments.count == 1, other.arguments.count == 1
        else { return false }
        switch option {
        case "-s", "-d":
            guard let mine = AddressPrefix(mine), let theirs = AddressPrefix(theirs) else { return false }
            return mine.contains(theirs)
        case "--dport", "--sport":
            guard let mine = Self.ports(mine), let theirs = Self.ports(theirs) else { return false }
            return mine.lowerBound <= theirs.lowerBound && theirs.upperBound <= mine.upperBound
        case "-i", "-o":
            return mine.hasSuffix("+") && theirs.hasPrefix(mine.dropLast())
        default:
            return false
        }
    }

    private static func ports(_ text: String) -> ClosedRange<UInt16>? {
        let parts = text.split(separator: ":", omittingEmptySubsequences: false).map { UInt16($0) }
        guard let first = parts.first ?? nil, let last = parts.last ?? nil, parts.count <= 2, first <= last else { return nil }
        return first...last
    }
}
