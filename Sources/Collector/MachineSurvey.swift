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

    /// Surveys `namespaces` and puts the result into `registry`. A namespace that cannot be read any more keeps its name
    /// and has nothing in it.
    func update(_ registry: LayoutRegistry, _ namespaces: [NetworkNamespace]) async {
        var layouts: [NamespaceLayout] = []
        var readings: [Topology.Reading] = []
        var found: [Probe] = []
        for (index, namespace) in namespaces.enumerated() {
            var layout = NamespaceLayout(name: namespace.name, inode: namespace.inode)
            readings.append((try? Topology.read(index, of: namespaces)) ?? Topology.Reading())
            if let rules = try? await probes.survey(namespace, index: index) {
                found += rules.probes.filter { $0.target == .nflog && $0.group == group }.map(\.probe)
                layout.tracksConnections = rules.tracksConnections
            }
            layouts.append(layout)
        }
        let segments = Topology.segments(readings)
        for index in layouts.indices { layouts[index].interfaces = segments.interfaces[index] }
        registry.update(namespaces: layouts, openSegments: segments.open, probes: found)
    }
}
