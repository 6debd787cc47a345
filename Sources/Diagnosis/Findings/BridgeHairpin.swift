internal import TraceModel

/// A forwarded port leads back out of the bridge's port that the packet came in by, and the port keeps such frames.
struct BridgeHairpin: FindingRule {
    private struct Turn: Hashable {
        var namespace: Int
        var bridge: UInt32
        var port: UInt32
    }

    func findings(in evidence: Evidence) -> [Finding] {
        var shown: [Turn: [PathEvidence]] = [:]
        for path in evidence.paths {
            if let turn = turn(of: path, evidence) { shown[turn, default: []].append(path) }
        }
        return shown.sorted { ($0.key.namespace, $0.key.port) < ($1.key.namespace, $1.key.port) }.compactMap {
            finding($0, $1, evidence)
        }
    }

    private func turn(of path: PathEvidence, _ evidence: Evidence) -> Turn? {
        guard let site = path.dropSite, let last = path.droppedAfter?.probe, last.hook == .prerouting,
            site.suspects.contains(where: { if case .bridge = $0 { true } else { false } }),
            let entry = path.example.legs.last?.entry, let facts = evidence.layout.namespaces[last.namespace].facts
        else { return nil }
        var packet = RuleMatch.Packet(entry)
        packet.inInterface = path.droppedAfter?.inInterface
        // The first rule that may be the packet's decides.
        let redirection = facts.redirections.first {
            $0.family == last.family && $0.isReachedFromPrerouting && $0.match.admits(packet) != false
        }
        guard let target = redirection?.target, target == "\(entry.source)" else { return nil }
        let bridge = site.after.inInterface
        let ports = evidence.layout.namespaces[last.namespace].interfaces.filter { $0.value.port?.bridge == bridge }
        // The other end of the sender's interface, or the only port there is.
        let own = ports.filter { index, port in
            path.departure.map { $0.peer == index && evidence.isEnd($0, of: port.peer) } ?? (ports.count == 1)
        }
        guard own.count == 1, let port = own.first, port.value.port?.isHairpin == false else { return nil }
        return Turn(namespace: last.namespace, bridge: bridge, port: port.key)
    }

    private func finding(_ turn: Turn, _ paths: [PathEvidence], _ evidence: Evidence) -> Finding? {
        let namespace = evidence.layout.namespaces[turn.namespace]
        guard let bridge = namespace.interfaces[turn.bridge]?.name, let port = namespace.interfaces[turn.port]?.name else {
            return nil
        }
        return Finding(
            "bridge-hairpin", .problem,
            "port \(port) of the bridge \(bridge) in \(namespace.name) sends nothing back to its sender",
            in: namespace.name, shownBy: paths,
            because:
                "A forwarded port leads back to the packet's own sender, which is behind the port \(port) that it came by. A "
                + "bridge sends no frame out of the port that it came in by unless that is in hairpin mode, so that it vanishes "
                + "behind PREROUTING.",
            cure: evidence.command(in: namespace.name, ["bridge", "link", "set", "dev", port, "hairpin", "on"]))
    }
}

extension Evidence {
    /// Whether an interface is one that has the index `peer` in its namespace.
    fileprivate func isEnd(_ interface: Interface, of peer: UInt32?) -> Bool {
        guard let peer else { return false }
        return layout.namespaces.contains { $0.interfaces[peer] == interface }
    }
}
