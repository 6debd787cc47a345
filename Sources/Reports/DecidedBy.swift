internal import Aggregation
public import Diagnosis
internal import TraceModel

/// What dropped a packet, where the kernel said so.
public struct DecidedBy: Codable, Sendable, Equatable {
    /// `rule` or `policy`.
    public var kind: String
    public var netns: String
    /// The packet's: `ipv4` or `ipv6`.
    public var family: String
    public var backend: String
    public var tableFamily: String
    public var table: String
    public var chain: String
    /// The rule's number in its chain, from 1 on, without our probes; absent where it is not known.
    public var position: Int?
    /// nf_tables' number of the rule; absent where it is not known.
    public var handle: UInt64?
    /// As the tool that traced or listed it printed it; the policy's line for a policy. Absent where the rule could not be read, or
    /// is gone.
    public var rule: String?
    /// `DROP`, or `REJECT` where the sender gets an answer.
    public var verdict: String
    /// Who wrote the rule, where that can be recognised.
    @ExplicitNull public var owner: RuleOwner?
    /// How it is known: `trace`, or `inferred` where rules that were given with a file say what a traced rule does.
    public var evidence: String
    /// The rules that led into its chain, first to last, as the tool printed them; absent where it is the hook's own chain, and where they
    /// are not known.
    public var way: [String]?
    /// Of a policy, or a rule without conditions: the accepting rules that came closest to the example's packet. Inferred from the
    /// rules as they were read; absent where there are none.
    public var nearest: [Nearest]?

    public struct Nearest: Codable, Sendable, Equatable {
        public struct Failed: Codable, Sendable, Equatable {
            public var condition: String
            @ExplicitNull public var packetValue: String?
        }

        public var rule: String
        /// The conditions that the packet did not meet.
        public var failed: [Failed]
        /// Conditions for which the packet does not tell whether they hold, such as states and marks.
        public var unknown: [String]

        /// As a person reads it.
        public var text: String {
            let conditions =
                failed.map { $0.condition + ($0.packetValue.map { " (it was \($0))" } ?? "") }
                + unknown.map { "\($0) (what it was is not known)" }
            return "\(rule) would accept but for \(conditions.joined(separator: " and "))"
        }
    }

    /// Whether the sender is told of the drop.
    var isReject: Bool { verdict == "REJECT" }

    /// Whether both are one rule or policy, whatever packets they dropped.
    func isSame(as other: DecidedBy) -> Bool {
        var other = other
        other.nearest = nearest
        other.way = way
        return self == other
    }

    /// As a person reads it.
    public var text: String {
        let what = rule ?? "number \(handle ?? 0), which could not be read or is gone"
        return "by \(kind == "policy" ? "the policy" : "a rule") of \(table)/\(chain) in \(netns)\(ownerText): \(what)"
    }

    /// ` (written by docker: network docker0)`; empty where nobody is recognised.
    var ownerText: String {
        owner.map { " (written by \($0.program)\($0.object.map { ": \($0)" } ?? ""))" } ?? ""
    }
}

extension TraceContext {
    func decidedBy(_ site: DropSite?) -> DecidedBy? {
        guard let site, let decision = site.decision else { return nil }
        let probe = layout.probes[Int(site.after.probe)]
        let place = decision.place
        return DecidedBy(
            kind: decision.kind.rawValue, netns: layout.namespaces[decision.namespace ?? probe.namespace].name,
            family: probe.family.name, backend: place.backend.rawValue, tableFamily: place.tableFamily,
            table: place.table, chain: place.chain, position: decision.position, handle: place.handle,
            rule: decision.kind == .policy ? "-P \(place.chain) DROP" : decision.text,
            verdict: decision.isReject ? "REJECT" : "DROP",
            owner: decision.owner, evidence: decision.isInferred ? "inferred" : "trace",
            way: decision.way.isEmpty
                ? nil : decision.way.map { $0.text ?? "number \($0.place.handle ?? 0) of \($0.place.chain)" },
            nearest: site.nearest.isEmpty ? nil : site.nearest.map(DecidedBy.Nearest.init))
    }
}

extension DecidedBy.Nearest {
    init(_ nearest: NearestRule) {
        rule = nearest.rule
        failed = nearest.failed.map { Failed(condition: $0.condition, packetValue: $0.packetValue) }
        unknown = nearest.undecided
    }
}
