internal import TraceModel

/// One rule after the other: what the packets show, and what in rules and settings explains it.
extension DiagnosisInput {
    static let rules: [@Sendable (DiagnosisInput) -> [Finding]] = [
        forwardingDisabled, reversePath, repliesDropped, localWithoutTranslation, loopbackLeaves, hairpin, untracked,
        unevenBalance, shadowedRules, bothBackends, coveredProbes, missingProbes, oneWay,
    ]

    /// Vanished between PREROUTING and the chains behind the routing decision: no table did that. A copy of a multicast
    /// packet goes no further than that wherever nobody wants it.
    private var lostInRouting: [PathReport] {
        paths.filter { path in
            path.outcome == "dropped" && path.droppedBetween?.after.hook == "PREROUTING"
                && path.droppedBetween?.before.contains { $0.hook == "FORWARD" } == true && !path.isMulticast
        }
    }

    private static let forwardingDisabled: @Sendable (DiagnosisInput) -> [Finding] = { input in
        input.known.flatMap { netns, facts in
            [("ipv4", facts.forwardsIPv4, "net.ipv4.ip_forward"), ("ipv6", facts.forwardsIPv6, "net.ipv6.conf.all.forwarding")]
                .compactMap { family, forwards, setting in
                    guard forwards == false else { return nil }
                    let shown = input.lostInRouting.filter {
                        $0.droppedBetween?.after.netns == netns && $0.droppedBetween?.after.family == family && !$0.comesBack
                    }
                    return input.finding(
                        "forwarding-disabled", .problem, "\(netns) does not forward packets", in: netns, shown,
                        because: "Packets for others arrived and vanished where they are routed, behind PREROUTING and before "
                            + "FORWARD; \(setting) is 0 there."
                            + (family == "ipv6"
                                ? " (A router keeps a default route that it learned from another only by interfaces with "
                                    + "accept_ra=2.)" : ""),
                        remedy: shown.allSatisfy(\.isLostInRoutingAlone)
                            ? input.command(netns, ["sysctl", "-w", "\(setting)=1"]) : nil)
                }
        }
    }

    private static let reversePath: @Sendable (DiagnosisInput) -> [Finding] = { input in
        input.known.flatMap { netns, facts in
            facts.strictInterfaces.sorted().compactMap { interface in
                guard facts.forwardsIPv4 != false else { return nil }
                let shown = input.lostInRouting.filter {
                    $0.droppedBetween?.after.netns == netns && $0.droppedBetween?.after.family == "ipv4"
                        && $0.droppedBetween?.after.in == interface
                        && !$0.comesBack
                }
                // The greater of the interface's setting and that of all decides, so that 2 is enough.
                let isCertain = shown.allSatisfy {
                    $0.isLostInRoutingAlone && $0.droppedBetween?.causes == ["reverse-path-filter"]
                }
                return input.finding(
                    "reverse-path-filter", .warning, "the reverse-path filter of \(interface) in \(netns) may drop packets",
                    in: netns, shown,
                    because: "Packets that arrived by \(interface) vanished where they are routed. Its reverse-path filter is "
                        + "strict: it drops what comes by another interface than answers would leave by.",
                    remedy: isCertain ? input.interfaceSetting(netns, interface, "rp_filter", 2) : nil)
            }
        }
    }

    private static let repliesDropped: @Sendable (DiagnosisInput) -> [Finding] = { input in
        input.known.flatMap { netns, facts in
            ["INPUT", "FORWARD"].flatMap { name in
                AddressFamily.allCases.compactMap { family in
                    let chains = facts.chains?.filter { $0.table == "filter" && $0.name == name && $0.family == family }
                    let accepts = chains?.contains(where: \.acceptsEstablished) ?? facts.acceptsEstablished.contains(name)
                    guard !accepts, chains?.isEmpty != true else { return nil }
                    let shown = input.paths.filter {
                        $0.outcome == "dropped" && $0.direction == "reply" && $0.droppedBetween?.after.netns == netns
                            && $0.droppedBetween?.after.table == "filter" && $0.droppedBetween?.after.chain == name
                            && $0.droppedBetween?.after.family == family.name
                            && $0.droppedBetween?.suspects.contains("filter/\(name)") == true
                    }
                    let isCertain = shown.allSatisfy { $0.droppedBetween?.suspects == ["filter/\(name)"] }
                    let chain = chains?.count == 1 ? chains?.first : nil
                    return input.finding(
                        "replies-dropped", .problem, "\(netns) drops the answers to connections that it let out", in: netns,
                        shown,
                        because:
                            "filter/\(name) dropped packets that answer others which were let through, and has no rule that "
                            + "accepts ESTABLISHED connections.",
                        // Past a rule that drops on purpose the cure would open what was closed.
                        remedy: isCertain && !facts.exemptsFromTracking
                            ? chain.flatMap { chain in
                                chain.dropsTheRestOnly
                                    ? input.insertion(
                                        netns, chain,
                                        ["-m", "conntrack", "--ctstate", "ESTABLISHED,RELATED", "-j", "ACCEPT"]) : nil
                            } : nil)
                }
            }
        }
    }

    private static let localWithoutTranslation: @Sendable (DiagnosisInput) -> [Finding] = { input in
        let paths = Dictionary(input.paths.map { ($0.id, $0) }) { first, _ in first }
        /// Flows that a process of a namespace began to the namespace itself, and that came to nothing.
        func failed(in netns: String) -> [FlowReport] {
            input.flows.filter { flow in
                let own = flow.original.paths.compactMap { paths[$0] }
                return !flow.isAnswered && flow.directionKnown
                    && !flow.translations.contains { $0.kind == "dnat" && $0.netns == netns }
                    && own.contains { path in
                        path.steps.first?.netns == netns && path.steps.first?.hook == "OUTPUT" && path.staysLocal
                    }
            }
        }
        return input.known.flatMap { netns, facts in
            let forwarded = facts.redirections.filter { $0.chain == "PREROUTING" && $0.match.namesDestination }
            guard !forwarded.isEmpty else { return [Finding]() }
            let failed = failed(in: netns)
            return forwarded.compactMap { rule in
                let shown = failed.filter { flow in
                    let packet = flow.packet(isLocal: true)
                    let isTranslated = facts.redirections.contains {
                        $0.isReachedFromOutput && $0.family == rule.family && $0.match.admits(packet) != false
                    }
                    // From a loopback address no answer of another machine comes back, whatever nat does.
                    return rule.match.admits(packet) == true && !isTranslated
                        && IPAddress(flow.original.source)?.isLoopback == false
                }
                guard let first = shown.first else { return nil }
                let place = [first.original.destination] + [first.original.destinationPort].compactMap { $0.map { "\($0)" } }
                let chain = facts.chains?.filter { $0.table == "nat" && $0.name == "OUTPUT" && $0.family == rule.family }
                    .first { $0.backend == rule.backend }
                return Finding(
                    kind: "dnat-missing-for-local", severity: .problem,
                    title: "processes of \(netns) itself do not reach the forwarded port", netns: netns,
                    reason:
                        "nat/PREROUTING rewrites \(place.joined(separator: ":")), but what a local process sends passes OUTPUT "
                        + "instead, where no such rule stands.",
                    packets: shown.reduce(0) { $0 + $1.original.packets },
                    journeys: shown.prefix(10).map(\.original.latestJourney),
                    remedy: chain.flatMap { chain in
                        rule.outputArguments.flatMap { input.insertion(netns, chain, $0) }
                    })
            }
        }
    }

    private static let loopbackLeaves: @Sendable (DiagnosisInput) -> [Finding] = { input in
        let shown = input.paths.filter { path in
            let isLoopback = path.example.source.hasPrefix("127.") || path.example.source == "::1"
            guard isLoopback, let first = path.steps.first, first.hook == "OUTPUT" else { return false }
            let isRewritten =
                path.translations.contains { $0.kind == "dnat" && $0.netns == first.netns }
                || (path.outcome == "dropped" && path.droppedBetween?.after.table == "nat"
                    && path.droppedBetween?.after.hook == "OUTPUT")
            let isMasked = path.translations.contains { $0.kind == "snat" }
            return isRewritten && (first.family == "ipv6" ? input.losesAnswers(path) : !isMasked && path.outcome != "delivered")
        }
        return Dictionary(grouping: shown) { [$0.steps.first?.netns ?? "", $0.steps.first?.family ?? ""] }
            .sorted { ($0.key[0], $0.key[1]) < ($1.key[0], $1.key[1]) }.compactMap { place, shown in
                let netns = place[0]
                let isIPv6 = place[1] == "ipv6"
                let address = isIPv6 ? "::1" : "127.0.0.1"
                let rest =
                    isIPv6
                    ? "no other machine takes packets from, and the kernel takes no answers to it from elsewhere, whatever nat "
                        + "makes of its address."
                    : "no other machine answers and the kernel does not let out of a loopback interface. (MASQUERADE and "
                        + "route_localnet would change that, and open what listens on 127.0.0.1 to the neighbours.)"
                return input.finding(
                    "loopback-source-leaves", .problem, "packets from \(address) are sent elsewhere", in: netns, shown,
                    because: "DNAT in OUTPUT changes where a packet goes after its source was chosen: it is \(address), which "
                        + rest + " Use another address of the machine instead.",
                    remedy: nil)
            }
    }

    /// Whether no answer to the connections of a path came to its end.
    private func losesAnswers(_ path: PathReport) -> Bool {
        !flows.contains { $0.original.paths.contains(path.id) && $0.reply?.outcomes["delivered"] != nil }
    }

    private static let hairpin: @Sendable (DiagnosisInput) -> [Finding] = { input in
        /// What one rule would mend.
        struct Turn: Hashable, Comparable {
            var netns: String
            var family: AddressFamily
            var interface: String
            var transport: String
            var server: String
            var port: Int?

            static func < (one: Turn, other: Turn) -> Bool {
                (one.netns, one.server, one.port ?? 0, one.transport, one.interface)
                    < (other.netns, other.server, other.port ?? 0, other.transport, other.interface)
            }
        }
        var shown: [Turn: [PathReport]] = [:]
        for path in input.paths {
            for translation in path.translations where translation.kind == "dnat" {
                let netns = translation.netns
                let step = path.steps.first { $0.netns == netns && $0.hook == "FORWARD" && $0.in != nil && $0.in == $0.out }
                let isMasked = path.translations.contains { $0.kind == "snat" && $0.netns == netns }
                guard let step, let interface = step.out, let family = AddressFamily(name: step.family), !isMasked,
                    !input.isMasked(path, netns)
                else { continue }
                let turn = Turn(
                    netns: netns, family: family, interface: interface, transport: path.example.protocol,
                    server: translation.to, port: translation.toPort)
                if shown[turn]?.contains(where: { $0.id == path.id }) != true { shown[turn, default: []].append(path) }
            }
        }
        return shown.sorted { $0.key < $1.key }.compactMap { turn, paths in
            let facts = input.facts(turn.netns)
            // Where two backends hold nat tables, a rule of the one may be passed over for the other's.
            let chains = facts?.chains?.filter { $0.family == turn.family && $0.table == "nat" && $0.name == "POSTROUTING" }
            let chain = chains?.count == 1 ? chains?.first : nil
            let ports = ["tcp", "udp", "sctp", "dccp"].contains(turn.transport) ? turn.port : nil
            let transport = ports.map { ["-p", turn.transport, "--dport", "\($0)"] } ?? []
            let rule =
                ["-o", turn.interface, "-d", turn.server] + transport
                + ["-m", "conntrack", "--ctstate", "DNAT", "-j", "MASQUERADE"]
            return input.finding(
                "hairpin-without-masquerade", .problem, "\(turn.netns) sends packets back to where they came from, unmasked",
                in: turn.netns,
                paths,
                because: "A forwarded port leads back into the network of the client. The answer goes from the server to the "
                    + "client directly, and the client refuses it: it comes from an address that it did not ask.",
                remedy: chain.flatMap { input.insertion(turn.netns, $0, rule) })
        }
    }

    /// Whether the source of every connection of a path is translated in a namespace, behind the last step that saw it.
    private func isMasked(_ path: PathReport, _ netns: String) -> Bool {
        let own = flows.filter { $0.original.paths.contains(path.id) }
        return !own.isEmpty
            && own.allSatisfy { flow in
                flow.translations.contains { ["snat", "snat_reply"].contains($0.kind) && $0.netns == netns }
            }
    }

    private static let untracked: @Sendable (DiagnosisInput) -> [Finding] = { input in
        input.known.compactMap { netns, facts in
            guard facts.exemptsFromTracking, facts.translates else { return nil }
            let shown = input.paths.filter { path in
                let here = path.steps.filter { $0.netns == netns }
                return here.contains { $0.hook == "FORWARD" } && !here.contains { $0.table == "nat" }
                    && !path.translations.contains { $0.netns == netns }
            }
            return input.finding(
                "nat-without-tracking", .warning, "nat's rules in \(netns) do not see packets that raw exempts from tracking",
                in: netns, shown,
                because:
                    "A NOTRACK rule in raw keeps packets from connection tracking, and nat works on tracked connections only: "
                    + "these packets went through untranslated, though nat has rules.",
                remedy: nil)
        }
    }

    /// Connections that statistic shares out, by Pearson's chi-squared test against equal shares.
    private static let unevenBalance: @Sendable (DiagnosisInput) -> [Finding] = { input in
        input.known.flatMap { netns, facts in
            guard facts.redirections.contains(where: { $0.text.contains("statistic") }) else { return [Finding]() }
            var servers: [String: [String: [String]]] = [:]
            for flow in input.flows {
                for translation in flow.translations where translation.kind == "dnat" && translation.netns == netns {
                    let front = "\(translation.from)\(flow.original.destinationPort.map { ":\($0)" } ?? "")"
                    servers[front, default: [:]][translation.to, default: []].append(flow.original.latestJourney)
                }
            }
            return servers.sorted { $0.key < $1.key }.compactMap { front, shares in
                let total = shares.values.reduce(0) { $0 + $1.count }
                guard shares.count > 1, total >= 20 * shares.count, isUneven(shares.values.map(\.count)) else { return nil }
                let text = shares.sorted { $0.key < $1.key }.map { "\($0.key) \($0.value.count)" }.joined(separator: ", ")
                return Finding(
                    kind: "uneven-balance", severity: .warning, title: "\(front) in \(netns) is not shared out evenly",
                    netns: netns,
                    reason:
                        "Of \(total) connections: \(text). By chance that happens less than once in a thousand times. Each rule "
                        + "with statistic takes its share of what the rules before it left: of three the first takes a third, the "
                        + "next half, the last the rest.",
                    packets: UInt64(total), journeys: Array(shares.values.joined().prefix(10)), remedy: nil)
            }
        }
    }

    private static func isUneven(_ counts: [Int]) -> Bool {
        let expected = Double(counts.reduce(0, +)) / Double(counts.count)
        let deviation = counts.reduce(0.0) { $0 + (Double($1) - expected) * (Double($1) - expected) / expected }
        // The 0.999 quantile, by Wilson and Hilferty's approximation (1931).
        let freedom = Double(counts.count - 1)
        let root = 1 - 2 / (9 * freedom) + 3.0902 * (2 / (9 * freedom)).squareRoot()
        return deviation > freedom * root * root * root
    }

    private static let shadowedRules: @Sendable (DiagnosisInput) -> [Finding] = { input in
        input.known.flatMap { netns, facts in
            facts.shadows.compactMap { shadow in
                let shown = input.paths.filter { path in
                    path.steps.contains {
                        $0.netns == netns && $0.family == shadow.family.name && $0.table == shadow.table
                            && $0.chain == shadow.chain && path.meets(shadow.match, at: $0)
                    }
                }
                return input.finding(
                    "shadowed-rule", shadow.isRedundant ? .notice : .warning,
                    "a rule of \(shadow.table)/\(shadow.chain) in \(netns) can never match", in: netns, shown,
                    because: "\"\(shadow.later)\" stands behind \"\(shadow.earlier)\", which decides about every packet that "
                        + "it would match"
                        + (shadow.match.isPartial ? ". Packets with its addresses and ports came by." : ", such as these.")
                        + (shadow.isRedundant
                            ? ""
                            : " Which of the two was meant, only whoever wrote them knows: move the one up, or delete it."),
                    remedy: input.deletion(netns, shadow))
            }
        }
    }

    private static let bothBackends: @Sendable (DiagnosisInput) -> [Finding] = { input in
        input.known.filter { $0.facts.backends.count > 1 }.map { netns, _ in
            Finding(
                kind: "both-backends", severity: .notice, title: "\(netns) has rules of iptables-nft and of iptables-legacy",
                netns: netns,
                reason: "Each program shows its own rules only, and packets pass both: what one accepts the other may drop.",
                packets: 0, journeys: [], remedy: nil)
        }
    }

    private static let coveredProbes: @Sendable (DiagnosisInput) -> [Finding] = { input in
        input.known.filter { !$0.facts.coveredProbes.isEmpty }.map { netns, facts in
            Finding(
                kind: "probe-covered", severity: .warning, title: "rules were put before probes in \(netns)", netns: netns,
                reason:
                    "Another program inserted rules at the head of \(facts.coveredProbes.sorted().joined(separator: ", ")): "
                    + "packets that these rules decide about are not seen there.",
                packets: 0, journeys: [], remedy: input.ownCommand("install-probes", netns))
        }
    }

    private static let missingProbes: @Sendable (DiagnosisInput) -> [Finding] = { input in
        input.known.filter { !$0.facts.missingProbes.isEmpty }.map { netns, facts in
            Finding(
                kind: "probe-missing", severity: .warning, title: "probes were taken out of \(netns)", netns: netns,
                reason:
                    "Another program replaced or flushed \(facts.missingProbes.sorted().joined(separator: ", ")), "
                    + "with the probes that stood there: what happens there is not seen.",
                packets: 0, journeys: [], remedy: input.ownCommand("install-probes", netns))
        }
    }

    private static let oneWay: @Sendable (DiagnosisInput) -> [Finding] = { input in
        let answered: Set<String> = ["tcp", "icmp", "icmpv6"]
        let silent = input.flows.filter { flow in
            flow.reply == nil && flow.directionKnown && answered.contains(flow.protocol)
                && flow.original.outcomes.keys.allSatisfy { $0 == "delivered" || $0 == "sent" }
        }
        let ids = Set(silent.flatMap(\.original.paths))
        let shown = input.paths.filter { ids.contains($0.id) }
        return [
            input.finding(
                "one-way", .notice, "nothing came back for \(silent.count) connection\(silent.count == 1 ? "" : "s")",
                in: shown.first?.steps.last?.netns ?? "", shown,
                because: "Packets went all their way and no answer to them was seen: the other side did not answer, its answer "
                    + "took a way that is not watched, or found none.",
                remedy: nil)
        ].compactMap(\.self)
    }
}

extension PathReport {
    /// Whether nothing but the routing decision can have dropped its packets. Nat's chains cannot drop.
    fileprivate var isLostInRoutingAlone: Bool {
        droppedBetween?.suspects.filter { !$0.hasPrefix("nat/") } == ["routing"]
    }

    /// Whether its packets do not leave the namespace that sent them.
    fileprivate var staysLocal: Bool {
        guard let sender = steps.first?.netns else { return false }
        return steps.allSatisfy { $0.netns == sender }
            && steps.contains { ($0.hook == "OUTPUT" && $0.out == "lo") || $0.hook == "INPUT" }
    }

    /// Whether its packets meet a rule that stands at a step, as far as can be told. Addresses count as they were at any
    /// point of the way.
    fileprivate func meets(_ match: RuleMatch, at step: StepReport) -> Bool {
        func variant(_ source: String, _ destination: String, _ sourcePort: Int?, _ destinationPort: Int?) -> RuleMatch.Packet {
            RuleMatch.Packet(
                transport: example.protocol, source: source, destination: destination, sourcePort: sourcePort,
                destinationPort: destinationPort, inInterface: step.in, outInterface: step.out)
        }
        // Each condition looks at one of the values only.
        let variants =
            [variant(example.source, example.destination, example.sourcePort, example.destinationPort)]
            + translations.flatMap {
                [
                    variant($0.from, $0.from, $0.fromPort ?? example.sourcePort, $0.fromPort ?? example.destinationPort),
                    variant($0.to, $0.to, $0.toPort ?? example.sourcePort, $0.toPort ?? example.destinationPort),
                ]
            }
        return match.conditions.allSatisfy { condition in
            let alone = RuleMatch(conditions: [condition], isPartial: false)
            return variants.contains { alone.admits($0) != false }
        }
    }
}

extension FlowReport {
    /// Whether the other side took part: a TCP connection that is refused at once is two packets.
    fileprivate var isAnswered: Bool {
        guard let reply else { return false }
        return `protocol` != "tcp" || (original.packets > 2 && reply.packets > 1)
    }

    /// The first packet as its sender's OUTPUT chains see it.
    fileprivate func packet(isLocal: Bool) -> RuleMatch.Packet {
        RuleMatch.Packet(
            transport: `protocol`, source: original.source, destination: original.destination,
            sourcePort: original.sourcePort, destinationPort: original.destinationPort, isLocal: isLocal)
    }
}
