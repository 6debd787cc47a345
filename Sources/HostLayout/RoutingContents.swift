internal import TraceModel
internal import WireFormat

/// A namespace's routing rules and tables of one family, as far as they explain the kernel's answers.
struct RoutingContents {
    var routes: [RouteMessage] = []
    /// By priority, as the kernel goes through them.
    var rules: [PolicyRuleMessage] = []

    /// What the rules and tables say of a packet; all members are empty where a condition cannot be judged.
    struct Choice {
        var route: RouteMessage?
        var rule: PolicyRuleMessage?
        var failure: RoutingDecision.Failure?
        var passedOver: [RouteMessage] = []
    }

    /// Goes through the rules as the kernel does (`fib_rules_lookup` in net/core/fib_rules.c).
    func choice(_ lookup: RouteLookup, _ inInterface: String?) -> Choice {
        var index = 0
        while index < rules.count {
            let rule = rules[index]
            index += 1
            switch rule.matches(lookup, inInterface) {
            case nil: return Choice()
            case false?: continue
            case true?: break
            }
            switch rule.action {
            case .lookUp(let table):
                let fitting = routes(to: lookup, in: table)
                // RTN_THROW: the next rule decides.
                guard let best = fitting.first, best.type != 9 else { continue }
                if let most = rule.suppressedLength, best.destination.length <= most { continue }
                return Choice(
                    route: best, rule: rule, failure: best.failure,
                    passedOver: fitting.filter { $0.destination.length < best.destination.length })
            case .goTo(let priority):
                guard let next = rules[index...].firstIndex(where: { $0.priority >= priority }) else {
                    return Choice()
                }
                index = next
            case .nothing: continue
            case .blackhole: return Choice(rule: rule, failure: .blackhole)
            case .unreachable: return Choice(rule: rule, failure: .unreachable)
            case .prohibit: return Choice(rule: rule, failure: .prohibited)
            case .other: return Choice()
            }
        }
        return Choice(failure: .noRoute)
    }

    /// Longest prefix first, of equal ones that with the lowest metric.
    private func routes(to lookup: RouteLookup, in table: UInt32) -> [RouteMessage] {
        routes.filter {
            $0.table == table && $0.destination.contains(lookup.tuple.destination) && $0.typeOfService == 0
                && ($0.source.length == 0 || $0.source.contains(lookup.tuple.source))
        }.sorted { ($1.destination.length, $0.metric) < ($0.destination.length, $1.metric) }
    }
}

extension PolicyRuleMessage {
    /// - Returns: `nil` where it has conditions that cannot be judged.
    fileprivate func matches(_ lookup: RouteLookup, _ inInterface: String?) -> Bool? {
        let tuple = lookup.tuple
        func fits(_ prefix: AddressPrefix, _ address: IPAddress) -> Bool { prefix.length == 0 || prefix.contains(address) }
        func fits(_ ports: ClosedRange<UInt16>?, _ port: UInt16) -> Bool? {
            guard let ports else { return true }
            // A port that was left out may be any of those.
            return port == 0 && ports.upperBound >= 32_768 ? nil : ports.contains(port)
        }
        guard let source = fits(sourcePorts, tuple.sourcePort), let destination = fits(destinationPorts, tuple.destinationPort)
        else { return nil }
        let arrival = lookup.inInterface == 0 ? "lo" : inInterface
        let isMatch =
            fits(self.source, tuple.source) && fits(self.destination, tuple.destination) && source && destination
            && (self.inInterface == nil || self.inInterface == arrival) && outInterface == nil
            && (!hasMark || lookup.mark & markMask == mark & markMask)
            && (transport == nil || transport == tuple.transport)
        if hasOthers, isMatch { return nil }
        return isMatch != isInverted
    }

    /// As `ip rule` prints it.
    var text: String {
        func text(_ prefix: AddressPrefix) -> String { prefix.length == 0 ? "all" : "\(prefix)" }
        var words = ["\(priority):"]
        if isInverted { words.append("not") }
        words += ["from", text(source)]
        if destination.length > 0 { words += ["to", text(destination)] }
        if hasMark {
            let mask = markMask == .max ? "" : "/0x\(String(markMask, radix: 16))"
            words += ["fwmark", "0x\(String(mark, radix: 16))\(mask)"]
        }
        if let inInterface { words += ["iif", inInterface] }
        if let outInterface { words += ["oif", outInterface] }
        if let transport { words += ["ipproto", TransportProtocol.name(transport)] }
        func text(_ ports: ClosedRange<UInt16>) -> String {
            ports.count == 1 ? "\(ports.lowerBound)" : "\(ports.lowerBound)-\(ports.upperBound)"
        }
        if let sourcePorts { words += ["sport", text(sourcePorts)] }
        if let destinationPorts { words += ["dport", text(destinationPorts)] }
        switch action {
        case .lookUp(let table): words += ["lookup", RouteMessage.tableName(table)]
        case .goTo(let priority): words += ["goto", "\(priority)"]
        case .nothing: words.append("nop")
        case .blackhole: words.append("blackhole")
        case .unreachable: words.append("unreachable")
        case .prohibit: words.append("prohibit")
        case .other(let number): words.append("action \(number)")
        }
        if let suppressedLength { words += ["suppress_prefixlength", "\(suppressedLength)"] }
        return words.joined(separator: " ")
    }
}

extension RouteMessage {
    /// By `RTN_*`.
    private static let typeNames = [
        "unspecified", "unicast", "local", "broadcast", "anycast", "multicast", "blackhole", "unreachable", "prohibit", "throw",
        "nat",
    ]

    var typeName: String { Int(type) < Self.typeNames.count ? Self.typeNames[Int(type)] : "type \(type)" }

    fileprivate var failure: RoutingDecision.Failure? {
        switch type {
        case 6: .blackhole
        case 7: .unreachable
        case 8: .prohibited
        default: nil
        }
    }

    var tableName: String { Self.tableName(table) }

    static func tableName(_ number: UInt32) -> String {
        switch number {
        case 253: "default"
        case 254: "main"
        case 255: "local"
        default: "\(number)"
        }
    }
}
