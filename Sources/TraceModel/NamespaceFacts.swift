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
    /// Backends that hold rules beside probes.
    public var backends: Set<Backend> = []
    /// Probes of ours with other rules before them: `filter/INPUT`.
    public var coveredProbes: Set<String> = []

    public init() {}
}
