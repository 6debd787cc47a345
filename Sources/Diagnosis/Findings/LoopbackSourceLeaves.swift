internal import Aggregation
internal import TraceModel

/// DNAT in OUTPUT sends packets away that carry a loopback address as their source.
struct LoopbackSourceLeaves: FindingRule {
    func findings(in evidence: Evidence) -> [Finding] {
        let shown = evidence.paths.filter { leaves($0, evidence) }
        return evidence.layout.namespacesByName.flatMap { name, indices in
            AddressFamily.allCases.compactMap { family in
                finding(
                    name, family,
                    shown.filter { path in
                        guard let first = path.steps.first?.probe else { return false }
                        return indices.contains(first.namespace) && first.family == family
                    })
            }
        }
    }

    private func leaves(_ path: PathEvidence, _ evidence: Evidence) -> Bool {
        let source = path.example.packet.tuple.source
        guard source.isLoopback, let first = path.steps.first?.probe, first.hook == .output else { return false }
        let last = path.droppedAfter?.probe
        let isRewritten =
            path.translations.contains(.dnat, in: evidence.layout.namespaces(named: first.namespace))
            || (last?.table == .nat && last?.hook == .output && !path.mayBeDroppedByChain)
        guard isRewritten else { return false }
        if first.family == .ipv6 {
            // Whether no answer to the connections of the path came to its end.
            return !evidence.flows(on: path).contains { ($0.record.reply?.outcomes[.delivered] ?? 0) > 0 }
        }
        return !path.translations.contains { $0.kind == .snat } && path.outcome != .delivered
    }

    private func finding(_ netns: String, _ family: AddressFamily, _ shown: [PathEvidence]) -> Finding? {
        let address = family == .ipv6 ? "::1" : "127.0.0.1"
        let rest =
            family == .ipv6
            ? "no other machine takes packets from, and the kernel takes no answers to it from elsewhere, whatever nat "
                + "makes of its address."
            : "no other machine answers and the kernel does not let out of a loopback interface. (MASQUERADE and "
                + "route_localnet would change that, and open what listens on 127.0.0.1 to the neighbours.)"
        return Finding(
            "loopback-source-leaves", .problem, "packets from \(address) are sent elsewhere", in: netns, shownBy: shown,
            because: "DNAT in OUTPUT changes where a packet goes after its source was chosen: it is \(address), which "
                + rest + " Use another address of the machine instead.")
    }
}

extension PathEvidence {
    /// Whether rules may have dropped its packets. Nat's chains cannot.
    fileprivate var mayBeDroppedByChain: Bool {
        suspects.contains {
            switch $0 {
            case .chain(let table, _): table != .nat
            case .nativeChain: true
            default: false
            }
        }
    }
}
