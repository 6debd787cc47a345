internal import Aggregation
internal import TraceModel

/// The input of the rules of findings: a snapshot's paths and flows, and the rules and settings of its namespaces.
struct Evidence {
    /// Paths, most packets first.
    let paths: [PathEvidence]
    /// The latest flows, at most `flowLimit`.
    let flows: [FlowEvidence]
    /// Namespaces of which rules or settings are known, each name once.
    let namespaces: [NamespaceEvidence]
    let layout: Layout
    /// Whether the probes of one run are gone when commands are read.
    let probesGo: Bool
    private let flowsByPath: [Int: [Int]]

    private static let flowLimit = 1000

    init(_ snapshot: TraceSnapshot, probesGo: Bool = false) {
        self.probesGo = probesGo
        layout = snapshot.layout
        paths = snapshot.pathsByPackets().map { PathEvidence(snapshot, $0) }
        flows = snapshot.latestFlows(Self.flowLimit).map { FlowEvidence(snapshot, $0) }
        var namespaces: [NamespaceEvidence] = []
        for (index, namespace) in snapshot.layout.namespaces.enumerated() {
            if let known = namespaces.firstIndex(where: { $0.name == namespace.name }) {
                namespaces[known].indices.insert(index)
            } else if let facts = namespace.facts {
                let same = snapshot.layout.namespaces.indices.filter { snapshot.layout.namespaces[$0].name == namespace.name }
                namespaces.append(
                    NamespaceEvidence(
                        name: namespace.name, indices: Set(same), facts: facts,
                        dropCounters: same.lazy.compactMap { snapshot.context.dropCounters[$0] }.first ?? DropCounters()))
            }
        }
        self.namespaces = namespaces
        var flowsByPath: [Int: [Int]] = [:]
        for (index, flow) in flows.enumerated() {
            for path in Set(flow.record.original.paths) { flowsByPath[path, default: []].append(index) }
        }
        self.flowsByPath = flowsByPath
    }

    /// Flows of which original packets took a path.
    func flows(on path: PathEvidence) -> [FlowEvidence] { flowsByPath[path.index, default: []].map { flows[$0] } }
}

/// A namespace by name: what NFLOG and the kernel log report of it has indices of their own.
struct NamespaceEvidence {
    let name: String
    var indices: Set<Int>
    let facts: NamespaceFacts
    /// By how much its counters have risen; none where they are not known.
    let dropCounters: DropCounters

    func holds(_ probe: Probe) -> Bool { indices.contains(probe.namespace) }
}

/// A translation, and the namespace that makes it.
struct TranslationEvidence {
    let record: TranslationRecord
    let namespace: Int

    var kind: TranslationRecord.Kind { record.kind }
}

extension Sequence where Element == TranslationEvidence {
    func contains(_ kind: TranslationRecord.Kind, in namespaces: Set<Int>) -> Bool {
        contains { $0.kind == kind && namespaces.contains($0.namespace) }
    }
}

/// A path of the snapshot, with its numbers looked up.
struct PathEvidence {
    struct PlacedStep {
        let probe: Probe
        /// Names; `nil` where the packet had no such interface there.
        let inInterface: String?
        let outInterface: String?
    }

    /// In the snapshot's table.
    let index: Int
    let packets: UInt64
    let outcome: Outcome
    /// Whether all of its packets were replies.
    let isReply: Bool
    let steps: [PlacedStep]
    let dropSite: DropSite?
    /// The step behind which its packets were dropped.
    let droppedAfter: PlacedStep?
    /// Hooks of the probes of which one had to see the dropped packets next.
    let droppedBefore: Set<Hook>
    let translations: [TranslationEvidence]
    /// The interface by which its packets left the namespace before the last.
    let departure: Interface?
    let example: Journey

    init(_ snapshot: TraceSnapshot, _ index: Int) {
        let layout = snapshot.layout
        func place(_ step: Step) -> PlacedStep {
            let probe = layout.probes[Int(step.probe)]
            return PlacedStep(
                probe: probe, inInterface: layout.interfaceName(step.inInterface, namespace: probe.namespace),
                outInterface: layout.interfaceName(step.outInterface, namespace: probe.namespace))
        }
        let path = snapshot.paths[index]
        let counts = snapshot.paths.counts(index)
        self.index = index
        packets = counts.packets
        outcome = path.outcome
        isReply = counts.originals == 0 && counts.replies > 0
        steps = path.stepPaths.flatMap { snapshot.stepTrie.steps(of: $0) }.map(place)
        dropSite = snapshot.dropSite(ofPath: index)
        droppedAfter = dropSite.map { place($0.after) }
        droppedBefore = Set(dropSite?.before.map { layout.probes[Int($0)].hook } ?? [])
        translations = snapshot.paths.translations(index).map { snapshot.evidence($0.translation, of: path) }
        example = path.example.journey
        departure = path.stepPaths.dropLast().last.flatMap { snapshot.stepTrie.steps(of: $0).last }.flatMap {
            layout.namespaces[layout.probes[Int($0.probe)].namespace].interfaces[$0.outInterface]
        }
    }

    var suspects: [Suspect] { dropSite?.suspects ?? [] }

    /// Whether its packets vanished between PREROUTING and the chains behind the routing decision: no table did that. A copy
    /// of a multicast packet goes no further than that wherever nobody wants it.
    var isLostInRouting: Bool {
        droppedAfter?.probe.hook == .prerouting && droppedBefore.contains(.forward)
            && !example.packet.tuple.destination.isMulticast
    }

    /// Whether nothing but the routing decision can have dropped its packets. Nat's chains cannot drop.
    var isLostInRoutingAlone: Bool {
        suspects.filter { if case .chain(.nat, _) = $0 { false } else { true } } == [.routing]
    }

    /// Whether its packets were sent by the namespace in which they vanish, and carry its own address as their source: those
    /// are refused whatever the settings.
    var comesBack: Bool {
        guard let first = steps.first, let droppedAfter else { return false }
        return first.probe.hook == .output && first.probe.namespace == droppedAfter.probe.namespace
            && !translations.contains { $0.kind == .snat }
    }
}

/// A connection of the snapshot.
struct FlowEvidence {
    let record: FlowRecord
    let translations: [TranslationEvidence]

    init(_ snapshot: TraceSnapshot, _ record: FlowRecord) {
        self.record = record
        translations = record.translations.filter { $0.path < snapshot.paths.count }.map {
            snapshot.evidence($0.translation, of: snapshot.paths[$0.path])
        }
    }

    var transport: UInt8 { record.original.tuple.transport }

    /// Port of the original's destination; `nil` where ports play no role.
    var destinationPort: UInt16? {
        record.original.tuple.hasPorts ? record.original.tuple.destinationPort : nil
    }
}

extension TraceSnapshot {
    fileprivate func evidence(_ translation: TranslationRecord, of path: PathRecord) -> TranslationEvidence {
        let first = stepTrie.steps(of: path.stepPaths[translation.leg]).first
        return TranslationEvidence(
            record: translation, namespace: first.map { layout.probes[Int($0.probe)].namespace } ?? -1)
    }
}
