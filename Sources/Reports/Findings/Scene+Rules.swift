internal import TraceModel

/// One rule after the other: what the packets show, and what in rules and settings explains it.
extension Scene {
    static let rules: [@Sendable (Scene) -> [Finding]] = [
        forwardingDisabled, reversePath, repliesDropped, localWithoutTranslation, loopbackLeaves, hairpin, untracked,
        unevenBalance, shadowedRules, bothBackends, coveredProbes, missingProbes, oneWay,
    ]

    /// Vanished between PREROUTING and the chains behind the routing decision: no table did that. A copy of a multicast
    /// packet goes no further than that wherever nobody wants it.
    private var lostInRouting: [PathReport] {
        paths.filter { path in
            path.outcome == "dropped" && path.endedAt?.after.hook == "PREROUTING"
                && path.endedAt?.before.contains { $0.hook == "FORWARD" } == true && !path.isMulticast
        }
    }

    private static let forwardingDisabled: @Sendable (Scene) -> [Finding] = { scene in
        scene.known.flatMap { netns, facts in
            [("ipv4", facts.forwardsIPv4, "net.ipv4.ip_forward"), ("ipv6", facts.forwardsIPv6, "net.ipv6.conf.all.forwarding")]
                .compactMap { family, forwards, setting in
                    guard forwards == false else { return nil }
                    return scene.finding(
                        "forwarding-disabled", .problem, "\(netns) does not forward packets", in: netns,
                        scene.lostInRouting.filter {
                            $0.endedAt?.after.netns == netns && $0.endedAt?.after.family == family && !$0.comesBack
                        },
                        because: "Packets for others arrived and vanished where they are routed, behind PREROUTING and before "
                            + "FORWARD; \(setting) is 0 there.",
                        remedy: command(netns, "sysctl -w \(setting)=1"))
                }
        }
    }

    private static let reversePath: @Sendable (Scene) -> [Finding] = { scene in
        scene.known.flatMap { netns, facts in
            facts.strictInterfaces.sorted().compactMap { interface in
                guard facts.forwardsIPv4 != false else { return nil }
                let shown = scene.lostInRouting.filter {
                    $0.endedAt?.after.netns == netns && $0.endedAt?.after.family == "ipv4" && $0.endedAt?.after.in == interface
                        && !$0.comesBack
                }
                return scene.finding(
                    "reverse-path-filter", .warning, "the reverse-path filter of \(interface) in \(netns) may drop packets",
                    in: netns, shown,
                    because: "Packets that arrived by \(interface) vanished where they are routed. Its reverse-path filter is "
                        + "strict: it drops what comes by another interface than answers would leave by.",
                    remedy: command(netns, "sysctl -w net.ipv4.conf.\(quoted(interface)).rp_filter=2"))
            }
        }
    }

    private static let repliesDropped: @Sendable (Scene) -> [Finding] = { scene in
        scene.known.flatMap { netns, facts in
            ["INPUT", "FORWARD"].compactMap { chain in
                guard !facts.acceptsEstablished.contains(chain) else { return nil }
                let shown = scene.paths.filter {
                    $0.outcome == "dropped" && $0.direction == "reply" && $0.endedAt?.after.netns == netns
                        && $0.endedAt?.after.table == "filter" && $0.endedAt?.after.chain == chain
                }
                let tool = shown.first?.endedAt?.after.family == "ipv6" ? "ip6tables" : "iptables"
                return scene.finding(
                    "replies-dropped", .problem, "\(netns) drops the answers to connections that it let out", in: netns, shown,
                    because: "filter/\(chain) dropped packets that answer others which were let through, and has no rule that "
                        + "accepts ESTABLISHED connections.",
                    remedy: command(netns, "\(tool) -I \(chain) 1 -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT"))
            }
        }
    }

    private static let localWithoutTranslation: @Sendable (Scene) -> [Finding] = { scene in
        scene.known.flatMap { netns, facts in
            facts.redirections.filter { $0.chain == "PREROUTING" && $0.destination != nil }.compactMap { rule in
                let hasTwin = facts.redirections.contains {
                    $0.chain == "OUTPUT" && $0.family == rule.family && $0.destination == rule.destination
                        && $0.port == rule.port
                }
                guard !hasTwin else { return nil }
                let shown = scene.paths.filter { path in
                    path.steps.first?.netns == netns && path.steps.first?.hook == "OUTPUT"
                        && path.example.destination == rule.destination
                        && (rule.port == nil || path.example.destinationPort == rule.port.map(Int.init))
                        && !path.translations.contains { $0.kind == "dnat" && $0.netns == netns }
                }
                let rest = rule.text.split(separator: " ").dropFirst(2).joined(separator: " ")
                return scene.finding(
                    "dnat-missing-for-local", .problem, "processes of \(netns) itself do not reach the forwarded port",
                    in: netns,
                    shown,
                    because: "nat/PREROUTING rewrites \(rule.destination ?? "")\(rule.port.map { ":\($0)" } ?? ""), but what a "
                        + "local process sends passes OUTPUT instead, where no such rule stands.",
                    remedy: command(
                        netns, "\(rule.family == .ipv6 ? "ip6tables" : "iptables") -t nat -A OUTPUT \(quotedRule(rest))"))
            }
        }
    }

    /// A rule's words come from the machine's own rules; what a shell would take for more than words is left out.
    private static func quotedRule(_ text: String) -> String {
        text.split(separator: " ").map { quoted(String($0)) }.joined(separator: " ")
    }

    private static let loopbackLeaves: @Sendable (Scene) -> [Finding] = { scene in
        let shown = scene.paths.filter { path in
            let isLoopback = path.example.source.hasPrefix("127.") || path.example.source == "::1"
            guard isLoopback, let first = path.steps.first, first.hook == "OUTPUT" else { return false }
            let isRewritten =
                path.translations.contains { $0.kind == "dnat" && $0.netns == first.netns }
                || (path.outcome == "dropped" && path.endedAt?.after.table == "nat" && path.endedAt?.after.hook == "OUTPUT")
            let isMasked = path.translations.contains { $0.kind == "snat" }
            return isRewritten && (first.family == "ipv6" ? scene.losesAnswers(path) : !isMasked && path.outcome != "delivered")
        }
        return Dictionary(grouping: shown) { [$0.steps.first?.netns ?? "", $0.steps.first?.family ?? ""] }
            .sorted { ($0.key[0], $0.key[1]) < ($1.key[0], $1.key[1]) }.compactMap { place, shown in
                let netns = place[0]
                let isIPv6 = place[1] == "ipv6"
                let address = isIPv6 ? "::1" : "127.0.0.1"
                let rest =
                    isIPv6
                    ? "no other machine takes packets from, and the kernel takes no answers to it from elsewhere, whatever nat "
                        + "makes of its address. Use another address of the machine instead."
                    : "no other machine answers and the kernel does not let out of a loopback interface."
                return scene.finding(
                    "loopback-source-leaves", .problem, "packets from \(address) are sent elsewhere", in: netns, shown,
                    because: "DNAT in OUTPUT changes where a packet goes after its source was chosen: it is \(address), which "
                        + rest,
                    remedy: isIPv6
                        ? nil
                        : command(
                            netns,
                            "sysctl -w net.ipv4.conf.all.route_localnet=1 && "
                                + command(netns, "iptables -t nat -A POSTROUTING -s 127.0.0.0/8 ! -o lo -j MASQUERADE")))
            }
    }

    /// Whether no answer to the connections of a path came to its end.
    private func losesAnswers(_ path: PathReport) -> Bool {
        !flows.contains { $0.original.paths.contains(path.id) && $0.reply?.outcomes["delivered"] != nil }
    }

    private static let hairpin: @Sendable (Scene) -> [Finding] = { scene in
        var shown: [String: [PathReport]] = [:]
        for path in scene.paths {
            for translation in path.translations where translation.kind == "dnat" {
                let netns = translation.netns
                let turns = path.steps.contains { $0.netns == netns && $0.hook == "FORWARD" && $0.in != nil && $0.in == $0.out }
                let isMasked = path.translations.contains { $0.kind == "snat" && $0.netns == netns }
                if turns, !isMasked, shown[netns]?.contains(where: { $0.id == path.id }) != true {
                    shown[netns, default: []].append(path)
                }
            }
        }
        return shown.sorted { $0.key < $1.key }.compactMap { netns, paths in
            let to = paths.first?.translations.first { $0.kind == "dnat" }?.to ?? ""
            let port = paths.first?.translations.first { $0.kind == "dnat" }?.toPort
            let match = port.map { " -p \(paths.first?.example.protocol ?? "tcp") --dport \($0)" } ?? ""
            let interface = paths.first?.steps.first { $0.netns == netns && $0.hook == "FORWARD" }?.out ?? ""
            return scene.finding(
                "hairpin-without-masquerade", .problem, "\(netns) sends packets back to where they came from, unmasked",
                in: netns,
                paths,
                because: "A forwarded port leads back into the network of the client. The answer goes from the server to the "
                    + "client directly, and the client refuses it: it comes from an address that it did not ask.",
                remedy: command(
                    netns,
                    "iptables -t nat -A POSTROUTING -o \(quoted(interface)) -d \(to)\(match) -m conntrack --ctstate DNAT -j MASQUERADE"
                ))
        }
    }

    private static let untracked: @Sendable (Scene) -> [Finding] = { scene in
        scene.known.compactMap { netns, facts in
            guard facts.exemptsFromTracking, facts.translates else { return nil }
            let shown = scene.paths.filter { path in
                let here = path.steps.filter { $0.netns == netns }
                return here.contains { $0.hook == "FORWARD" } && !here.contains { $0.table == "nat" }
                    && !path.translations.contains { $0.netns == netns }
            }
            return scene.finding(
                "nat-without-tracking", .warning, "nat's rules in \(netns) do not see packets that raw exempts from tracking",
                in: netns, shown,
                because:
                    "A NOTRACK rule in raw keeps packets from connection tracking, and nat works on tracked connections only: "
                    + "these packets went through untranslated, though nat has rules.",
                remedy: nil)
        }
    }

    /// Connections that statistic shares out, by Pearson's chi-squared test against equal shares.
    private static let unevenBalance: @Sendable (Scene) -> [Finding] = { scene in
        scene.known.flatMap { netns, facts in
            guard facts.redirections.contains(where: { $0.text.contains("statistic") }) else { return [Finding]() }
            var servers: [String: [String: [String]]] = [:]
            for flow in scene.flows {
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
                    packets: UInt64(total), evidence: Array(shares.values.joined().prefix(10)), remedy: nil)
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

    private static let shadowedRules: @Sendable (Scene) -> [Finding] = { scene in
        scene.known.flatMap { netns, facts in
            facts.shadows.compactMap { shadow in
                let shown = scene.paths.filter { path in
                    path.steps.contains {
                        $0.netns == netns && $0.family == shadow.family.name && $0.table == shadow.table
                            && $0.chain == shadow.chain
                    } && shadow.wouldMatch(path)
                }
                let tool = shadow.family == .ipv6 ? "ip6tables" : "iptables"
                let rest = quotedRule(shadow.later.split(separator: " ").dropFirst(2).joined(separator: " "))
                let table = quoted(shadow.table)
                let chain = quoted(shadow.chain)
                return scene.finding(
                    "shadowed-rule", shadow.isRedundant ? .notice : .warning,
                    "a rule of \(shadow.table)/\(shadow.chain) in \(netns) can never match", in: netns, shown,
                    because: "\"\(shadow.later)\" stands behind \"\(shadow.earlier)\", which decides about every packet that "
                        + "it would match, such as these.",
                    remedy: shadow.isRedundant
                        ? command(netns, "\(tool) -t \(table) -D \(chain) \(rest)")
                        : command(netns, "\(tool) -t \(table) -I \(chain) \(shadow.number) \(rest)"))
            }
        }
    }

    private static let bothBackends: @Sendable (Scene) -> [Finding] = { scene in
        scene.known.filter { $0.facts.backends.count > 1 }.map { netns, _ in
            Finding(
                kind: "both-backends", severity: .notice, title: "\(netns) has rules of iptables-nft and of iptables-legacy",
                netns: netns,
                reason: "Each program shows its own rules only, and packets pass both: what one accepts the other may drop.",
                packets: 0, evidence: [], remedy: nil)
        }
    }

    private static let coveredProbes: @Sendable (Scene) -> [Finding] = { scene in
        scene.known.filter { !$0.facts.coveredProbes.isEmpty }.map { netns, facts in
            Finding(
                kind: "probe-covered", severity: .warning, title: "rules were put before probes in \(netns)", netns: netns,
                reason:
                    "Another program inserted rules at the head of \(facts.coveredProbes.sorted().joined(separator: ", ")): "
                    + "packets that these rules decide about are not seen there.",
                packets: 0, evidence: [], remedy: "ipt-trace install-probes --netns \(quoted(netns))")
        }
    }

    private static let missingProbes: @Sendable (Scene) -> [Finding] = { scene in
        scene.known.filter { !$0.facts.missingProbes.isEmpty }.map { netns, facts in
            Finding(
                kind: "probe-missing", severity: .warning, title: "probes were taken out of \(netns)", netns: netns,
                reason:
                    "Another program replaced or flushed \(facts.missingProbes.sorted().map(\.printable).joined(separator: ", ")), "
                    + "with the probes that stood there: what happens there is not seen.",
                packets: 0, evidence: [], remedy: "ipt-trace install-probes --netns \(quoted(netns))")
        }
    }

    private static let oneWay: @Sendable (Scene) -> [Finding] = { scene in
        let answered: Set<String> = ["tcp", "icmp", "icmpv6"]
        let silent = scene.flows.filter { flow in
            flow.reply == nil && flow.directionKnown && answered.contains(flow.protocol)
                && flow.original.outcomes.keys.allSatisfy { $0 == "delivered" || $0 == "sent" }
        }
        let ids = Set(silent.flatMap(\.original.paths))
        let shown = scene.paths.filter { ids.contains($0.id) }
        return [
            scene.finding(
                "one-way", .notice, "nothing came back for \(silent.count) connection\(silent.count == 1 ? "" : "s")",
                in: shown.first?.steps.last?.netns ?? "", shown,
                because: "Packets went all their way and no answer to them was seen: the other side did not answer, its answer "
                    + "took a way that is not watched, or found none.",
                remedy: nil)
        ].compactMap(\.self)
    }
}

extension NamespaceFacts.Shadow {
    /// Whether packets of a path would have met the later rule, had they got there. Addresses count as they were at any point
    /// of the way.
    fileprivate func wouldMatch(_ path: PathReport) -> Bool {
        let example = path.example
        let translated = path.translations.flatMap { [$0.from, $0.to] }
        func has(_ wanted: String?, _ address: String) -> Bool {
            guard let wanted else { return true }
            guard let network = AddressPrefix(wanted) else { return false }
            return ([address] + translated).contains { AddressPrefix($0).map(network.contains) == true }
        }
        let ports = [example.destinationPort].compactMap(\.self) + path.translations.compactMap(\.toPort)
        func hasPort(_ wanted: String) -> Bool {
            let ends = wanted.split(separator: ":").compactMap { Int($0) }
            guard let first = ends.first, let last = ends.last else { return false }
            return ports.contains { $0 >= first && $0 <= last }
        }
        let protocolName = transport == "ipv6-icmp" ? "icmpv6" : transport
        return (protocolName == nil || protocolName == example.protocol) && has(source, example.source)
            && has(destination, example.destination) && (port.map(hasPort) ?? true)
    }
}
