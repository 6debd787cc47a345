internal import TraceModel

/// Packets for others vanish where they are routed, since the namespace does not forward.
struct ForwardingDisabled: FindingRule {
    func findings(in evidence: Evidence) -> [Finding] {
        evidence.namespaces.flatMap { namespace in
            AddressFamily.allCases.compactMap { family in
                let (forwards, setting) =
                    family == .ipv4
                    ? (namespace.facts.forwardsIPv4, "net.ipv4.ip_forward")
                    : (namespace.facts.forwardsIPv6, "net.ipv6.conf.all.forwarding")
                guard forwards == false else { return nil }
                let own = evidence.ownAddresses(of: namespace)
                let shown = evidence.lost(in: namespace, family, because: .forwardingDisabled).filter {
                    $0.example.legs.last.map { !own.contains($0.exit.destination) } ?? false
                }
                return Finding(
                    "forwarding-disabled", .problem, "\(namespace.name) does not forward packets", in: namespace.name,
                    shownBy: shown,
                    because: "Packets for others arrived and vanished where they are routed, behind PREROUTING and before "
                        + "FORWARD; \(setting) is 0 there."
                        + (family == .ipv6
                            ? " (A router keeps a default route that it learned from another only by interfaces with "
                                + "accept_ra=2.)" : "")
                        + (shown.contains { $0.dropSite?.isToldByKernel == true } ? " \(shown.witness("InAddrErrors"))" : ""),
                    cure: shown.allSatisfy(\.isLostInRoutingAlone)
                        ? evidence.command(in: namespace.name, ["sysctl", "-w", "\(setting)=1"]) : nil)
            }
        }
    }
}

extension Evidence {
    /// Addresses at which processes of a namespace took packets, or from which they sent some, as far as paths show.
    fileprivate func ownAddresses(of namespace: NamespaceEvidence) -> Set<IPAddress> {
        var addresses: Set<IPAddress> = []
        for path in paths {
            if let first = path.steps.first?.probe, first.hook == .output, namespace.holds(first),
                let source = path.example.legs.first?.entry.source
            {
                addresses.insert(source)
            }
            if let last = path.steps.last?.probe, last.hook == .input, namespace.holds(last),
                let destination = path.example.legs.last?.exit.destination
            {
                addresses.insert(destination)
            }
        }
        return addresses
    }

    /// Paths whose packets vanished where a namespace routes them, but for those that it sent to itself.
    ///
    /// - Parameter cause: those of which the kernel says that another reason dropped them are left out.
    func lost(in namespace: NamespaceEvidence, _ family: AddressFamily, because cause: RoutingCause) -> [PathEvidence] {
        paths.filter { path in
            if let site = path.dropSite, site.isToldByKernel, site.causes != [cause] { return false }
            guard path.isLostInRouting, !path.comesBack, let last = path.droppedAfter?.probe else { return false }
            return namespace.holds(last) && last.family == family
        }
    }
}
