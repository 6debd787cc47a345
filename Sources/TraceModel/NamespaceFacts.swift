/// What of a namespace's settings and rules explains why packets vanish or go where they were not meant to.
public struct NamespaceFacts: Sendable, Equatable, Codable {
    /// A rule of the nat table that sends packets elsewhere.
    public struct Redirection: Sendable, Equatable, Codable {
        public var family: AddressFamily
        public var chain: String
        /// As in `-d`, without a mask that covers one address; `nil`: any.
        public var destination: String?
        /// As in `--dport`; `nil`: any.
        public var port: UInt16?
        /// The rule as iptables-save prints it.
        public var text: String

        public init(family: AddressFamily, chain: String, destination: String?, port: UInt16?, text: String) {
            self.family = family
            self.chain = chain
            self.destination = destination
            self.port = port
            self.text = text
        }
    }

    /// A rule that no packet can reach, since one before it in its chain decides about all that it would match.
    public struct Shadow: Sendable, Equatable, Codable {
        public var family: AddressFamily
        public var table: String
        public var chain: String
        /// As iptables-save prints them.
        public var earlier: String
        public var later: String
        /// The earlier rule's number in its chain, from 1.
        public var number: Int
        /// Whether the two would do the same, so that the later is merely of no use.
        public var isRedundant: Bool
        /// What the later rule asks of a packet, as far as it is this: `-p`, `-s`, `-d`, `--dport`.
        public var transport: String?
        public var source: String?
        public var destination: String?
        public var port: String?

        public init(
            family: AddressFamily, table: String, chain: String, earlier: String, later: String, number: Int,
            isRedundant: Bool, transport: String?, source: String?, destination: String?, port: String?
        ) {
            self.family = family
            self.table = table
            self.chain = chain
            self.earlier = earlier
            self.later = later
            self.number = number
            self.isRedundant = isRedundant
            self.transport = transport
            self.source = source
            self.destination = destination
            self.port = port
        }
    }

    /// A base chain of nf_tables that is neither iptables' nor ours.
    public struct OtherChain: Sendable, Equatable, Codable {
        /// `nil`: of both (`inet`).
        public var family: AddressFamily?
        public var table: String
        public var name: String
        /// As iptables spells it.
        public var hook: String
        public var priority: Int32

        public init(family: AddressFamily?, table: String, name: String, hook: String, priority: Int32) {
            self.family = family
            self.table = table
            self.name = name
            self.hook = hook
            self.priority = priority
        }
    }

    /// `net.ipv4.ip_forward`; `nil`: not known.
    public var forwardsIPv4: Bool?
    /// `net.ipv6.conf.all.forwarding`.
    public var forwardsIPv6: Bool?
    /// Interfaces whose reverse-path filter is strict: the greater of `conf.all.rp_filter` and the interface's own is 1.
    public var strictInterfaces: Set<String> = []
    public var redirections: [Redirection] = []
    /// Whether nat holds any rules beside probes.
    public var translates = false
    /// Whether raw exempts packets from connection tracking.
    public var exemptsFromTracking = false
    /// Chains of filter with a rule for ESTABLISHED connections.
    public var acceptsEstablished: Set<String> = []
    public var otherChains: [OtherChain] = []
    public var shadows: [Shadow] = []
    /// Backends that hold rules beside probes.
    public var backends: Set<Backend> = []
    /// Probes of ours with other rules before them: `filter/INPUT`.
    public var coveredProbes: Set<String> = []
    /// Probes of ours that were installed and that no rule has any more: `filter/INPUT`.
    public var missingProbes: Set<String> = []

    public init() {}
}

extension NamespaceFacts {
    /// What a recording does not say, because it was made before there was such a thing, is as if there were none.
    public init(from decoder: any Decoder) throws {
        self.init()
        let values = try decoder.container(keyedBy: CodingKeys.self)
        func take<Value: Decodable>(_ key: CodingKeys, _ value: inout Value) throws {
            value = try values.decodeIfPresent(Value.self, forKey: key) ?? value
        }
        forwardsIPv4 = try values.decodeIfPresent(Bool.self, forKey: .forwardsIPv4)
        forwardsIPv6 = try values.decodeIfPresent(Bool.self, forKey: .forwardsIPv6)
        try take(.strictInterfaces, &strictInterfaces)
        try take(.redirections, &redirections)
        try take(.translates, &translates)
        try take(.exemptsFromTracking, &exemptsFromTracking)
        try take(.acceptsEstablished, &acceptsEstablished)
        try take(.otherChains, &otherChains)
        try take(.shadows, &shadows)
        try take(.backends, &backends)
        try take(.coveredProbes, &coveredProbes)
        try take(.missingProbes, &missingProbes)
    }
}
