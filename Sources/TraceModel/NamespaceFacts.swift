/// What of a namespace's settings and rules explains why packets vanish or go where they were not meant to.
public struct NamespaceFacts: Sendable, Equatable, Codable {
    /// A DNAT or REDIRECT rule of the nat table.
    public struct Redirection: Sendable, Equatable, Codable {
        public var family: AddressFamily
        /// `nil` in recordings of versions that did not write it.
        public var backend: Backend?
        /// The chain that the rule stands in.
        public var chain: String
        /// Conditions of the rule and of the jumps that lead to it; a rule that several ways lead to is several redirections.
        public var match: RuleMatch
        /// Whether the way begins in PREROUTING.
        public var isReachedFromPrerouting: Bool
        /// Whether the way begins in OUTPUT.
        public var isReachedFromOutput: Bool
        /// The arguments of a rule with all these conditions behind `-A OUTPUT`, without conditions that OUTPUT refuses; `nil` where that is no rule of
        /// the same meaning.
        public var outputArguments: [String]?
        /// Whether the rule takes a share of the connections only (`-m statistic`).
        public var sharesOut: Bool
        /// The one address that the rule sends packets to, as text; `nil` where it may be one of several.
        public var target: String?
        /// The rule as iptables-save prints it.
        public var text: String

        public init(
            family: AddressFamily, backend: Backend?, chain: String, match: RuleMatch, isReachedFromPrerouting: Bool,
            isReachedFromOutput: Bool, outputArguments: [String]?, sharesOut: Bool = false, target: String? = nil, text: String
        ) {
            self.target = target
            self.family = family
            self.backend = backend
            self.chain = chain
            self.match = match
            self.isReachedFromPrerouting = isReachedFromPrerouting
            self.isReachedFromOutput = isReachedFromOutput
            self.outputArguments = outputArguments
            self.sharesOut = sharesOut
            self.text = text
        }
    }

    /// A rule that no packet can reach, since one before it in its chain decides about all that it would match.
    public struct Shadow: Sendable, Equatable, Codable {
        public var family: AddressFamily
        /// `nil` in recordings of versions that did not write it.
        public var backend: Backend?
        public var table: String
        public var chain: String
        /// As iptables-save prints them.
        public var earlier: String
        public var later: String
        /// Whether the two would do the same, so that the later is merely of no use.
        public var isRedundant: Bool
        /// Conditions of the later rule.
        public var match: RuleMatch
        /// The arguments behind `-D chain` that delete the later rule and no other; `nil` unless deleting it certainly
        /// changes nothing.
        public var deletion: [String]?

        public init(
            family: AddressFamily, backend: Backend?, table: String, chain: String, earlier: String, later: String,
            isRedundant: Bool, match: RuleMatch, deletion: [String]?
        ) {
            self.family = family
            self.backend = backend
            self.table = table
            self.chain = chain
            self.earlier = earlier
            self.later = later
            self.isRedundant = isRedundant
            self.match = match
            self.deletion = deletion
        }
    }

    /// A built-in chain of iptables (of filter or nat alone in recordings of earlier versions): where a rule has to be put to be the
    /// first behind our probes, and what becomes of packets of established connections.
    public struct Chain: Sendable, Equatable, Codable {
        public var family: AddressFamily
        public var backend: Backend
        public var table: String
        public var name: String
        /// Number of our probes before all other rules.
        public var probesAtHead: Int
        /// Whether there are rules beside our probes.
        public var hasRules: Bool
        /// Whether a rule accepts packets of established connections, in the chain or in one that it jumps to.
        public var acceptsEstablished: Bool
        /// Whether the chain drops what no rule accepted, and nothing else drops packets in it.
        public var dropsTheRestOnly: Bool

        public init(
            family: AddressFamily, backend: Backend, table: String, name: String, probesAtHead: Int, hasRules: Bool,
            acceptsEstablished: Bool, dropsTheRestOnly: Bool
        ) {
            self.family = family
            self.backend = backend
            self.table = table
            self.name = name
            self.probesAtHead = probesAtHead
            self.hasRules = hasRules
            self.acceptsEstablished = acceptsEstablished
            self.dropsTheRestOnly = dropsTheRestOnly
        }
    }

    /// A base chain of nf_tables that is neither iptables' nor ours.
    public struct OtherChain: Sendable, Equatable, Codable {
        /// `nil`: of both (`inet`).
        public var family: AddressFamily?
        public var table: String
        public var name: String
        public var hook: NativeHook
        public var priority: Int32
        /// The interfaces of a chain at ingress or egress; `nil`: not for single interfaces.
        public var devices: [String]?

        public init(
            family: AddressFamily?, table: String, name: String, hook: NativeHook, priority: Int32, devices: [String]? = nil
        ) {
            self.devices = devices
            self.family = family
            self.table = table
            self.name = name
            self.hook = hook
            self.priority = priority
        }
    }

    /// A rule that drops packets which connection tracking calls INVALID, and the built-in chain that leads to it.
    public struct InvalidDrop: Sendable, Equatable, Codable {
        public var family: AddressFamily
        public var backend: Backend
        public var table: String
        public var chain: String
        /// The rule that asks for the state, as iptables-save prints it.
        public var rule: String

        public init(family: AddressFamily, backend: Backend, table: String, chain: String, rule: String) {
            self.family = family
            self.backend = backend
            self.table = table
            self.chain = chain
            self.rule = rule
        }
    }

    /// A table of nf_tables that carries packets of connections handed over to it (`flow add`) from one of its interfaces to another,
    /// past all chains.
    public struct Flowtable: Sendable, Equatable, Codable {
        /// `nil`: of both (`inet`).
        public var family: AddressFamily?
        public var table: String
        public var name: String
        public var devices: [String]

        public init(family: AddressFamily?, table: String, name: String, devices: [String]) {
            self.family = family
            self.table = table
            self.name = name
            self.devices = devices
        }
    }

    /// `net.ipv4.ip_forward`; `nil`: not known.
    public var forwardsIPv4: Bool?
    /// `net.ipv6.conf.all.forwarding`.
    public var forwardsIPv6: Bool?
    /// The most connections that are tracked (`net.netfilter.nf_conntrack_max`), while as many are; `nil` while there is room.
    public var fullConnectionTable: Int?
    /// Interfaces whose reverse-path filter is strict: the greater of `conf.all.rp_filter` and the interface's own is 1.
    public var strictInterfaces: Set<String> = []
    public var redirections: [Redirection] = []
    /// Whether nat holds any rules beside probes.
    public var translates = false
    /// Whether raw exempts packets from connection tracking.
    public var exemptsFromTracking = false
    /// Chains of filter with a rule for ESTABLISHED connections; only in recordings without `chains`.
    public var acceptsEstablished: Set<String> = []
    /// Built-in chains of filter and nat; `nil` in recordings of versions that did not write them.
    public var chains: [Chain]?
    public var otherChains: [OtherChain] = []
    public var flowtables: [Flowtable] = []
    /// `net.bridge.bridge-nf-call-iptables`: bridges hand the packets of their frames to the chains; `nil`: not known.
    public var filtersBridgedIPv4: Bool?
    /// `net.bridge.bridge-nf-call-ip6tables`.
    public var filtersBridgedIPv6: Bool?
    public var shadows: [Shadow] = []
    /// The first such rule of each built-in chain.
    public var invalidDrops: [InvalidDrop] = []
    /// Backends that hold rules beside probes.
    public var backends: Set<Backend> = []
    /// Probes of ours with other rules before them: `filter/INPUT`.
    public var coveredProbes: Set<String> = []
    /// Probes of ours that were installed and that no rule has any more: `filter/INPUT`.
    public var missingProbes: Set<String> = []

    public init() {}
}

extension NamespaceFacts {
    /// Facts that a recording lacks, since it was made before they were recorded, are taken as absent.
    public init(from decoder: any Decoder) throws {
        self.init()
        let values = try decoder.container(keyedBy: CodingKeys.self)
        func take<Value: Decodable>(_ key: CodingKeys, _ value: inout Value) throws {
            value = try values.decodeIfPresent(Value.self, forKey: key) ?? value
        }
        forwardsIPv4 = try values.decodeIfPresent(Bool.self, forKey: .forwardsIPv4)
        forwardsIPv6 = try values.decodeIfPresent(Bool.self, forKey: .forwardsIPv6)
        fullConnectionTable = try values.decodeIfPresent(Int.self, forKey: .fullConnectionTable)
        try take(.strictInterfaces, &strictInterfaces)
        try take(.redirections, &redirections)
        try take(.translates, &translates)
        try take(.exemptsFromTracking, &exemptsFromTracking)
        try take(.acceptsEstablished, &acceptsEstablished)
        chains = try values.decodeIfPresent([Chain].self, forKey: .chains)
        try take(.otherChains, &otherChains)
        try take(.flowtables, &flowtables)
        filtersBridgedIPv4 = try values.decodeIfPresent(Bool.self, forKey: .filtersBridgedIPv4)
        filtersBridgedIPv6 = try values.decodeIfPresent(Bool.self, forKey: .filtersBridgedIPv6)
        try take(.shadows, &shadows)
        try take(.invalidDrops, &invalidDrops)
        try take(.backends, &backends)
        try take(.coveredProbes, &coveredProbes)
        try take(.missingProbes, &missingProbes)
    }
}

/// What versions wrote that kept a rule's conditions as one text each, without negation.
private enum PlainConditions: String, CodingKey {
    case transport, source, destination, port

    private var subject: RuleMatch.Subject {
        switch self {
        case .transport: .transport
        case .source: .source
        case .destination: .destination
        case .port: .destinationPort
        }
    }

    /// - Parameter text: the rule, whose negated conditions are not known.
    static func match(of rule: String, from decoder: any Decoder) throws -> RuleMatch {
        let values = try decoder.container(keyedBy: PlainConditions.self)
        var match = RuleMatch(conditions: [], isPartial: rule.contains("!"))
        for key in [PlainConditions.transport, .source, .destination, .port] {
            let number = try? values.decode(UInt16.self, forKey: key)
            guard let value = try number.map({ "\($0)" }) ?? values.decodeIfPresent(String.self, forKey: key) else { continue }
            match.conditions.append(RuleMatch.Condition(subject: key.subject, values: [value], isNegated: false))
        }
        return match
    }
}

extension NamespaceFacts.Redirection {
    public init(from decoder: any Decoder) throws {
        let values = try decoder.container(keyedBy: CodingKeys.self)
        let text = try values.decode(String.self, forKey: .text)
        let chain = try values.decode(String.self, forKey: .chain)
        self.init(
            family: try values.decode(AddressFamily.self, forKey: .family),
            backend: try values.decodeIfPresent(Backend.self, forKey: .backend), chain: chain,
            match: try values.decodeIfPresent(RuleMatch.self, forKey: .match)
                ?? PlainConditions.match(of: text, from: decoder),
            isReachedFromPrerouting: try values.decodeIfPresent(Bool.self, forKey: .isReachedFromPrerouting)
                ?? (chain == "PREROUTING"),
            isReachedFromOutput: try values.decodeIfPresent(Bool.self, forKey: .isReachedFromOutput) ?? (chain != "PREROUTING"),
            outputArguments: try values.decodeIfPresent([String].self, forKey: .outputArguments),
            sharesOut: try values.decodeIfPresent(Bool.self, forKey: .sharesOut) ?? text.contains("-m statistic "),
            target: try values.decodeIfPresent(String.self, forKey: .target), text: text)
    }
}

extension NamespaceFacts.Shadow {
    public init(from decoder: any Decoder) throws {
        let values = try decoder.container(keyedBy: CodingKeys.self)
        let later = try values.decode(String.self, forKey: .later)
        self.init(
            family: try values.decode(AddressFamily.self, forKey: .family),
            backend: try values.decodeIfPresent(Backend.self, forKey: .backend),
            table: try values.decode(String.self, forKey: .table), chain: try values.decode(String.self, forKey: .chain),
            earlier: try values.decode(String.self, forKey: .earlier), later: later,
            isRedundant: try values.decode(Bool.self, forKey: .isRedundant),
            match: try values.decodeIfPresent(RuleMatch.self, forKey: .match)
                ?? PlainConditions.match(of: later, from: decoder),
            deletion: try values.decodeIfPresent([String].self, forKey: .deletion))
    }
}
