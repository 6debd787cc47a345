private import Foundation
internal import Intake
internal import Namespaces
internal import Ruleset
internal import TraceModel
private import Synchronization
internal import WireFormat

/// Reads what the layout consists of: rules and interfaces of all namespaces.
struct MachineSurvey: Sendable {
    private let probes: ProbeSurvey
    private let group: UInt16
    private let media: MediaNumbering
    private let latest = Latest()

    /// The latest rules and interfaces of each place.
    private final class Latest: Sendable {
        let rules = Mutex<[Int: ProbeSurvey.Result]>([:])
        let links = Mutex<[Int: LinkGraph.Reading]>([:])
    }

    init(group: UInt16, media: MediaNumbering) async throws {
        probes = try await ProbeSurvey()
        self.group = group
        self.media = media
    }

    /// Surveys `places` and puts the result into `registry`. A namespace that is gone keeps its name and has nothing in it; one
    /// that cannot be read keeps the rules that were found last.
    ///
    /// - Parameters:
    ///   - rulesOf: the places whose rules are read anew; programs are started for these alone.
    ///   - readsLinks: whether interfaces are read anew, too.
    /// - Returns: those of `rulesOf` that could be read.
    func update(
        _ registry: LayoutRegistry, _ places: [Collector.Place], rulesOf: Set<Int>, readsLinks: Bool
    ) async -> Set<Int> {
        let journals = ProbeJournal.readAll()
        let read = await readRules(of: rulesOf, places, journals)
        let known = latest.rules.withLock { $0 }
        let links = readsLinks ? [:] : latest.links.withLock { $0 }
        var layouts: [NamespaceLayout] = []
        var readings: [LinkGraph.Reading] = []
        var found: [Probe] = []
        for (index, place) in places.enumerated() {
            var own = media.layouts(name: place.name, inode: place.inode)
            readings.append(
                links[index] ?? (try? Topology.read(index, of: places.map(\.namespace))) ?? LinkGraph.Reading())
            if let namespace = place.namespace, let rules = known[index] {
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
        latest.links.withLock { $0 = Dictionary(uniqueKeysWithValues: readings.enumerated().map { ($0.offset, $0.element) }) }
        let segments = LinkGraph.segments(readings)
        for index in layouts.indices { layouts[index].interfaces = media.interfaces(segments.interfaces, of: index) }
        registry.update(namespaces: layouts, openSegments: media.open(segments.open), probes: found)
        return read
    }

    private func readRules(
        of wanted: Set<Int>, _ places: [Collector.Place], _ journals: [ProbeJournal]
    ) async -> Set<Int> {
        var read: Set<Int> = []
        for index in wanted.sorted() where index < places.count {
            guard let namespace = places[index].namespace,
                let rules = try? await probes.survey(namespace, index: index, journals: journals)
            else { continue }
            latest.rules.withLock { $0[index] = rules }
            read.insert(index)
        }
        latest.rules.withLock { rules in
            for (index, place) in places.enumerated() where place.namespace == nil { rules[index] = nil }
        }
        return read
    }
}
