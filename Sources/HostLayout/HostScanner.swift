package import Engine
private import Foundation
internal import LinuxSupport
internal import Ruleset
package import TraceModel
internal import WireFormat

/// Reads the parts of the layout: rules and interfaces of all namespaces.
package struct HostScanner: Sendable {
    private let probes: ProbeSurvey
    private let group: UInt16
    private let indexing: NamespaceIndexing
    private let memory = SurveyMemory()

    package init(group: UInt16, indexing: NamespaceIndexing) async throws {
        probes = try await ProbeSurvey()
        self.group = group
        self.indexing = indexing
    }

    /// Surveys `places` and puts the result into `registry`. A namespace that is gone keeps its name and has nothing in it; one
    /// that cannot be read keeps its last known state, and says so.
    ///
    /// - Parameters:
    ///   - leftOut: namespaces that should be among `places` and are not.
    ///   - rulesOf: the places whose rules are read anew; programs are started for these alone.
    ///   - readsLinks: whether interfaces are read anew, too.
    ///   - isChange: whether something is known to have changed since the last survey.
    /// - Returns: those of `rulesOf` that could be read.
    package func update(
        _ registry: LayoutRegistry, _ places: [FollowedNamespace], leftOut: [LeftOutNamespace], rulesOf: Set<Int>,
        readsLinks: Bool, isChange: Bool
    ) async -> Set<Int> {
        let journals = ProbeJournal.readAll()
        var read: Set<Int> = []
        for index in rulesOf.sorted() where index < places.count {
            guard let namespace = places[index].namespace else { continue }
            let isRead = await memory.readRules(of: index, isChange: isChange) {
                try await probes.survey(namespace, index: index, journals: journals)
            }
            if isRead { read.insert(index) }
        }
        var layouts: [NamespaceLayout] = []
        var readings: [LinkGraph.Reading] = []
        var found: [Probe] = []
        for (index, place) in places.enumerated() {
            var own = indexing.layouts(name: place.name, inode: place.inode)
            guard let namespace = place.namespace else {
                memory.forget(index)
                readings.append(LinkGraph.Reading())
                for number in own.indices { own[number].isGone = true }
                layouts += own
                continue
            }
            let links = memory.links(of: index, isWanted: readsLinks, isChange: isChange) {
                try Topology.read(index, of: places.map(\.namespace))
            }
            readings.append(links)
            if let rules = memory.rules(of: index) {
                let removed = journals.runsBeingRemoved(from: namespace)
                for rule in rules.probes {
                    guard let number = indexing.index(of: index, rule.target), rule.target == .log || rule.group == group else {
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
                facts = memory.facts(of: index, facts, isChange: isChange) { facts in
                    try SysctlReader.read(namespace, interfaces: links.links.map(\.name), into: &facts)
                }
                for number in own.indices {
                    own[number].facts = facts
                    own[number].tracksConnections = rules.tracksConnections
                    own[number].decidingChains = rules.decidingChains
                }
            }
            let doubt = memory.doubt(of: index)
            for number in own.indices { own[number].unread = doubt }
            layouts += own
        }
        let linkDomains = LinkGraph.linkDomains(readings)
        for index in layouts.indices { layouts[index].interfaces = indexing.interfaces(linkDomains.interfaces, of: index) }
        registry.update(
            namespaces: layouts, openLinkDomains: indexing.open(linkDomains.open),
            unfollowedLinkDomains: leftOut.isEmpty ? [] : indexing.open(linkDomains.toOthers), leftOut: leftOut, probes: found)
        return read
    }

    /// News of the last survey for a person; `nil` where there is none.
    package func news(_ places: [FollowedNamespace]) -> String? { memory.news(places.map(\.name)) }
}
