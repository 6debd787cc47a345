internal import Aggregation
internal import TraceModel

/// A chain lets packets of a connection through and drops others of it, and has a rule that drops what connection tracking calls
/// INVALID.
struct InvalidDropped: FindingRule {
    func findings(in evidence: Evidence) -> [Finding] {
        evidence.namespaces.flatMap { namespace in
            namespace.facts.invalidDrops.compactMap { finding($0, namespace, evidence) }
        }
    }

    private func finding(
        _ drop: NamespaceFacts.InvalidDrop, _ namespace: NamespaceEvidence, _ evidence: Evidence
    ) -> Finding? {
        guard let table = Table(name: drop.table), let hook = Hook(name: drop.chain) else { return nil }
        let suspect = Suspect.chain(table: table, hook: hook)
        let shown = evidence.paths.filter { path in
            guard let last = path.droppedAfter?.probe else { return false }
            return namespace.holds(last) && last.family == drop.family && path.suspects.contains(suspect)
                && evidence.othersPassed(path)
        }
        let isAlone = shown.allSatisfy { $0.suspects == [suspect] }
        let told = Set(shown.compactMap { $0.dropSite?.decision?.invalidity }).sorted().joined(separator: "; ")
        return Finding(
            "invalid-dropped", .warning,
            "\(namespace.name) drops packets of connections whose other packets pass, \(told.isEmpty ? "most likely as INVALID" : "as INVALID: \(told)")",

            in: namespace.name, shownBy: shown,
            because:
                "\(isAlone ? "The packets vanished" : "The packets may have vanished") in \(drop.table)/\(drop.chain), which "
                + "\(drop.rule) is part of, while others of the same connections went through. Connection tracking calls "
                + "a packet INVALID that does not fit what it has seen of the connection: a checksum or flags that are "
                + "wrong, a segment outside of the window, or a connection of which it sees one direction only. "
                + (told.isEmpty ? "(net.netfilter.nf_conntrack_log_invalid=255 logs why.)" : "Here it says why: \(told)."))
    }
}

extension Evidence {
    /// Whether other packets, in the direction of a path's and of a connection of theirs, went all their way.
    func othersPassed(_ path: PathEvidence) -> Bool {
        flows.contains { flow in
            [flow.record.original, flow.record.reply].contains { side in
                guard let side, side.paths.contains(path.index) else { return false }
                return side.outcomes[.delivered] + side.outcomes[.sent] > 0
            }
        }
    }
}
