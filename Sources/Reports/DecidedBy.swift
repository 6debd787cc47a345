internal import Aggregation
public import Diagnosis
internal import TraceModel

/// What dropped a packet, and how that is known.
public struct DecidedBy: Codable, Sendable, Equatable {
    /// `rule` or `policy`; `kernel` where no rule did it and the kernel said why; `conntrack` where connection tracking did it; `unknown`.
    public var kind: String
    public var netns: String
    /// The packet's: `ipv4` or `ipv6`.
    public var family: String
    // Of a rule or policy.
    public var backend: String?
    public var tableFamily: String?
    public var table: String?
    public var chain: String?
    /// Where the table stands in its hook's order; absent where it is not known.
    public var priority: Int?
    /// The rule's number in its chain, from 1 on, without our probes; `null` for native tables, a policy, and where it is not known.
    @ExplicitNull public var position: Int?
    /// nf_tables' number of the rule; `null` for a policy, legacy rules, and where it is not known.
    @ExplicitNull public var handle: UInt64?
    /// As the tool that traced or listed it printed it; the policy's line for a policy. Absent where the rule could not be read, or
    /// is gone.
    public var rule: String?
    /// Of `kernel`, its reason by the name of `enum skb_drop_reason` (include/net/dropreason-core.h); of `conntrack`, `table full` or
    /// `insertion failed`.
    public var reason: String?
    /// The kernel's function that let go of the packet, where `evidence` is `drop_reason`.
    public var function: String?
    /// What the reason means, for a person; of `kernel` and `conntrack` only.
    public var explanation: String?
    /// What lies where it was lost: one of these did it. Of `unknown` only.
    public var suspects: [String]?
    /// `DROP`, or `REJECT` where the sender gets an answer.
    public var verdict: String
    /// Of a REJECT: what the rule has the kernel answer, in the rule's own words: `icmp-port-unreachable`, `tcp reset`.
    public var answer: String?
    /// Why connection tracking calls the packets INVALID, in its own words: `bad checksum`; absent where it does not, or where that is not known.
    public var invalid: String?
    /// Who wrote the rule, where that can be recognised.
    @ExplicitNull public var owner: RuleOwner?
    /// Packets of all paths that the rule or policy dropped; absent for a single packet, and where no rule is known.
    public var packets: UInt64?
    /// How it is known: `trace`; `drop_reason` where the kernel said it of the packet; `counter` where the kernel's counters have risen by as many; `inferred` where rules that were given
    /// with a file say what a traced rule does, or the rule dropped another packet of the connection at the same place; `none`.
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

    /// Whether it is known which rule or policy it was.
    public var isRule: Bool { kind == "rule" || kind == "policy" }

    /// Whether the sender is told of the drop.
    var isReject: Bool { verdict == "REJECT" }

    /// Whether both are one rule, policy or reason, or unknown, whatever packets they dropped.
    func isSame(as other: DecidedBy) -> Bool {
        var other = other
        other.nearest = nearest
        other.way = way
        other.packets = packets
        other.suspects = suspects
        // Known of some packets and inferred of others.
        if isRule { other.evidence = evidence }
        return self == other
    }

    /// As a person reads it; of a rule or policy.
    public var text: String {
        "by \(kind == "policy" ? "the policy" : "a rule") of \(placeText)\(ownerText)\(evidence == "inferred" ? ", as is inferred" : ""): \(ruleText)\(answerText)\(invalidText)"
    }

    /// As a person reads it; of `kernel` and `conntrack`.
    var kernelText: String {
        let witness =
            evidence == "counter"
            ? "the kernel's counters say so" : "the kernel says so: \(reason ?? "?")\(function.map { " in \($0)" } ?? "")"
        if kind == "conntrack" {
            return "by connection tracking in \(netns): \(reason ?? "?"), \(explanation ?? "") (\(witness))"
        }
        return "by the kernel in \(netns): \(explanation ?? reason ?? "?") (\(witness))"
    }

    /// `, which answers tcp-reset`; empty where the rule shows it itself.
    private var answerText: String { answer.map { ruleText.contains($0) ? "" : ", which answers \($0)" } ?? "" }

    /// ` (INVALID: bad checksum)`.
    var invalidText: String { invalid.map { " (INVALID: \($0))" } ?? "" }

    /// `filter/FORWARD in host`.
    var placeText: String { "\(table ?? "?")/\(chain ?? "?") in \(netns)" }

    var ruleText: String { rule ?? "number \(handle ?? 0), which could not be read or is gone" }

    /// ` (written by docker: network docker0)`; empty where nobody is recognised.
    var ownerText: String {
        owner.map { " (written by \($0.program)\($0.object.map { ": \($0)" } ?? ""))" } ?? ""
    }
}

extension TraceContext {
    /// - Parameter packets: all that the rule or policy dropped, where it is known.
    func decidedBy(_ site: DropSite?, packets: UInt64?) -> DecidedBy? {
        guard let site else { return nil }
        let probe = layout.probes[Int(site.after.probe)]
        let namespace = site.decision?.namespace ?? probe.namespace
        var decided = DecidedBy(netns: layout.namespaces[namespace].name, family: probe.family.name)
        guard let decision = site.decision else {
            if let kernel = site.kernel {
                decided.kind = "kernel"
                decided.reason = kernel.reason
                decided.function = kernel.function.isEmpty ? nil : kernel.function
                decided.explanation = kernel.explanation
                decided.evidence = "drop_reason"
                decided.packets = packets
            } else if site.isCounted, let cause = site.causes.first, let reason = cause.dropReason {
                decided.kind = "kernel"
                decided.reason = reason
                decided.explanation = cause.explanation
                decided.evidence = "counter"
            } else if let loss = site.trackingLoss {
                decided.kind = "conntrack"
                decided.evidence = "counter"
                switch loss {
                case .tableFull:
                    decided.reason = "table full"
                    let limit = layout.namespaces[namespace].facts?.fullConnectionTable
                    decided.explanation =
                        "as many connections are tracked as net.netfilter.nf_conntrack_max allows\(limit.map { " (\($0))" } ?? "")"
                case .insertionFailed:
                    decided.reason = "insertion failed"
                    decided.explanation = "another packet had put in an entry for the same addresses and ports just before"
                }
            } else {
                decided.suspects = site.suspects.map(\.description)
            }
            return decided
        }
        let place = decision.place
        decided.kind = decision.kind.rawValue
        decided.backend = place.backend.rawValue
        decided.tableFamily = place.tableFamily
        decided.table = place.table
        decided.chain = place.chain
        decided.priority = site.suspects.first.flatMap { priority(of: $0, place, in: namespace) }
        decided.position = decision.position
        decided.handle = place.handle
        decided.rule = decision.kind == .policy ? place.policyText(.drop) : decision.text
        decided.verdict = decision.isReject ? "REJECT" : "DROP"
        decided.answer = decision.rejection
        decided.owner = decision.owner
        decided.invalid = decision.invalidity
        decided.packets = packets
        decided.evidence = decision.inference == nil ? "trace" : "inferred"
        if !decision.way.isEmpty {
            decided.way = decision.way.map { $0.text ?? "number \($0.place.handle ?? 0) of \($0.place.chain)" }
        }
        if !site.nearest.isEmpty { decided.nearest = site.nearest.map(DecidedBy.Nearest.init) }
        return decided
    }

    private func priority(of suspect: Suspect, _ place: RulePlace, in namespace: Int) -> Int? {
        switch suspect {
        case .chain(let table, let hook): return Int(HookPriority.of(table, at: hook, backend: place.backend))
        case .nativeChain(let table, let name):
            let chains = layout.namespaces[namespace].facts?.otherChains ?? []
            return chains.first { $0.table == table && $0.name == name }.map { Int($0.priority) }
        default: return nil
        }
    }
}

extension DecidedBy {
    /// Of what nothing is known but where it happened.
    fileprivate init(netns: String, family: String) {
        kind = "unknown"
        self.netns = netns
        self.family = family
        verdict = "DROP"
        evidence = "none"
    }
}

extension DecidedBy.Nearest {
    init(_ nearest: NearestRule) {
        rule = nearest.rule
        failed = nearest.failed.map { Failed(condition: $0.condition, packetValue: $0.packetValue) }
        unknown = nearest.undecided
    }
}

extension RulePlace {
    /// A chain's policy as its tool writes it: `-P INPUT DROP`, `policy drop`.
    func policyText(_ verdict: MetRule.Verdict) -> String {
        let isOfIptables = Hook(name: chain) != nil && Table(name: table) != nil
        return isOfIptables ? "-P \(chain) \(verdict.rawValue.uppercased())" : "policy \(verdict.rawValue)"
    }
}
