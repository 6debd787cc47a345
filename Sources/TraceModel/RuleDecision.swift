/// A rule of a chain, or the chain's policy.
public struct RulePlace: Sendable, Hashable, Codable {
    /// The family of the table: `ip`, `ip6`, `inet`, `netdev`, `bridge`.
    public var tableFamily: String
    public var table: String
    public var chain: String
    /// nf_tables' number of the rule in its table, which no other rule gets later; `nil` for a policy, or where it is not known.
    public var handle: UInt64?
    /// Legacy rules have no lasting numbers: this one's in its chain, from 1 on, with our probes, which holds until the chain is
    /// changed. `nil` for nf_tables and for a policy.
    public var number: Int?
    public var backend: Backend

    public init(
        tableFamily: String, table: String, chain: String, handle: UInt64? = nil, number: Int? = nil, backend: Backend = .nft
    ) {
        self.number = number
        self.backend = backend
        self.tableFamily = tableFamily
        self.table = table
        self.chain = chain
        self.handle = handle
    }
}

/// A rule that accepts packets in the chain whose policy, or last rule, drops the rest.
public struct AcceptingRule: Sendable, Hashable, Codable {
    /// As the tool printed it.
    public var text: String
    /// Its conditions, with those of the jumps that lead to it, as far as a packet's headers and interfaces decide them.
    public var match: RuleMatch
    /// The other conditions, as the tool printed them: states, marks, sets, rates.
    public var others: [String]

    public init(text: String, match: RuleMatch, others: [String]) {
        self.text = text
        self.match = match
        self.others = others
    }
}

/// What ended a packet's way, as the kernel's rule trace says.
///
/// Immutable, and shared by all that it concerns: each journey has one or none, and most have none.
public final class RuleDecision: Sendable {
    public enum Kind: String, Sendable, Codable {
        case rule, policy
    }

    public let kind: Kind
    public let place: RulePlace
    /// The rule as the tool printed it; `nil` for a policy, and where the rule could not be read or is gone.
    public let text: String?
    /// Its number in its chain, from 1 on, without our probes; `nil` where it is not known.
    public let position: Int?
    /// The rules that led into the chain, first to last, from the hook's own chain on; empty where it is that one, or they are not known.
    public let way: [Jump]

    /// A rule that leads from one chain into another.
    public struct Jump: Sendable, Hashable, Codable {
        public var place: RulePlace
        /// As the tool printed it; `nil` where it could not be read or is gone.
        public var text: String?

        public init(_ place: RulePlace, text: String? = nil) {
            self.place = place
            self.text = text
        }
    }

    /// Why connection tracking calls the packets INVALID, in its own words: `bad checksum`; `nil` where it does not, or nobody has heard.
    public let invalidity: String?
    /// From what it is concluded; `nil` where a trace of the packet itself says so.
    public let inference: Inference?

    public enum Inference: Sendable {
        /// Rules that were given with a file: those of the packet's time may have been others.
        case givenRules
        /// Another packet of its connection was dropped by it: at this packet's time the rules may have been others.
        case otherPackets
    }

    /// Index into the layout's namespaces; `nil`: where the packet was last seen.
    public let namespace: Int?
    /// Where all packets are dropped that no rule accepted: the accepting rules before it, first to last, as they were read. Not compared
    /// by `==`.
    public let accepting: [AcceptingRule]

    public init(
        _ kind: Kind, at place: RulePlace, text: String? = nil, position: Int? = nil, namespace: Int? = nil,
        accepting: [AcceptingRule] = [], inference: Inference? = nil, way: [Jump] = [],
        invalidity: String? = nil
    ) {
        self.invalidity = invalidity
        self.way = way
        self.inference = inference
        self.namespace = namespace
        self.accepting = accepting
        self.kind = kind
        self.place = place
        self.text = text
        self.position = position
    }
}

extension RuleDecision {
    /// Whether the sender is told of the drop: the rule is a REJECT of iptables, or a `reject` of nf_tables.
    public var isReject: Bool { rejection != nil }

    /// What the rule has the kernel answer, in the rule's own words: `icmp-port-unreachable`, `tcp-reset` (iptables); `icmp
    /// port-unreachable`, `tcp reset` (nft); `port-unreachable` where the rule leaves it to the kernel. `nil` where it does not reject.
    public var rejection: String? {
        guard let text else { return nil }
        var words: [Substring] = []
        // What stands in quotes is a comment, a prefix or a set's name.
        for (index, part) in text.split(separator: "\"", omittingEmptySubsequences: false).enumerated() where index % 2 == 0 {
            words += part.split(separator: " ")
        }
        let kernel = "port-unreachable"
        if zip(words, words.dropFirst()).contains(where: { $0 == ("-j", "REJECT") }) {
            return zip(words, words.dropFirst()).first { $0.0 == "--reject-with" }.map { String($0.1) } ?? kernel
        }
        guard let start = words.firstIndex(of: "reject") else { return nil }
        var answer = words[(start + 1)...]
        guard answer.popFirst() == "with", let kind = answer.popFirst() else { return kernel }
        // Older versions of nft print `icmp type port-unreachable`.
        if answer.first == "type" { answer = answer.dropFirst() }
        return answer.first.map { "\(kind) \($0)" } ?? String(kind)
    }

    /// The same, of a packet that no trace tells of.
    public func inferred(from inference: Inference) -> RuleDecision {
        copy(way: way, invalidity: invalidity, inference: inference)
    }

    /// The same, with the rules that led into the chain.
    public func by(_ way: [Jump]) -> RuleDecision { copy(way: way, invalidity: invalidity, inference: inference) }

    /// The same, of packets that connection tracking calls INVALID for a reason.
    public func of(invalidity: String) -> RuleDecision { copy(way: way, invalidity: invalidity, inference: inference) }

    private func copy(way: [Jump], invalidity: String?, inference: Inference?) -> RuleDecision {
        RuleDecision(
            kind, at: place, text: text, position: position, namespace: namespace, accepting: accepting, inference: inference,
            way: way, invalidity: invalidity)
    }

    /// Whether both are of one rule or policy, whatever is known of its text. A number of iptables-legacy is another rule's once one is
    /// put before it, so that there the text counts.
    public func isSameRule(as other: RuleDecision) -> Bool {
        place == other.place && namespace == other.namespace && invalidity == other.invalidity
            && (place.backend == .nft || text == other.text)
    }
}

extension RuleDecision: Hashable {
    public static func == (one: RuleDecision, other: RuleDecision) -> Bool {
        one === other
            || one.kind == other.kind && one.place == other.place && one.text == other.text && one.position == other.position
                && one.namespace == other.namespace && one.invalidity == other.invalidity
    }

    public func hash(into hasher: inout Hasher) {
        hasher.combine(kind)
        hasher.combine(place)
    }
}

/// A packet that a rule trace shows to have been dropped.
public struct RuleDrop: Sendable {
    /// Without a fingerprint: a trace has no content.
    public var packet: Packet
    /// When the trace was received, in microseconds since 1970.
    public var time: Int64
    public var decision: RuleDecision

    public init(packet: Packet, time: Int64, decision: RuleDecision) {
        self.packet = packet
        self.time = time
        self.decision = decision
    }
}
