/// Conditions of a rule that a packet's addresses, ports, protocol and interfaces decide.
public struct RuleMatch: Sendable, Hashable, Codable {
    public enum Subject: String, Sendable, Hashable, Codable {
        case transport, source, destination, sourcePort, destinationPort, anyPort, inInterface, outInterface
        /// The destination's type (`-m addrtype --dst-type`), of which only `LOCAL` is understood.
        case destinationType
    }

    /// One condition; it holds if any of its values fits, or none where it is negated.
    public struct Condition: Sendable, Hashable {
        public let subject: Subject
        /// As iptables-save prints them: a prefix, an address range, a port, a port range, an interface pattern.
        public let values: [String]
        public let isNegated: Bool
        /// As the tool printed it, where that is not as iptables would.
        public let written: String?
        private let parsed: [Value]

        public init(subject: Subject, values: [String], isNegated: Bool, written: String? = nil) {
            self.written = written
            self.subject = subject
            self.values = values
            self.isNegated = isNegated
            parsed = values.map { Value($0, of: subject) }
        }
    }

    /// The values that conditions are compared with; `nil` for an unknown one.
    public struct Packet: Sendable {
        public var transport: UInt8
        public var source: IPAddress
        public var destination: IPAddress
        public var sourcePort: UInt16?
        public var destinationPort: UInt16?
        public var inInterface: String?
        public var outInterface: String?
        /// Whether the destination is an address of the machine itself.
        public var isLocal: Bool?

        public init(_ tuple: PacketTuple) {
            transport = tuple.transport
            source = tuple.source
            destination = tuple.destination
            if tuple.hasPorts {
                sourcePort = tuple.sourcePort
                destinationPort = tuple.destinationPort
            }
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

    /// The conditions that a packet does not meet, whatever the others are.
    public func failed(by packet: Packet) -> [Condition] { conditions.filter { $0.holds(for: packet) == false } }

    /// The conditions of which it cannot be told whether a packet meets them. Where the packet is of another protocol, those on ports
    /// ask for something that it does not have, and are left out.
    public func undecided(by packet: Packet) -> [Condition] {
        let isOfAnotherProtocol = conditions.contains { $0.subject == .transport && $0.holds(for: packet) == false }
        return conditions.filter { $0.holds(for: packet) == nil && !(isOfAnotherProtocol && $0.isOnPorts) }
    }

    /// Returns whether a condition on the destination that is not negated is part of the match.
    public var namesDestination: Bool {
        conditions.contains { ($0.subject == .destination || $0.subject == .destinationType) && !$0.isNegated }
    }
}

extension RuleMatch.Condition {
    fileprivate var isOnPorts: Bool { subject == .sourcePort || subject == .destinationPort || subject == .anyPort }

    /// As the rule's tool writes it: `--dport 443`, `! -i eth0`, `tcp dport 443`.
    public var text: String {
        if let written { return written }
        let option =
            switch subject {
            case .transport: "-p"
            case .source: "-s"
            case .destination: "-d"
            case .sourcePort: "--sport"
            case .destinationPort: "--dport"
            case .anyPort: "--ports"
            case .inInterface: "-i"
            case .outInterface: "-o"
            case .destinationType: "--dst-type"
            }
        return (isNegated ? "! " : "") + "\(option) \(values.joined(separator: ","))"
    }

    /// The packet's value that the condition compares; `nil` where it is not known.
    public func value(of packet: RuleMatch.Packet) -> String? {
        switch subject {
        case .transport: packet.transport == TransportProtocol.unknown ? nil : TransportProtocol.name(packet.transport)
        case .source: "\(packet.source)"
        case .destination: "\(packet.destination)"
        case .sourcePort: packet.sourcePort.map { "\($0)" }
        case .destinationPort: packet.destinationPort.map { "\($0)" }
        case .anyPort: packet.sourcePort.flatMap { source in packet.destinationPort.map { "\(source), \($0)" } }
        case .inInterface: packet.inInterface
        case .outInterface: packet.outInterface
        case .destinationType: packet.isLocal.map { $0 ? "LOCAL" : "not LOCAL" }
        }
    }
}

/// A value of a condition, read once.
private enum Value: Sendable, Hashable {
    case transport(UInt8)
    case prefix(AddressPrefix)
    case addresses(first: IPAddress, last: IPAddress)
    case ports(ClosedRange<Int>)
    case interface(String)
    /// What begins as the name does.
    case interfaces(String)
    case localAddress
    /// Of no form that is understood.
    case unknown

    init(_ text: String, of subject: RuleMatch.Subject) {
        self = .unknown
        switch subject {
        case .transport:
            if let number = TransportProtocol.number(text) { self = .transport(number) }
        case .source, .destination:
            let ends = text.split(separator: "-", omittingEmptySubsequences: false).map { IPAddress($0) }
            if let prefix = AddressPrefix(text) {
                self = .prefix(prefix)
            } else if ends.count == 2, let first = ends[0], let last = ends[1], first.family == last.family {
                self = .addresses(first: first, last: last)
            }
        case .sourcePort, .destinationPort, .anyPort:
            if let range = RuleMatch.ports(text) { self = .ports(range) }
        case .inInterface, .outInterface:
            self = text.hasSuffix("+") ? .interfaces(String(text.dropLast())) : .interface(text)
        case .destinationType:
            if text == "LOCAL" { self = .localAddress }
        }
    }

    func contains(_ address: IPAddress) -> Bool? {
        switch self {
        case .prefix(let prefix): prefix.contains(address)
        case .addresses(let first, let last):
            first.family == address.family ? (first...last).contains(address) : nil
        default: nil
        }
    }

    func contains(_ port: UInt16?) -> Bool? {
        guard case .ports(let range) = self, let port else { return nil }
        return range.contains(Int(port))
    }

    func fits(interface name: String?) -> Bool? {
        guard let name else { return nil }
        return switch self {
        case .interface(let own): name == own
        case .interfaces(let beginning): name.hasPrefix(beginning)
        default: nil
        }
    }
}

extension RuleMatch.Condition {
    fileprivate func holds(for packet: RuleMatch.Packet) -> Bool? {
        var isKnown = true
        for value in parsed {
            switch fits(value, packet) {
            case true?: return !isNegated
            case false?: break
            case nil: isKnown = false
            }
        }
        return isKnown ? isNegated : nil
    }

    private func fits(_ value: Value, _ packet: RuleMatch.Packet) -> Bool? {
        switch subject {
        case .transport:
            if case .transport(let number) = value, packet.transport != TransportProtocol.unknown {
                number == packet.transport
            } else {
                nil
            }
        case .source: value.contains(packet.source)
        case .destination: value.contains(packet.destination)
        case .sourcePort: value.contains(packet.sourcePort)
        case .destinationPort: value.contains(packet.destinationPort)
        case .anyPort:
            switch (value.contains(packet.sourcePort), value.contains(packet.destinationPort)) {
            case (true?, _), (_, true?): true
            case (false?, false?): false
            default: nil
            }
        case .inInterface: value.fits(interface: packet.inInterface)
        case .outInterface: value.fits(interface: packet.outInterface)
        case .destinationType: value == .localAddress ? packet.isLocal : nil
        }
    }
}

/// Recordings have the values as text.
extension RuleMatch.Condition: Codable {
    private enum CodingKeys: CodingKey {
        case subject, values, isNegated, written
    }

    public init(from decoder: any Decoder) throws {
        let container = try decoder.container(keyedBy: CodingKeys.self)
        self.init(
            subject: try container.decode(RuleMatch.Subject.self, forKey: .subject),
            values: try container.decode([String].self, forKey: .values),
            isNegated: try container.decode(Bool.self, forKey: .isNegated),
            written: try container.decodeIfPresent(String.self, forKey: .written))
    }

    public func encode(to encoder: any Encoder) throws {
        var container = encoder.container(keyedBy: CodingKeys.self)
        try container.encode(subject, forKey: .subject)
        try container.encode(values, forKey: .values)
        try container.encode(isNegated, forKey: .isNegated)
        try container.encodeIfPresent(written, forKey: .written)
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
