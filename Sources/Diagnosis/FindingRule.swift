public import Aggregation

/// Finds one sort of fault. A new one is a file in `Findings` and a line in `FindingRules.all`.
protocol FindingRule: Sendable {
    func findings(in evidence: Evidence) -> [Finding]
}

enum FindingRules {
    static let all: [any FindingRule] = [
        ConnectionTableFull(),
        ForwardingDisabled(), ReversePathFilter(), LostInRouting(), PathMTUBlocked(), LostInTracking(), LostAtSockets(),
        RepliesDropped(),
        InvalidDropped(),
        TranslationMissingForLocal(),
        LoopbackSourceLeaves(),
        HairpinWithoutMasquerade(), BridgeHairpin(), TranslationWithoutTracking(), UnevenBalance(), ShadowedRule(),
        BothBackends(),
        ProbesCovered(), ProbesMissing(), NobodyListens(), OneWay(),
    ]
}

extension TraceSnapshot {
    /// Faults that the snapshot shows: severest first, then those with most packets.
    public var findings: [Finding] { findings(probesGo: false) }

    /// - Parameter probesGo: whether the probes of one run are gone when the cures are read, as those of `why` are.
    public func findings(probesGo: Bool) -> [Finding] {
        let evidence = Evidence(self, probesGo: probesGo)
        let faults = FindingRules.all.flatMap { $0.findings(in: evidence) }
        let drops = PacketsDropped(explained: Set(faults.flatMap(\.paths))).findings(in: evidence)
        return (faults + drops).sorted {
            ($1.severity, $1.packets, $0.kind, $0.netns) < ($0.severity, $0.packets, $1.kind, $1.netns)
        }
    }
}
