internal import Aggregation
internal import Diagnosis
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
    public var verdict: String
    /// How it is known: `trace`.
    public var evidence: String

    /// As a person reads it.
    public var text: String {
        let what = rule ?? "number \(handle ?? 0), which could not be read or is gone"
        return "by \(kind == "policy" ? "the policy" : "a rule") of \(table)/\(chain) in \(netns): \(what)"
    }
}

extension TraceContext {
    func decidedBy(_ site: DropSite?) -> DecidedBy? {
        guard let site, let decision = site.decision else { return nil }
        let probe = layout.probes[Int(site.after.probe)]
        let place = decision.place
        return DecidedBy(
            kind: decision.kind.rawValue, netns: layout.namespaces[probe.namespace].name,
            family: probe.family.name, backend: place.backend.rawValue, tableFamily: place.tableFamily,
            table: place.table, chain: place.chain, position: decision.position, handle: place.handle,
            rule: decision.kind == .policy ? "-P \(place.chain) DROP" : decision.text, verdict: "drop", evidence: "trace")
    }
}
