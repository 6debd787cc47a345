private import LinuxSupport
public import TraceModel

/// A network to learn from and to test with: plain commands and rules that anybody can read, traffic, and what must come of
/// it.
public struct LabNetwork: Sendable {
    public var name: String
    public var summary: String
    /// A drawing of it.
    public var drawing: String
    /// Run inside a sandbox, whose own namespace plays the host.
    public var commands: [[String]]
    public var rules: [RuleFile]
    /// What goes on in the background: servers.
    public var servers: [[String]]
    /// The namespaces that get probes.
    public var traced: [String]
    /// The family of the probes.
    public var family = AddressFamily.ipv4
    /// Options of `install-probes` beside that: `--sentinels`.
    public var extraProbeOptions: [String] = []
    /// Commands that send the traffic, once the probes are there.
    public var traffic: [Traffic]
    public var expected: [Expectation]
    /// Kinds of the findings that must come up, and no others.
    public var findings: Set<String> = []
    /// How connections must be shared out.
    public var shares: Shares?
    /// What of the kernel it needs that others do not.
    public var need: Need?
    /// This network with something added that makes it fail, or mends it.
    public var variants: [Variant]

    public struct Need: Sendable {
        /// Succeeds in a sandbox where the kernel has it.
        var command: [String]
        var what: String
    }

    /// Feature that the network needs and the kernel lacks.
    public struct Unmet: Error, CustomStringConvertible {
        public var description: String
    }

    public struct Variant: Sendable {
        public var name: String
        public var summary: String
        var commands: [[String]] = []
        /// `nil`: as without the variant; so for the traffic.
        var rules: [RuleFile]?
        var traffic: [Traffic]?
        var expected: [Expectation]
        var findings: Set<String> = []
        var shares: Shares?
        /// `nil`: as without the variant.
        var extraProbeOptions: [String]?
    }

    /// Options of `install-probes` beside the namespaces.
    public var probeOptions: [String] { ["--family", family.name] + extraProbeOptions }

    public func variant(named name: String) -> Variant? { variants.first { $0.name == name } }

    /// The network as a variant has it.
    public func with(_ variant: Variant?) -> LabNetwork {
        guard let variant else { return self }
        var changed = self
        changed.summary += ": \(variant.summary)"
        changed.commands += variant.commands
        changed.rules = variant.rules ?? rules
        changed.traffic = variant.traffic ?? traffic
        changed.expected = variant.expected
        changed.findings = variant.findings
        changed.shares = variant.shares
        changed.extraProbeOptions = variant.extraProbeOptions ?? extraProbeOptions
        return changed
    }

    /// Sets it up inside `sandbox`; throws `Unmet` where the kernel lacks a feature that it needs.
    public func setUp(in sandbox: Sandbox, variant: Variant? = nil) async throws {
        let network = with(variant)
        if let need, try await !sandbox.run(need.command).isSuccess {
            throw Unmet(description: "\(name) cannot be set up on this kernel, which lacks \(need.what)")
        }
        for command in network.commands { try await sandbox.require(command) }
        for file in network.rules { try await sandbox.require(file.command, input: file.text) }
    }
}

/// Rules of one namespace as iptables-restore reads them, from `rules/gallery`.
public struct RuleFile: Sendable {
    public var netns: String
    public var family: AddressFamily
    public var text: String

    /// - Parameter netns: `host` for the sandbox's own.
    init(_ netns: String, _ bytes: [UInt8], _ family: AddressFamily = .ipv4) {
        self.netns = netns
        self.family = family
        text = String(decoding: bytes, as: UTF8.self)
    }

    /// Adds the rules to those that are there.
    var command: [String] {
        (netns == "host" ? [] : ["ip", "netns", "exec", netns]) + [
            family == .ipv6 ? "ip6tables-restore" : "iptables-restore", "--noflush",
        ]
    }
}

/// Something that is sent.
public struct Traffic: Sendable {
    public var command: [String]
    /// Whether the command ends well.
    public var succeeds: Bool

    public init(_ command: String, succeeds: Bool = true) {
        self.command = command.split(separator: " ").map(String.init)
        self.succeeds = succeeds
    }
}

/// How many connections each server must get.
public struct Shares: Sendable {
    /// By address that DNAT gives.
    public var connections: [String: Int]
    /// Whether chance has a say, so that the numbers need only be likely.
    public var isByChance: Bool

    init(of connections: [String: Int], isByChance: Bool = false) {
        self.connections = connections
        self.isByChance = isByChance
    }

    /// Whether the counts are those expected: exactly, or, where chance decides, no less likely than one time in a thousand (Pearson's
    /// chi-squared test).
    public func isMet(by seen: [String: Int]) -> Bool {
        guard isByChance else { return seen == connections }
        guard seen.values.reduce(0, +) == connections.values.reduce(0, +), Set(seen.keys).isSubset(of: connections.keys) else {
            return false
        }
        let deviation = connections.reduce(0.0) { sum, expected in
            let difference = Double((seen[expected.key] ?? 0) - expected.value)
            return sum + difference * difference / Double(expected.value)
        }
        // The 0.999 quantiles for one to four degrees of freedom.
        let bounds = [10.83, 13.82, 16.27, 18.47]
        return deviation <= bounds[min(max(connections.count - 2, 0), bounds.count - 1)]
    }
}

/// A path that packets must have taken.
public struct Expectation: Sendable {
    public var transport: String
    /// As the packet was first seen; with a port, `10.0.2.15:80` or `[fd00::2]:80`, or without one.
    public var source: String
    public var destination: String
    public var outcome: String
    /// Where it was last seen, for `dropped`: `filter/FORWARD in host`.
    public var lastSeen: String?
    /// `dnat in host`, `snat in host`, …, or with the new address, `snat in host to 10.0.2.16`.
    public var translations: [String]
    /// The namespaces that it passed, one after the other: `guest, host, inet`; `nil`: whichever.
    public var through: String?
    /// Words of the reason, for `incomplete`.
    public var reason: String?

    /// What lies where it was lost, for `dropped`: `security/FORWARD`, `routing`.
    public var suspects: [String]?
    public var causes: [String] = []
    /// The cause that the kernel's counters tell, and the finding that says so; no recording has counters.
    public var counted: (cause: String, finding: String)?
    /// The finding, where the kernel may be asked why.
    public var told: String?
    /// The packet that carried it: `udp 10.1.0.2 → 10.2.0.2`.
    public var carrier: String?
    /// Chains that it passed, as paths are shown: `DOCKER (FORWARD)`.
    public var chains: [String] = []

    init(
        _ transport: String, _ source: String, _ destination: String, _ outcome: String, at lastSeen: String? = nil,
        _ translations: String..., through: String? = nil, because reason: String? = nil
    ) {
        self.through = through
        self.reason = reason
        self.transport = transport
        self.source = source
        self.destination = destination
        self.outcome = outcome
        self.lastSeen = lastSeen
        self.translations = translations
    }
}

extension Expectation {
    /// Names what lost it.
    func lost(in suspects: String..., because causes: String...) -> Expectation {
        var changed = self
        changed.suspects = suspects
        changed.causes = causes
        return changed
    }

    /// Names the cause that the kernel counts.
    func told(as finding: String) -> Expectation {
        var changed = self
        changed.told = finding
        return changed
    }

    func counted(as cause: String, finding: String) -> Expectation {
        var changed = self
        changed.counted = (cause, finding)
        return changed
    }

    func carried(by carrier: String) -> Expectation {
        var changed = self
        changed.carrier = carrier
        return changed
    }

    func passing(_ chains: String...) -> Expectation {
        var changed = self
        changed.chains = chains
        return changed
    }
}
