internal import TraceModel

/// What connection tracking loses without a probe seeing it, by its own statistics (`struct ip_conntrack_stat`).
struct LostInTracking: FindingRule {
    func findings(in evidence: Evidence) -> [Finding] {
        evidence.namespaces.flatMap { namespace in
            let failed = namespace.dropCounters[.ipv4, .insertionFailed]
            // Those of its packets that all of the way on is followed of.
            let shown = evidence.paths.filter { path in
                path.dropSite?.trackingLoss == .insertionFailed && path.droppedAfter.map { namespace.holds($0.probe) } == true
            }
            let thrownOut = namespace.dropCounters[.ipv4, .earlyDrop]
            return [
                failed == 0
                    ? nil
                    : Finding(
                        "insertion-failed", .warning,
                        "connections cannot be put into the connection table of \(namespace.name)",
                        in: namespace.name,
                        because:
                            "Since the collection began connection tracking has dropped \(failed) packets for this behind all chains "
                            + "(insert_failed): another packet had put in an entry for the same addresses and ports just before, as when "
                            + "one socket sends two DNS questions at once, or two clients get one port from the same SNAT rule.",
                        packets: failed, journeys: shown.map(\.example.serial), paths: shown.map(\.index)),
                thrownOut == 0
                    ? nil
                    : Finding(
                        "connections-thrown-out", .warning, "connections are forgotten early in \(namespace.name)",
                        in: namespace.name,
                        because:
                            "Since the collection began connection tracking has thrown out \(thrownOut) connections that were not "
                            + "answered yet to make room for others (early_drop): as many are tracked as net.netfilter.nf_conntrack_max "
                            + "allows. What comes for them later counts as new or INVALID, and translations are lost."),
            ].compactMap(\.self)
        }
    }
}
