internal import Aggregation
internal import TraceModel

/// A forwarded port leads back into the client's own network, and the client's address stays: the answer misses the translation.
struct HairpinWithoutMasquerade: FindingRule {
    /// One rule would mend all paths of a turn.
    private struct Turn: Hashable {
        var netns: String
        var family: AddressFamily
        var interface: String
        var transport: UInt8
        var server: IPAddress
        /// `nil` where ports play no role.
        var port: UInt16?

        /// An order for reports: of no meaning, but always the same.
        var order: (String, String, UInt16, UInt8, String) { (netns, "\(server)", port ?? 0, transport, interface) }
    }

    func findings(in evidence: Evidence) -> [Finding] {
        var shown: [Turn: [PathEvidence]] = [:]
        for path in evidence.paths {
            for translation in path.translations where translation.kind == .dnat {
                guard let turn = turn(of: path, translation, evidence) else { continue }
                if shown[turn]?.contains(where: { $0.index == path.index }) != true { shown[turn, default: []].append(path) }
            }
        }
        return shown.sorted { $0.key.order < $1.key.order }.compactMap { finding($0, $1, evidence) }
    }

    private func turn(of path: PathEvidence, _ translation: TranslationEvidence, _ evidence: Evidence) -> Turn? {
        guard let namespace = evidence.layout.namespace(translation.namespace) else { return nil }
        let indices = evidence.layout.namespaces(named: translation.namespace)
        let step = path.steps.first {
            indices.contains($0.probe.namespace) && $0.probe.hook == .forward && $0.inInterface != nil
                && $0.inInterface == $0.outInterface
        }
        guard let step, let interface = step.outInterface, !path.translations.contains(.snat, in: indices),
            !isMasked(path, indices, evidence), showsSource(path, indices, step.probe.family, evidence)
        else { return nil }
        let record = translation.record
        return Turn(
            netns: namespace.name, family: step.probe.family, interface: interface,
            transport: path.example.packet.tuple.transport, server: record.to,
            port: record.hasPorts ? record.toPort : nil)
    }

    /// Whether the source of every connection of a path is translated in a namespace, behind the last step that saw it.
    private func isMasked(_ path: PathEvidence, _ namespaces: Set<Int>, _ evidence: Evidence) -> Bool {
        let flows = evidence.flows(on: path)
        return !flows.isEmpty
            && flows.allSatisfy {
                $0.translations.contains(.snat, in: namespaces) || $0.translations.contains(.snatReply, in: namespaces)
            }
    }

    /// Whether it is known what source the packets of a path have behind a namespace: nat/POSTROUTING, where they were seen last
    /// otherwise, translates behind its probe.
    private func showsSource(
        _ path: PathEvidence, _ namespaces: Set<Int>, _ family: AddressFamily, _ evidence: Evidence
    ) -> Bool {
        let isSeenBehind =
            path.steps.last.map { !namespaces.contains($0.probe.namespace) } ?? false
            || path.steps.contains {
                namespaces.contains($0.probe.namespace) && $0.probe.hook == .postrouting
                    && $0.probe.priority > HookPriority.sourceTranslation
            }
        // Connection tracking tells the addresses of both directions, or an answer shows them.
        let isTold =
            path.example.legs.contains { namespaces.contains($0.namespace) && $0.direction != nil }
            || evidence.flows(on: path).contains { $0.translations.contains(.dnatReply, in: namespaces) }
        guard !isSeenBehind, !isTold else { return true }
        let known = evidence.namespaces.first { !$0.indices.isDisjoint(with: namespaces) }
        return known.map { leavesSource($0.facts, family) } ?? false
    }

    /// Whether no rule of a namespace can translate the source of packets that leave.
    private func leavesSource(_ facts: NamespaceFacts, _ family: AddressFamily) -> Bool {
        guard let chains = facts.chains else { return false }
        for chain in chains where chain.table == "nat" && chain.name == "POSTROUTING" && chain.family == family {
            if chain.hasRules { return false }
        }
        let others = facts.otherChains
        for chain in others where chain.hook == .ip(.postrouting) && (chain.family ?? family) == family { return false }
        return true
    }

    private func finding(_ turn: Turn, _ paths: [PathEvidence], _ evidence: Evidence) -> Finding? {
        let facts = evidence.namespaces.first { $0.name == turn.netns }?.facts
        // Where two backends hold nat tables, a rule of the one may be passed over for the other's.
        let chains = facts?.chains?.filter { $0.family == turn.family && $0.table == "nat" && $0.name == "POSTROUTING" }
        let chain = chains?.count == 1 ? chains?.first : nil
        let ports = TransportProtocol.withPortOptions.contains(turn.transport) ? turn.port : nil
        let transport = ports.map { ["-p", TransportProtocol.name(turn.transport), "--dport", "\($0)"] } ?? []
        let rule =
            ["-o", turn.interface, "-d", "\(turn.server)"] + transport
            + ["-m", "conntrack", "--ctstate", "DNAT", "-j", "MASQUERADE"]
        return Finding(
            "hairpin-without-masquerade", .problem,
            "\(turn.netns) sends packets back to where they came from, unmasked", in: turn.netns, shownBy: paths,
            because: "A forwarded port leads back into the network of the client. The answer goes from the server to the "
                + "client directly, and the client refuses it: it comes from an address that it did not ask.",
            cure: chain.flatMap { evidence.insertion(in: turn.netns, $0, rule) })
    }
}
