internal import TraceModel

/// Packets vanish where they are routed, and the kernel has counted why.
struct CountedInRouting: FindingRule {
    func findings(in evidence: Evidence) -> [Finding] {
        evidence.namespaces.flatMap { namespace in
            AddressFamily.allCases.flatMap { family -> [Finding] in
                let lost = evidence.paths.filter { path in
                    guard path.dropSite?.isCounted == true, let last = path.droppedAfter?.probe else { return false }
                    return namespace.holds(last) && last.family == family
                }
                func shown(_ cause: RoutingCause) -> [PathEvidence] { lost.filter { $0.dropSite?.causes == [cause] } }
                return [
                    noRoute(namespace, shown(.noRoute)), tooLarge(namespace, family, shown(.tooLarge)),
                    spent(namespace, shown(.timeToLive)),
                ].compactMap(\.self)
            }
        }
    }

    private func noRoute(_ namespace: NamespaceEvidence, _ shown: [PathEvidence]) -> Finding? {
        let destinations = Set(shown.compactMap { $0.example.legs.last?.exit.destination }).map(\.description).sorted()
        return Finding(
            "no-route", .problem,
            "\(namespace.name) has no route to \(destinations.first ?? "")\(destinations.count > 1 ? " and others" : "")",
            in: namespace.name, shownBy: shown,
            because:
                "Packets vanished where they are routed, behind PREROUTING, and the kernel has counted as many that no route "
                + "leads on (InNoRoutes) and none that it dropped there for another reason.")
    }

    private func tooLarge(_ namespace: NamespaceEvidence, _ family: AddressFamily, _ shown: [PathEvidence]) -> Finding? {
        let sizes = shown.map(\.example.packet.length)
        let counter = family == .ipv4 ? "FragFails" : "Ip6InTooBigErrors"
        return Finding(
            "packet-too-large", .problem, "\(namespace.name) drops packets that are too large for the next link",
            in: namespace.name, shownBy: shown,
            because:
                "Packets of \(sizes.max() ?? 0) bytes that must not be cut vanished where they are routed; the kernel has counted "
                + "as many that do not fit through the interface by which they would leave (\(counter)). It tells the sender by ICMP "
                + "how large they may be: a sender that goes on with the same size has not heard of it.")
    }

    private func spent(_ namespace: NamespaceEvidence, _ shown: [PathEvidence]) -> Finding? {
        Finding(
            "hops-spent", .problem, "packets have no hops left to live in \(namespace.name)", in: namespace.name,
            shownBy: shown,
            because:
                "They vanished where they are routed, and the kernel has counted as many without a hop left (InHdrErrors): they "
                + "were sent with few, or go round in a loop.")
    }
}
