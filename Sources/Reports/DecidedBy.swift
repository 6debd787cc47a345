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
    /// nf_tables' number of the rule; absent where it is not known.
    public var handle: UInt64?
    /// As the tool that traced it printed it; the policy's line for a policy.
    public var rule: String
    public var verdict: String
    /// How it is known: `trace`.
    public var evidence: String

    /// As a person reads it.
    var text: String { "by \(kind == "policy" ? "the policy" : "a rule") of \(table)/\(chain) in \(netns): \(rule)" }
}

extension TraceContext {
    func decidedBy(_ site: DropSite?) -> DecidedBy? {
        guard let site, let decision = site.decision else { return nil }
        let probe = layout.probes[Int(site.after.probe)]
        return DecidedBy(
            kind: decision.rule == nil ? "policy" : "rule", netns: layout.namespaces[probe.namespace].name,
            family: probe.family.name, backend: probe.backend.rawValue, tableFamily: decision.tableFamily,
            table: probe.table.name, chain: probe.chain, handle: decision.handle,
            rule: decision.rule ?? "-P \(probe.chain) DROP", verdict: "drop", evidence: "trace")
    }
}
