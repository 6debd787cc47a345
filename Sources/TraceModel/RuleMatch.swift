/// Conditions of a rule that a packet's addresses, ports, protocol and interfaces decide.
public struct RuleMatch: Sendable, Hashable, Codable {
    public enum Subject: String, Sendable, Hashable, Codable {
        case transport, source, destination, sourcePort, destinationPort, anyPort, inInterface, outInterface
        /// The destination's type (`-m addrtype --dst-type`), of which only `LOCAL` is understood.
        case destinationType
    }

    /// One condition; it holds if any of its values fits, or none where it is negated.
    public struct Condition: Sendable, Hashable, Codable {
        public var subject: Subject
        /// As iptables-save prints them: a prefix, an address range, a port, a port range, an interface pattern.
        public var values: [String]
        public var isNegated: Bool

        public init(subject: Subject, values: [String], isNegated: Bool) {
            self.subject = subject
            self.values = values
            self.isNegated = isNegated
        }
    }

    /// The values that conditions are compared with; `nil` for an unknown one.
    public struct Packet: Sendable {
        public var transport: String
        public var source: String
        public var destination: String
        public var sourcePort: Int?
        public var destinationPort: Int?
        public var inInterface: String?
        public var outInterface: String?
        /// Whether the destination is an address of the machine itself.
        public var isLocal: Bool?

        public init(
            transport: String, source: String, destination: String, sourcePort: Int? = nil, destinationPort: Int? = nil,
            inInterface: String? = nil, outInterface: String? = nil, isLocal: Bool? = nil
        ) {
            self.transport = transport
            self.source = source
            self.destination = destination
            self.sourcePort = sourcePort
            self.destinationPort = destinationPort
            self.inInterface = inInterface
            self.outInterface = outInterface
            self.isLocal = isLocal
        }
    }

    public var conditions: [Condition]
    /// Whether the rule has further conditions, such as marks, states or sets.
    public var isPartial: Bool

    public init(conditions: [Condition], isPartial: Bool) {
        self.conditions = conditions
        self.isPartial = isPartial
    }

    /// Tells whether a packet meets the rule's conditions; `nil` where that cannot be told.
    public func admits(_ packet: Packet) -> Bool? {
        var isCertain = !isPartial
        for condition in conditions {
            switch condition.holds(for: packet) {
            case true?: break
            case false?: return false
            case nil: isCertain = false
            }
        }
        return isCertain ? true : nil
    }

    /// Returns whether a condition on the destination that is not negated is part of the match.
    public var namesDestination: Bool {
        conditions.contains { ($0.subject == .destination || $0.subject == .destinationType) && !$0.isNegated }
    }
}

extension RuleMatch.Condition {
    fileprivate func holds(for packet: RuleMatch.Packet) -> Bool? {
        var isKnown = true
        for value in values {
            switch fits(value, packet) {
            case true?: return !isNegated
            case false?: break
            case nil: isKnown = false
            }
        }
        return isKnown ? isNegated : nil
    }

    private func fits(_ value: String, _ packet: RuleMatch.Packet) -> Bool? {
        switch subject {
        case .transport: value == packet.transport
        case .source: Self.address(packet.source, isIn: value)
        case .destination: Self.address(packet.destination, isIn: value)
        case .sourcePort: Self.port(packet.sourcePort, isIn: value)
        case .destinationPort: Self.port(packet.destinationPort, isIn: value)
        case .anyPort:
            switch (Self.port(packet.sourcePort, isIn: value), Self.port(packet.destinationPort, isIn: value)) {
            case (true?, _), (_, true?): true
            case (false?, false?): false
            default: nil
            }
        case .inInterface: packet.inInterface.map { Self.interface($0, fits: value) }
        case .outInterface: packet.outInterface.map { Self.interface($0, fits: value) }
        case .destinationType: value == "LOCAL" ? packet.isLocal : nil
        }
    }

    private static func address(_ text: String, isIn value: String) -> Bool? {
        guard let address = IPAddress(text) else { return nil }
        if let prefix = AddressPrefix(value) { return prefix.contains(address) }
        let ends = value.split(separator: "-", omittingEmptySubsequences: false).map { IPAddress($0) }
        guard ends.count == 2, let first = ends[0], let last = ends[1], first.family == address.family,
            last.family == address.family
        else { return nil }
        return (first.high, first.low) <= (address.high, address.low) && (address.high, address.low) <= (last.high, last.low)
    }

    private static func port(_ port: Int?, isIn value: String) -> Bool? {
        guard let port, let range = RuleMatch.ports(value) else { return nil }
        return range.contains(port)
    }

    private static func interface(_ name: String, fits pattern: String) -> Bool {
        pattern.hasSuffix("+") ? name.hasPrefix(pattern.dropLast()) : name == pattern
    }
}

extension RuleMatch {
    /// Reads `80`, `8000:8010`, `:1023` or `1024:`; `nil` for anything else, such as the name of a service.
    public static func ports(_ text: String) -> ClosedRange<Int>? {
        let parts = text.split(separator: ":", omittingEmptySubsequences: false)
        guard parts.count <= 2, let low = parts.first, let high = parts.last, !(low.isEmpty && high.isEmpty) else { return nil }
        guard let first = low.isEmpty ? 0 : UInt16(low), let last = high.isEmpty ? .max : UInt16(high), first <= last else {
            return nil
        }
        return Int(first)...Int(last)
    }
}
