private import Foundation
public import LinuxSupport
public import TraceModel

/// Reads from the rules in force which probes there are: ours, and every other LOG or NFLOG rule.
public struct ProbeSurvey: Sendable {
    private let iptables: Iptables

    public init() async throws { iptables = try await Iptables.discover() }

    /// A probe as it was found.
    public struct Found: Sendable {
        public var probe: Probe
        public var target: ProbeRule.Target
        /// The NFLOG group; 0 for LOG.
        public var group: UInt16
        /// Packets that the rule has counted.
        public var packets: UInt64
        /// The run that installed it, where it is ours.
        public var run: String?
        /// Whether nothing but other probes stands before it in its chain, or before it behind the jump that it belongs to.
        public var isAtHead: Bool

        /// Whether the kernel has made it inert.
        public var isExpired: Bool {
            guard case .every(_, let until?) = probe.coverage else { return false }
            return until <= Int64(Date().timeIntervalSince1970)
        }
    }

    /// Probes and facts from the rules of one namespace.
    public struct Result: Sendable {
        public var probes: [Found] = []
        /// Whether a rule needs connection tracking, so that the kernel has it on here. It may be on without one.
        public var tracksConnections = false
        /// Whether a table holds rules beside probes.
        public var hasRules = false
        /// Built-in chains with rules beside probes, or with a policy other than ACCEPT.
        public var decidingChains: Set<BuiltInChain> = []
        /// Facts from the rules, without settings.
        public var facts = NamespaceFacts()

        package init() {}
    }

    /// - Parameters:
    ///   - index: the namespace's index in the layout.
    ///   - journals: tell what probes match whose table iptables-save does not print.
    public func survey(_ namespace: NetworkNamespace, index: Int, journals: [ProbeJournal]) async throws -> Result {
        var result = Result()
        var listing = NFTablesListing()
        if iptables.backends.contains(.nft) { listing = try NFTablesListing.read(in: namespace) }
        for family in AddressFamily.allCases {
            for backend in iptables.backends {
                let dump =
                    backend == .nft
                    ? try await iptables.saveNFTables(family, in: namespace, known: listing)?.dump
                    : try await iptables.save(family, backend, in: namespace)
                for content in dump?.tables ?? [] {
                    guard let table = content.table else { continue }
                    Self.survey(content, table, family, backend, namespace: index, journals: journals, into: &result)
                }
            }
        }
        result.facts.otherChains = listing.otherChains
        result.facts.flowtables = listing.offloads
        for table in SentinelTable.present(in: listing.tables) {
            result.probes += try await SentinelTable.survey(table.family, run: table.run, in: namespace, index: index)
        }
        return result
    }

    /// The part that needs no kernel: the rules of one table.
    package static func survey(
        _ content: RuleDump.TableContent, _ table: Table, _ family: AddressFamily, _ backend: Backend, namespace: Int,
        journals: [ProbeJournal] = [], into result: inout Result
    ) {
        func decides(_ chain: String) {
            guard let hook = Hook(name: chain), table.hooks.contains(hook) else { return }
            result.decidingChains.insert(BuiltInChain(family: family, table: table, hook: hook, backend: backend))
        }
        for chain in content.chains where chain.policy != "ACCEPT" { decides(chain.name) }
        let hooks = hooksOfChains(content, table)
        var belowOthers: Set<String> = []
        // The rule that came last in each chain, probes aside.
        var before: [String: RuleDump.Rule] = [:]
        result.facts.note(content, table, family, backend, hooks: hooks)
        for rule in content.rules {
            guard let prefix = rule.logPrefix else {
                belowOthers.insert(rule.chain)
                before[rule.chain] = rule
                result.facts.note(rule, table, family, backend)
                decides(rule.chain)
                result.hasRules = true
                if needsConntrack(rule) { result.tracksConnections = true }
                continue
            }
            if needsConntrack(rule) { result.tracksConnections = true }
            let backFrom = rule.ownPrefix?.backFrom
            let isAtHead = !belowOthers.contains(rule.chain)
            // The name in a prefix may be cut.
            let isBehindJump = backFrom.map { before[rule.chain]?.target?.hasPrefix($0) == true } ?? false
            let match = content.obstacle == nil ? rule.match : journals.match(of: rule.ownPrefix, family)
            if !isAtHead, rule.ownPrefix != nil, backFrom == nil {
                result.facts.coveredProbes.insert("\(table.name)/\(rule.chain)")
            }
            for hook in hooks[rule.chain] ?? table.hooks {
                let probe = Probe(
                    namespace: namespace, family: family, table: table, chain: rule.chain, hook: hook, backend: backend,
                    prefix: prefix, backFrom: backFrom,
                    coverage: isAtHead && backFrom == nil && rule.chain == hook.name ? coverage(of: match) : .some)
                result.probes.append(
                    Found(
                        probe: probe, target: rule.target == "LOG" ? .log : .nflog,
                        group: rule.argument(of: "--nflog-group").flatMap { UInt16($0) } ?? 0,
                        packets: rule.packets ?? 0, run: rule.ownPrefix?.run,
                        isAtHead: backFrom == nil ? isAtHead : isBehindJump))
            }
        }
    }

    /// From which hooks each chain is reached by jumps.
    private static func hooksOfChains(_ content: RuleDump.TableContent, _ table: Table) -> [String: [Hook]] {
        var targets: [String: Set<String>] = [:]
        for rule in content.rules {
            if let target = rule.target { targets[rule.chain, default: []].insert(target) }
        }
        var hooks: [String: [Hook]] = [:]
        for hook in table.hooks {
            var pending = [hook.name]
            var seen: Set<String> = []
            while let chain = pending.popLast() {
                guard seen.insert(chain).inserted else { continue }
                hooks[chain, default: []].append(hook)
                pending += targets[chain] ?? []
            }
        }
        return hooks
    }

    /// Rules for which the kernel switches connection tracking on in the namespace (nf_ct_netns_get's callers).
    private static func needsConntrack(_ rule: RuleDump.Rule) -> Bool {
        let matches: Set<String> = [
            "conntrack", "state", "connmark", "connbytes", "connlabel", "helper", "connlimit", "cluster",
        ]
        let targets: Set<String> = [
            "MASQUERADE", "SNAT", "DNAT", "REDIRECT", "NETMAP", "CONNMARK", "CT", "CONNSECMARK", "SYNPROXY",
        ]
        if let target = rule.target, targets.contains(target) { return true }
        return zip(rule.words, rule.words.dropFirst()).contains { $0 == "-m" && matches.contains($1) }
    }

    /// Which packets a match accepts, as far as its options are understood.
    package static func coverage(of match: [String]) -> Probe.Coverage {
        var dependence: MatchDependence = []
        var until: Int64?
        var conditions: [String] = []
        var sampledOneIn: UInt64?
        var index = 0
        func argument() -> String? { index + 1 < match.count ? match[index + 1] : nil }
        while index < match.count {
            let word = match[index]
            var isCondition = true
            switch word {
            case "!":
                conditions.append(word)
                index += 1
                continue
            case "-s", "--source", "--sport", "--source-port": dependence.insert(.source)
            case "-d", "--destination", "--dport", "--destination-port": dependence.insert(.destination)
            case "-p", "--protocol", "--icmp-type", "--icmpv6-type": break
            case "-m":
                guard let module = argument(),
                    ["tcp", "udp", "icmp", "icmp6", "sctp", "comment", "time", "bpf"].contains(module)
                else { return .some }
                isCondition = false
            case "--comment": isCondition = false
            case "--bytecode":
                guard let sample = FlowSample(bytecode: argument() ?? "") else { return .some }
                // A translation may change ports.
                dependence.formUnion([.source, .destination])
                conditions.append(sample.condition)
                sampledOneIn = max(sampledOneIn ?? 1, UInt64(sample.oneIn))
                isCondition = false
            case "--datestop":
                guard let date = argument(), let seconds = ProbeRule.seconds(ofDate: date) else { return .some }
                until = seconds
                isCondition = false
            default: return .some
            }
            if isCondition { conditions += [word, argument() ?? ""] }
            index += 2
        }
        return .every(
            Condition(text: conditions.joined(separator: " "), dependence: dependence, sampledOneIn: sampledOneIn), until: until
        )
    }
}

/// One probe as `ipt-trace probes` and `/probes` list it.
public struct ProbeRow: Codable, Sendable, Equatable {
    public var netns: String
    public var family: String
    public var backend: String
    public var table: String
    public var chain: String
    public var prefix: String
    public var target: String
    public var group: Int?
    public var packets: UInt64
    /// The run that installed it; `nil` for somebody else's rule.
    public var run: String?
    /// `in place`, `covered` (rules were put before it), `expired` (inert since its time), or `lost` (the journal has it,
    /// the rules do not).
    public var state: String

    /// A probe of which only a file tells.
    public init(netns: String, probe: Probe, target: String, state: String) {
        self.init(
            netns: netns, family: probe.family.name, backend: probe.backend.rawValue, table: probe.table.name,
            chain: probe.chain, prefix: probe.prefix, target: target, group: nil, packets: 0,
            run: ProbePrefix(probe.prefix)?.run, state: state)
    }

    init(
        netns: String, family: String, backend: String, table: String, chain: String, prefix: String, target: String,
        group: Int?, packets: UInt64, run: String?, state: String
    ) {
        self.netns = netns
        self.family = family
        self.backend = backend
        self.table = table
        self.chain = chain
        self.prefix = prefix
        self.target = target
        self.group = group
        self.packets = packets
        self.run = run
        self.state = state
    }
}

extension ProbeSurvey {
    /// The probes of one namespace, those that were lost included.
    public func rows(of namespace: NetworkNamespace, journals: [ProbeJournal]) async throws -> [ProbeRow] {
        var rows: [ProbeRow] = []
        var seen: Set<[String]> = []
        for found in try await survey(namespace, index: 0, journals: journals).probes {
            let probe = found.probe
            // A chain that several hooks reach is one rule.
            let identity = [probe.family.name, probe.backend.rawValue, probe.table.name, probe.chain, probe.prefix]
            guard seen.insert(identity).inserted else { continue }
            rows.append(
                ProbeRow(
                    netns: namespace.name, family: probe.family.name, backend: probe.backend.rawValue,
                    table: probe.table.name, chain: probe.chain, prefix: probe.prefix, target: found.target.rawValue,
                    group: found.target == .nflog ? Int(found.group) : nil, packets: found.packets, run: found.run,
                    state: found.isExpired ? "expired" : found.isAtHead || found.run == nil ? "in place" : "covered"))
        }
        for journal in journals {
            for place in journal.places where namespace.isSame(inode: place.inode, identity: place.identity) {
                for (family, backend, entry) in place.entries {
                    let identity = [family.name, backend.rawValue, entry.table, entry.chain, entry.prefix]
                    guard !seen.contains(identity) else { continue }
                    rows.append(
                        ProbeRow(
                            netns: namespace.name, family: family.name, backend: backend.rawValue,
                            table: entry.table, chain: entry.chain, prefix: entry.prefix,
                            target: journal.target.rawValue,
                            group: journal.target == .nflog ? Int(journal.group) : nil, packets: 0,
                            run: journal.run, state: "lost"))
                }
            }
        }
        return rows
    }
}

extension [ProbeJournal] {
    /// The match of one of our probes, with its expiry; for others a word that is no match, since nothing is known.
    fileprivate func match(of prefix: ProbePrefix?, _ family: AddressFamily) -> [String] {
        guard let journal = first(where: { $0.run == prefix?.run }) else { return ["?"] }
        let expiry = journal.expires.map { ["-m", "time", "--datestop", ProbeRule.dateText($0)] } ?? []
        return (journal.matches[family] ?? ["?"]) + expiry
    }
}
