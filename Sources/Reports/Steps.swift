internal import Aggregation
internal import TraceModel

/// A step as JSON has it.
public struct StepReport: Codable, Sendable, Equatable {
    public var netns: String
    /// The packet's: `ipv4` or `ipv6`.
    public var family: String
    public var backend: String
    public var hook: String
    /// The family of the table: `ip`, `ip6`, `inet`, `netdev`, `bridge`.
    public var tableFamily: String
    public var table: String
    public var chain: String
    /// Where the table stands in the hook's order: lower numbers first.
    public var priority: Int
    /// The user-defined chain that the packet had come back from, where it was seen behind the jump there.
    public var backFrom: String?
    @ExplicitNull public var `in`: String?
    @ExplicitNull public var out: String?

    /// The chain; with the hook where that is not the same, and the chain that the packet came back from.
    var chainText: String { Phrase.chain(chain, table: table, hook: hook, backFrom: backFrom) }
}

public struct TranslationReport: Codable, Sendable, Equatable {
    /// `snat`, `dnat`; `snat_reply`, `dnat_reply` where a reply is put back.
    public var kind: String
    public var netns: String
    public var from: String
    public var to: String
    public var fromPort: Int?
    public var toPort: Int?
    /// How many packets of the path met it.
    public var packets: UInt64
    /// Index of the first step that sees the packet rewritten; the number of steps where none does.
    public var step: Int
}

extension Layout {
    /// The step as a person reads it.
    func describe(_ step: Step) -> StepReport {
        let probe = probes[Int(step.probe)]
        return StepReport(
            netns: namespaces[probe.namespace].name, family: probe.family.name, backend: probe.backend.rawValue,
            hook: probe.hook.name, tableFamily: probe.tableFamily, table: probe.table.name, chain: probe.chain,
            priority: Int(probe.priority), backFrom: probe.backFrom,
            in: interfaceName(step.inInterface, namespace: probe.namespace),
            out: interfaceName(step.outInterface, namespace: probe.namespace))
    }
}

extension Probe {
    /// As nft names the family of the probe's table.
    fileprivate var tableFamily: String { decision?.place.tableFamily ?? family.tableName }
}

extension TraceContext {
    func describe(_ step: Step) -> StepReport { layout.describe(step) }

    /// The step that first sees the packet behind `translation`, counted over the whole path.
    func visibleStep(of translation: TranslationRecord, stepPaths: [StepPathID]) -> Int {
        let before = stepPaths.prefix(translation.leg).reduce(0) { $0 + self.stepTrie.steps(of: $1).count }
        let steps = self.stepTrie.steps(of: stepPaths[translation.leg])
        let isDestination = translation.kind == .dnat || translation.kind == .snatReply
        let first = steps.firstIndex { step in
            let probe = layout.probes[Int(step.probe)]
            if isDestination {
                switch probe.hook {
                case .prerouting, .output: return probe.priority > HookPriority.destinationTranslation
                default: return true
                }
            }
            return (probe.hook == .input || probe.hook == .postrouting) && probe.priority > HookPriority.sourceTranslation
        }
        return before + (first ?? steps.count)
    }

    func describe(_ translation: TranslationRecord, packets: UInt64, stepPaths: [StepPathID]) -> TranslationReport {
        let namespace = self.stepTrie.steps(of: stepPaths[translation.leg]).first.map {
            layout.namespaces[layout.probes[Int($0.probe)].namespace].name
        }
        return TranslationReport(
            kind: translation.kind.rawValue, netns: namespace ?? "", from: "\(translation.from)", to: "\(translation.to)",
            fromPort: translation.hasPorts ? Int(translation.fromPort) : nil,
            toPort: translation.hasPorts ? Int(translation.toPort) : nil,
            packets: packets, step: visibleStep(of: translation, stepPaths: stepPaths))
    }
}
