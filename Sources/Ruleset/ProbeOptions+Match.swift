internal import TraceModel

/// Where the match that probes are to have can stand.
extension ProbeOptions {
    /// Why no chain of a family can have the match; `nil` where that is not known.
    func obstacle(in family: AddressFamily) -> String? {
        // One option to `RuleConditions`, and one each to iptables and ip6tables.
        if let option = match.first(where: { $0 == (family == .ipv6 ? "--icmp-type" : "--icmpv6-type") }) {
            return "\(option) is of the other family"
        }
        for condition in RuleConditions(match).conditions {
            switch condition.option {
            case "-s", "-d", "--src-range", "--dst-range":
                let addresses = condition.arguments.first?.split(whereSeparator: { $0 == "," || $0 == "-" }) ?? []
                let families = Set(addresses.compactMap { AddressPrefix($0)?.address.family })
                if families.count == 1, families.first != family { return "the match has an address of the other family" }
            default: break
            }
        }
        return nil
    }

    /// Why iptables refuses the match in a chain; `nil` where it does not.
    func obstacle(inChain chain: String) -> String? {
        let options = Set(RuleConditions(match).conditions.map(\.option))
        switch Hook(name: chain) {
        case .output?, .postrouting?: return options.contains("-i") ? "packets have no input interface there" : nil
        case .prerouting?, .input?: return options.contains("-o") ? "packets have no output interface there" : nil
        case .forward?, nil: return nil
        }
    }

    /// Whether address translation may change the fields that the match looks at, so that one packet meets it in some chains only.
    public var dependsOnTranslation: Bool {
        if case .every(let condition, _) = ProbeSurvey.coverage(of: match) { return !condition.dependence.isEmpty }
        return false
    }
}
