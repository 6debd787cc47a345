internal import Aggregation
internal import Diagnosis
internal import TraceModel

/// How many packets were dropped: by the last place that saw them, by what decided it with who wrote that, and by the kernel's reasons.
///
/// The sets of labels are closed, or bounded, and all of their series are there from the start: a counter that appears with its first
/// drop hides that drop from `increase()`.
struct DropMetrics {
    /// Places that have a series of their own; a scrape of 60 namespaces with both families has some 2,000.
    static let mostPlaces = 4_000
    /// `kind` where nothing named what dropped the packets.
    static let unnamed = "unnamed"
    /// `kind` where the kernel says why it dropped them, outside all tables.
    static let kernel = "kernel"
    /// `kind` where connection tracking could make no entry for their connections.
    static let tracking = "conntrack"
    /// `owner` of rules of which nothing shows who wrote them, and where no rule is named.
    static let noOwner = "none"

    /// By namespace, family, table and chain.
    private(set) var places: [[MetricsLine]: UInt64] = [:]
    /// Packets dropped in places beyond `mostPlaces`.
    private(set) var unlisted: UInt64 = 0
    /// By kind and owner.
    private(set) var decisions: [[String]: UInt64] = [:]
    /// By the kernel's reason.
    private(set) var reasons: [String: UInt64] = [:]
    /// `reason` of those that are not known by name.
    static let otherReason = "other"

    init(_ snapshot: TraceSnapshot) {
        for owner in OwnerRules.programs + [Self.noOwner] { decisions[[RuleDecision.Kind.rule.rawValue, owner]] = 0 }
        decisions[[RuleDecision.Kind.policy.rawValue, Self.noOwner]] = 0
        decisions[[Self.kernel, Self.noOwner]] = 0
        decisions[[Self.tracking, Self.noOwner]] = 0
        for reason in KernelDecision.explained + [Self.otherReason] { reasons[reason] = 0 }
        decisions[[Self.unnamed, Self.noOwner]] = 0
        addPlaces(of: snapshot.layout)
        // Many paths end by few rules.
        var owners: [ObjectIdentifier: String] = [:]
        for index in snapshot.paths.indices where snapshot.paths[index].outcome == .dropped {
            let packets = snapshot.paths.counts(index).packets
            if let decision = snapshot.paths[index].decision {
                add(packets, by: decision, &owners)
            } else {
                addCounted(packets, at: snapshot.dropSite(ofPath: index))
            }
            guard let last = snapshot.paths[index].stepPaths.last.flatMap({ snapshot.stepTrie.steps(of: $0).last }),
                // Names of namespaces that come and go would be series without end.
                !snapshot.layout.namespaces[snapshot.layout.probes[Int(last.probe)].namespace].isGone
            else { continue }
            let key = Self.key(snapshot.layout, snapshot.layout.probes[Int(last.probe)])
            if places[key] == nil, places.count >= Self.mostPlaces {
                unlisted += packets
            } else {
                places[key, default: 0] += packets
            }
        }
    }

    private mutating func addPlaces(of layout: Layout) {
        for (index, probe) in layout.probes.enumerated()
        where layout.isInForce[index] && probe.isInBaseChain && !layout.namespaces[probe.namespace].isGone {
            // Room is left for places that have dropped something.
            guard places.count < Self.mostPlaces / 2 else { return }
            places[Self.key(layout, probe)] = 0
        }
    }

    /// Packets of which neither a trace nor the kernel itself says what dropped them: its counters may.
    private mutating func addCounted(_ packets: UInt64, at site: DropSite?) {
        if let reason = site?.isCounted == true ? site?.causes.first?.dropReason : nil {
            add(packets, for: reason)
        } else {
            decisions[[site?.trackingLoss != nil ? Self.tracking : Self.unnamed, Self.noOwner], default: 0] += packets
        }
    }

    private mutating func add(_ packets: UInt64, for reason: String) {
        decisions[[Self.kernel, Self.noOwner], default: 0] += packets
        reasons[reasons[reason] == nil ? Self.otherReason : reason, default: 0] += packets
    }

    private mutating func add(_ packets: UInt64, by decision: Decision, _ owners: inout [ObjectIdentifier: String]) {
        if let kernel = decision.kernel { add(packets, for: kernel.reason) }
        guard let decision = decision.rule else { return }
        guard decision.kind == .rule else {
            decisions[[decision.kind.rawValue, Self.noOwner], default: 0] += packets
            return
        }
        let owner = owners[ObjectIdentifier(decision)] ?? decision.owner?.program ?? Self.noOwner
        owners[ObjectIdentifier(decision)] = owner
        decisions[[decision.kind.rawValue, owner], default: 0] += packets
    }

    private static func key(_ layout: Layout, _ probe: Probe) -> [MetricsLine] {
        [layout.namespaces[probe.namespace].name, probe.family.name, probe.table.name, probe.chain]
            .map(MetricsLine.init(escaping:))
    }
}
