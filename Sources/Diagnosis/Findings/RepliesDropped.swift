internal import TraceModel

/// A chain of filter drops answers, and no rule of it accepts established connections.
struct RepliesDropped: FindingRule {
    func findings(in evidence: Evidence) -> [Finding] {
        evidence.namespaces.flatMap { namespace in
            [Hook.input, .forward].flatMap { hook in
                AddressFamily.allCases.compactMap { finding(namespace, hook, $0, evidence) }
            }
        }
    }

    private func finding(
        _ namespace: NamespaceEvidence, _ hook: Hook, _ family: AddressFamily, _ evidence: Evidence
    ) -> Finding? {
        let facts = namespace.facts
        let chains = facts.chains?.filter { $0.table == "filter" && $0.name == hook.name && $0.family == family }
        let accepts = chains?.contains(where: \.acceptsEstablished) ?? facts.acceptsEstablished.contains(hook.name)
        guard !accepts, chains?.isEmpty != true else { return nil }
        let suspect = Suspect.chain(table: .filter, hook: hook)
        let shown = evidence.paths.filter { path in
            guard path.isReply, let last = path.droppedAfter?.probe else { return false }
            return namespace.holds(last) && last.table == .filter && last.chain == hook.name && last.family == family
                && path.suspects.contains(suspect) && !evidence.othersPassed(path)
        }
        // Past a rule that drops on purpose the cure would open a way that was closed.
        let isCertain = shown.allSatisfy { $0.suspects == [suspect] } && !facts.exemptsFromTracking
        let chain = chains?.count == 1 ? chains?.first : nil
        return Finding(
            "replies-dropped", .problem, "\(namespace.name) drops the answers to connections that it let out",
            in: namespace.name, shownBy: shown,
            because: "filter/\(hook.name) dropped packets that answer others which were let through, and has no rule that "
                + "accepts ESTABLISHED connections.",
            cure: chain.flatMap { chain in
                guard isCertain, chain.dropsTheRestOnly else { return nil }
                return evidence.insertion(
                    in: namespace.name, chain, ["-m", "conntrack", "--ctstate", "ESTABLISHED,RELATED", "-j", "ACCEPT"])
            })
    }
}
