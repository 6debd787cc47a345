internal import TraceModel

/// Packets of new connections vanish where connections are tracked, and as many are tracked as may be
/// (`__nf_conntrack_alloc` in net/netfilter/nf_conntrack_core.c).
struct ConnectionTableFull: FindingRule {
    func findings(in evidence: Evidence) -> [Finding] {
        evidence.namespaces.compactMap { namespace in
            guard let limit = namespace.facts.fullConnectionTable else { return nil }
            let shown = evidence.paths.filter { path in
                guard let last = path.droppedAfter?.probe else { return false }
                return namespace.holds(last) && path.suspects.contains(.connectionTracking)
            }
            // The limit is one for all namespaces, and is set in the first.
            let words = ["sysctl", "-w", "net.netfilter.nf_conntrack_max=\(limit * 2)"]
            let isCertain = shown.allSatisfy { $0.suspects == [.connectionTracking] }
            return Finding(
                "connection-table-full", .problem, "the connection table of \(namespace.name) is full", in: namespace.name,
                shownBy: shown,
                because:
                    "Packets of new connections vanished where connections are tracked, and \(limit) are tracked there, the "
                    + "most that net.netfilter.nf_conntrack_max allows."
                    + (!shown.isEmpty && shown.allSatisfy { $0.dropSite?.trackingLoss == .tableFull }
                        ? " (The kernel's counters say so.)" : ""),
                cure: isCertain ? evidence.command(in: "host", words) : nil)
        }
    }
}
