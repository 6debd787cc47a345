private import Foundation
internal import Intake
internal import Namespaces
internal import Ruleset
internal import TraceModel
internal import WireFormat

/// Reads what the layout consists of: rules and interfaces of all namespaces.
struct MachineSurvey: Sendable {
    private let probes: ProbeSurvey
    private let group: UInt16
    private let media: MediaNumbering

    init(group: UInt16, media: MediaNumbering) async throws {
        probes = try await ProbeSurvey()
        self.group = group
        self.media = media
    }

    /// Surveys `places` and puts the result into `registry`. A namespace that is gone or cannot be read keeps its name and
    /// has nothing in it.
    func update(_ registry: LayoutRegistry, _ places: [Collector.Place]) async {
        let journals = ProbeJournal.readAll()
        var layouts: [NamespaceLayout] = []
        var readings: [LinkGraph.Reading] = []
        var found: [Probe] = []
        for (index, place) in places.enumerated() {
            var own = media.layouts(name: place.name, inode: place.inode)
            readings.append((try? Topology.read(index, of: places.map(\.namespace))) ?? LinkGraph.Reading())
            if let namespace = place.namespace,
                let rules = try? await probes.survey(namespace, index: index, journals: journals)
            {
                let removed = journals.runsBeingRemoved(from: namespace)
                for rule in rules.probes {
                    guard let number = media.index(of: index, rule.target), rule.target == .log || rule.group == group else {
                        continue
                    }
                    var probe = rule.probe
                    probe.namespace = number
                    // On its way out: its silence proves nothing.
                    if let run = rule.run, removed.contains(run) { probe.coverage = .some }
                    found.append(probe)
                }
                var facts = rules.facts
                for journal in journals {
                    facts.missingProbes.formUnion(journal.missing(in: namespace, found: rules.probes))
                }
                Settings.read(namespace, interfaces: readings[index].links.map(\.name), into: &facts)
                for number in own.indices {
                    own[number].facts = facts
                    own[number].tracksConnections = rules.tracksConnections
                    own[number].decidingChains = rules.decidingChains
                }
            }
            layouts += own
        }
        let segments = LinkGraph.segments(readings)
        for index in layouts.indices { layouts[index].interfaces = media.interfaces(segments.interfaces, of: index) }
        registry.update(namespaces: layouts, openSegments: media.open(segments.open), probes: found)
    }
}
