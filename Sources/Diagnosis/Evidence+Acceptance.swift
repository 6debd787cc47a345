public import Aggregation
internal import TraceModel

extension TraceSnapshot {
    /// A command that lets packets like those of a path past the rule or policy that dropped them, and no others.
    ///
    /// - Parameter probesGo: as `findings(probesGo:)` has it.
    /// - Returns: `nil` where it is not known what dropped them, or no rule would let them through.
    public func acceptance(ofPath index: Int, probesGo: Bool) -> Cure? {
        let evidence = Evidence(self, probesGo: probesGo)
        guard let path = evidence.paths.first(where: { $0.index == index }), let decision = path.dropSite?.decision,
            let last = path.droppedAfter?.probe
        else { return nil }
        return evidence.acceptance(of: path, past: decision, in: layout.namespaces[decision.namespace ?? last.namespace].name)
    }
}

/// Rules that let a connection through.
extension Evidence {
    /// A command that lets packets like those of a path past what dropped them, and no others.
    ///
    /// - Returns: `nil` where there is no such rule (nat is no filter), or its words cannot be written safely, or the packet's protocol is not
    ///   known: a rule without it would let all protocols through.
    func acceptance(of path: PathEvidence, past decision: RuleDecision, in netns: String) -> Cure? {
        guard let leg = path.example.legs.last, decision.place.table != Table.nat.name,
            leg.exit.transport != TransportProtocol.unknown
        else { return nil }
        let packet = Traits(
            tuple: leg.exit, icmpType: leg.exit.isICMP ? path.example.packet.icmpType : nil, isReply: path.isReply)
        guard let command = decision.isOfIptables ? iptables(packet, decision, netns) : nft(packet, decision, netns) else {
            return nil
        }
        return Cure(
            netns: netns, command,
            reason:
                "lets \(TransportProtocol.name(leg.exit.transport)) from \(leg.exit.source) to \(leg.exit.destination) past "
                + "what dropped it; leave it as it is where that is meant")
    }

    private func iptables(_ packet: Traits, _ decision: RuleDecision, _ netns: String) -> Command? {
        let place = decision.place
        let family = packet.tuple.destination.family
        guard place.tableFamily == family.tableName else { return nil }
        let rule = packet.iptablesWords + ["-j", "ACCEPT"]
        let chains = namespaces.first { $0.name == netns }?.facts.chains ?? []
        let chain = chains.first {
            $0.family == family && $0.backend == place.backend && $0.table == place.table && $0.name == place.chain
        }
        if let chain { return insertion(in: netns, chain, rule) }
        // A user's chain: the first rule of it, since nothing before the one that dropped the packet decided about it.
        guard Hook(name: place.chain) == nil else { return nil }
        return command(
            in: netns, Self.iptables(family, place.backend) + ["-t", place.table, "-I", place.chain] + rule)
    }

    private func nft(_ packet: Traits, _ decision: RuleDecision, _ netns: String) -> Command? {
        let place = decision.place
        let names = [place.table, place.chain]
        // nft reads its arguments as commands.
        let isPlain = names.allSatisfy { name in
            name.first.map { $0.isASCII && ($0.isLetter || $0 == "_") } == true
                && name.allSatisfy { $0.isASCII && ($0.isLetter || $0.isNumber || "_-./".contains($0)) }
        }
        guard isPlain else { return nil }
        var position: [String] = []
        if decision.kind == .rule {
            guard let handle = place.handle else { return nil }
            position = ["handle", "\(handle)"]
        }
        return command(
            in: netns, ["nft", "insert", "rule", place.tableFamily] + names + position + packet.nftWords + ["accept"])
    }

    /// The fields that a packet shares with its connection's others in the same direction.
    private struct Traits {
        let tuple: PacketTuple
        let icmpType: UInt8?
        let isReply: Bool

        private var hasPorts: Bool { TransportProtocol.withPortOptions.contains(tuple.transport) }
        /// The port of the one who serves.
        private var port: UInt16 { isReply ? tuple.sourcePort : tuple.destinationPort }

        var iptablesWords: [String] {
            var words = ["-s", "\(tuple.source)", "-d", "\(tuple.destination)", "-p", protocolWord]
            if hasPorts { words += [isReply ? "--sport" : "--dport", "\(port)"] }
            if let icmpType {
                words += [tuple.destination.family == .ipv4 ? "--icmp-type" : "--icmpv6-type", "\(icmpType)"]
            }
            return words
        }

        private var protocolWord: String {
            tuple.transport == TransportProtocol.icmpv6 ? "ipv6-icmp" : TransportProtocol.name(tuple.transport)
        }

        var nftWords: [String] {
            let family = tuple.destination.family.tableName
            var words = [family, "saddr", "\(tuple.source)", family, "daddr", "\(tuple.destination)"]
            if hasPorts {
                words += [TransportProtocol.name(tuple.transport), isReply ? "sport" : "dport", "\(port)"]
            } else if let icmpType {
                words += [tuple.destination.family == .ipv4 ? "icmp" : "icmpv6", "type", "\(icmpType)"]
            } else {
                words += ["meta", "l4proto", "\(tuple.transport)"]
            }
            return words
        }
    }
}

extension RuleDecision {
    /// Whether iptables' tools know the rule or policy: else it is nf_tables' own.
    fileprivate var isOfIptables: Bool {
        if place.backend == .legacy { return true }
        guard Table(name: place.table) != nil else { return false }
        return kind == .policy ? Hook(name: place.chain) != nil : text?.hasPrefix("-A ") == true
    }
}
