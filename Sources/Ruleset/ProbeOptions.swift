public import TraceModel

/// Which probes are to be installed.
public struct ProbeOptions: Sendable {
    public var families: [AddressFamily]
    /// Empty: all.
    public var tables: [Table]
    /// Empty: all built-in chains.
    public var chains: [String]
    public var match: [String]
    /// Reports one flow in so many.
    public var sample: FlowSample?
    public var includesUserChains: Bool
    /// Base chains of our own between the tables of iptables, too.
    public var includesSentinels: Bool
    public var target: ProbeRule.Target
    public var group: UInt16
    /// Seconds since 1970; `nil`: never.
    public var expires: Int64?

    public init(
        families: [AddressFamily] = AddressFamily.allCases, tables: [Table] = [], chains: [String] = [],
        match: [String] = [], sample: FlowSample? = nil, includesUserChains: Bool = false, includesSentinels: Bool = false,
        target: ProbeRule.Target = .nflog, group: UInt16 = 5,
        expires: Int64? = nil
    ) {
        self.families = families
        self.tables = tables
        self.chains = chains
        self.match = match
        self.sample = sample
        self.includesUserChains = includesUserChains
        self.includesSentinels = includesSentinels
        self.target = target
        self.group = group
        self.expires = expires
    }

    /// All that a probe's rule asks of a packet.
    func match(_ family: AddressFamily) -> [String] { match + (sample?.words(family) ?? []) }

    /// Splits and checks the argument of `--match`: match options alone, nothing that would make it another command.
    public static func parseMatch(_ text: String) throws(RulesetError) -> [String] {
        guard !text.unicodeScalars.contains(where: { $0.value < 32 || $0.value == 127 }) else {
            throw .invalidMatch(text, reason: "control characters are not allowed")
        }
        let words = try RuleWords.split(text)
        let forbidden: Set<String> = [
            "-j", "--jump", "-g", "--goto", "-t", "--table", "-A", "-I", "-D", "-R", "-F", "-X", "-P", "-N", "-E", "-L",
            "-S", "-Z", "-C", "--append", "--insert", "--delete", "--replace", "--flush", "--delete-chain", "--policy",
            "--new-chain", "--rename-chain", "--list", "--list-rules", "--zero", "--check", "-c", "--set-counters",
        ]
        // iptables takes long options by any unambiguous beginning and with "=".
        let abbreviated = ["--jump", "--goto", "--table"]
        func isForbidden(_ word: String) -> Bool {
            let option = String(word.prefix { $0 != "=" })
            return forbidden.contains(option)
                || (option.hasPrefix("--") && option.count > 3 && abbreviated.contains { $0.hasPrefix(option) })
        }
        if let word = words.first(where: isForbidden) {
            throw .invalidMatch(text, reason: "\(word) is not a match; only matches such as -p tcp --dport 80 go here")
        }
        return words
    }

    /// Chains made with nft may have names that iptables-restore cannot read back: too long (`XT_EXTENSION_MAXNAMELEN`), or with
    /// characters that its quoting is about. "<" stands between two chains in a prefix (`ProbePrefix`).
    static func canBeNamed(_ chain: String) -> Bool {
        chain.utf8.count <= 28 && !chain.isEmpty && !"-!:".contains(chain.prefix(1))
            && chain.utf8.allSatisfy { (0x21...0x7E).contains($0) && !"\"'\\<".utf8.contains($0) }
    }

    /// User-defined chains of `table` that are asked for and get no probe, since their names cannot be written.
    func unnamedChains(of table: Table, in content: RuleDump.TableContent?) -> [String] {
        guard includesUserChains else { return [] }
        return (content?.chains ?? []).map(\.name).filter {
            Hook(name: $0) == nil && !Self.canBeNamed($0) && (chains.isEmpty || chains.contains($0))
        }
    }

    /// The built-in and user-defined chains of `table` that get a probe, in the order of the table's hooks.
    func chains(of table: Table, in content: RuleDump.TableContent?) -> [String] {
        let builtIn = table.hooks.map(\.name)
        let user =
            includesUserChains
            ? (content?.chains ?? []).map(\.name).filter { Hook(name: $0) == nil && Self.canBeNamed($0) } : []
        return (builtIn + user).filter { chains.isEmpty || chains.contains($0) }
    }

    /// Whether packets are seen that come back to `chain` from `target`, a user-defined chain.
    func hasProbeBehindJump(from chain: String, to target: String) -> Bool {
        includesUserChains && self.target == .nflog && Self.canBeNamed(chain) && Self.canBeNamed(target)
            && (chains.isEmpty || chains.contains(chain))
    }

    /// The number of the protocol that every probe's match asks for (`-p`); 0 where it asks for none or for all but one.
    package var transport: UInt8 {
        guard let index = match.firstIndex(where: { $0 == "-p" || $0 == "--protocol" }), index + 1 < match.count,
            index == 0 || match[index - 1] != "!"
        else { return 0 }
        let numbers: [String: UInt8] = [
            "icmp": 1, "tcp": 6, "udp": 17, "gre": 47, "esp": 50, "ah": 51, "icmpv6": 58, "ipv6-icmp": 58, "sctp": 132,
            "dccp": 33, "udplite": 136, "igmp": 2,
        ]
        return numbers[match[index + 1].lowercased()] ?? UInt8(match[index + 1]) ?? 0
    }

    /// A rule that jumps to a user-defined chain, behind which packets that come back are seen.
    struct Jump {
        var chain: String
        /// The rule's number in its chain, from 1.
        var position: Int
        var target: String
    }

    /// The jumps of `table` that get a probe behind them, in the order of the rules. LOG prefixes have no room for them.
    func jumps(of table: Table, in content: RuleDump.TableContent?) -> [Jump] {
        guard includesUserChains, target == .nflog, let content else { return [] }
        let user = Set(content.chains.map(\.name).filter { Hook(name: $0) == nil })
        var positions: [String: Int] = [:]
        return content.rules.compactMap { rule in
            positions[rule.chain, default: 0] += 1
            // "-g" does not come back.
            guard let target = rule.argument(of: "-j"), user.contains(target),
                hasProbeBehindJump(from: rule.chain, to: target)
            else { return nil }
            return Jump(chain: rule.chain, position: positions[rule.chain] ?? 0, target: target)
        }
    }
}
