private import Foundation
internal import Namespaces
internal import Ruleset
internal import TraceModel

/// Reads what the layout consists of: rules and interfaces of all namespaces.
struct MachineSurvey: Sendable {
    private let probes: ProbeSurvey
    private let group: UInt16

    init(group: UInt16) async throws {
        probes = try await ProbeSurvey()
        self.group = group
    }

    /// Surveys `places` and puts the result into `registry`. A namespace that is gone or cannot be read keeps its name and
    /// has nothing in it.
    func update(_ registry: LayoutRegistry, _ places: [Collector.Place]) async {
        let removed = Set(ProbeJournal.readAll().filter(\.isBeingRemoved).map(\.run))
        var layouts: [NamespaceLayout] = []
        var readings: [Topology.Reading] = []
        var found: [Probe] = []
        for (index, place) in places.enumerated() {
            var layout = NamespaceLayout(name: place.name, inode: place.inode)
            readings.append((try? Topology.read(index, of: places.map(\.namespace))) ?? Topology.Reading())
            if let namespace = place.namespace, let rules = try? await probes.survey(namespace, index: index) {
                for rule in rules.probes where rule.target == .nflog && rule.group == group {
                    var probe = rule.probe
                    // On its way out: its silence proves nothing.
                    if let run = rule.run, removed.contains(run) { probe.coverage = .some }
                    found.append(probe)
                }
                layout.tracksConnections = rules.tracksConnections
                layout.decidingChains = rules.decidingChains
            }
            layouts.append(layout)
        }
        let segments = Topology.segments(readings)
        for index in layouts.indices { layouts[index].interfaces = segments.interfaces[index] }
        registry.update(namespaces: layouts, openSegments: segments.open, probes: found)
    }
}
