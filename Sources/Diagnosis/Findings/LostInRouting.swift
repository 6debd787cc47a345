internal import TraceModel

/// Packets vanish where they are routed, and the kernel says why.
struct LostInRouting: FindingRule {
    func findings(in evidence: Evidence) -> [Finding] {
        evidence.namespaces.flatMap { namespace in
            AddressFamily.allCases.flatMap { family -> [Finding] in
                let lost = evidence.paths.filter { path in
                    guard path.dropSite?.isToldByKernel == true, let last = path.droppedAfter?.probe else { return false }
                    return namespace.holds(last) && last.family == family
                }
                func shown(_ cause: RoutingCause) -> [PathEvidence] { lost.filter { $0.dropSite?.causes == [cause] } }
                return [
                    noRoute(namespace, shown(.noRoute)), tooLarge(namespace, family, shown(.tooLarge)),
                    spent(namespace, shown(.timeToLive)), martian(namespace, shown(.martian)),
                    refused(namespace, "blackhole", shown(.blackholeRoute), "discards packets and tells nobody"),
                    refused(namespace, "prohibit", shown(.prohibitRoute), "forbids packets, and tells their sender so"),
                    refused(namespace, "unreachable", shown(.unreachableRoute), "tells the sender that nothing is there"),
                ].compactMap(\.self)
            }
        }
    }

    private func noRoute(_ namespace: NamespaceEvidence, _ shown: [PathEvidence]) -> Finding? {
        Finding(
            "no-route", .problem, "\(namespace.name) has no route to \(destinations(shown))", in: namespace.name,
            shownBy: shown,
            because: "Packets vanished where they are routed, behind PREROUTING: no route leads on. "
                + shown.witness("InNoRoutes"))
    }

    private func refused(
        _ namespace: NamespaceEvidence, _ type: String, _ shown: [PathEvidence], _ effect: String
    ) -> Finding? {
        Finding(
            "\(type)-route", .problem,
            "\(namespace.name) has \(type == "unreachable" ? "an" : "a") \(type) route to \(destinations(shown))",
            in: namespace.name, shownBy: shown,
            because:
                "Packets vanished where they are routed, by a route of their destination that \(effect). \(shown.witness(""))")
    }

    private func tooLarge(_ namespace: NamespaceEvidence, _ family: AddressFamily, _ shown: [PathEvidence]) -> Finding? {
        let sizes = shown.map(\.example.packet.length)
        return Finding(
            "packet-too-large", .problem, "\(namespace.name) drops packets that are too large for the next link",
            in: namespace.name, shownBy: shown,
            because:
                "Packets of \(sizes.max() ?? 0) bytes that must not be cut vanished where they are routed: they do not fit through "
                + "the interface by which they would leave. \(shown.witness(family == .ipv4 ? "FragFails" : "Ip6InTooBigErrors")) "
                + "It tells the sender by ICMP how large they may be: a sender that goes on with the same size has not heard of it."
        )
    }

    private func spent(_ namespace: NamespaceEvidence, _ shown: [PathEvidence]) -> Finding? {
        Finding(
            "hops-spent", .problem, "packets have no hops left to live in \(namespace.name)", in: namespace.name,
            shownBy: shown,
            because: "They vanished where they are routed, without a hop left: they were sent with few, or go round in a loop. "
                + shown.witness("InHdrErrors"))
    }

    private func martian(_ namespace: NamespaceEvidence, _ shown: [PathEvidence]) -> Finding? {
        // What a namespace sent itself comes back by another's fault.
        let shown = shown.filter { $0.dropSite?.kernel != nil && !$0.comesBack }
        let sources = Set(shown.compactMap { $0.example.legs.last?.exit.source })
        return Finding(
            "martian-source", .problem, "packets come to \(namespace.name) from \(list(sources)), from where none can come",
            in: namespace.name, shownBy: shown,
            because: "Their source is an address of \(namespace.name) itself, or one that no packet from a network may have. "
                + shown.witness(""))
    }

    private func destinations(_ shown: [PathEvidence]) -> String {
        list(Set(shown.compactMap { $0.example.legs.last?.exit.destination }))
    }

    private func list(_ addresses: Set<IPAddress>) -> String {
        let names = addresses.map(\.description).sorted()
        return "\(names.first ?? "")\(names.count > 1 ? " and others" : "")"
    }
}

extension [PathEvidence] {
    /// How the kernel has told why it dropped their packets, as a sentence.
    ///
    /// - Parameter counter: the name of the counter that may have told.
    func witness(_ counter: String) -> String {
        guard let kernel = compactMap({ $0.dropSite?.kernel }).first else {
            return "The kernel has counted as many (\(counter)) and none that it dropped there for another reason."
        }
        return "The kernel itself says so of the packets (\(kernel.reason) in \(kernel.function))."
    }
}
