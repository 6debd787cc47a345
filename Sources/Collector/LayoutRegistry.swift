private import Ruleset
private import Synchronization
package import TraceModel

/// Gives probes their indices, which stay for the life of a trace, and keeps the layout that is in force.
///
/// Two sides add to it: the survey, which reads the rules, and the event loop, which meets a probe of ours that the
/// survey has not seen yet.
package final class LayoutRegistry: Sendable {
    private struct State {
        var layout = Layout()
        var indices: [Identity: Int] = [:]
        var generation = 0
        var isSurveyWanted = false
    }

    private struct Identity: Hashable {
        var namespace: Int
        var family: AddressFamily
        var backend: Backend
        var table: Table
        var chain: String
        var hook: Hook
        var prefix: String
    }

    private let state = Mutex(State())

    package init() {}

    /// The layout and a number that changes with it.
    package var current: (layout: Layout, generation: Int) { state.withLock { ($0.layout, $0.generation) } }

    /// Whether a prefix has come up since the last call that the rules read so far do not explain.
    func takeSurveyWish() -> Bool {
        state.withLock { state in
            defer { state.isSurveyWanted = false }
            return state.isSurveyWanted
        }
    }

    /// Replaces what is known: probes that were found are in force, the others are not.
    package func update(namespaces: [NamespaceLayout], openSegments: Set<UInt32>, probes: [Probe]) {
        state.withLock { state in
            state.layout.namespaces = namespaces
            state.layout.openSegments = openSegments
            state.layout.isInForce = state.layout.isInForce.map { _ in false }
            var met: Set<Int> = []
            for probe in probes {
                let index = Self.add(probe, to: &state)
                // Two rules of one chain with one prefix: which of them reported a packet cannot be told.
                if !met.insert(index).inserted { state.layout.probes[index].coverage = .some }
            }
            state.generation += 1
        }
    }

    @discardableResult
    private static func add(_ probe: Probe, to state: inout State) -> Int {
        let identity = Identity(
            namespace: probe.namespace, family: probe.family, backend: probe.backend, table: probe.table,
            chain: probe.chain, hook: probe.hook, prefix: probe.prefix)
        if let index = state.indices[identity] {
            state.layout.probes[index] = probe
            state.layout.isInForce[index] = true
            return index
        }
        state.indices[identity] = state.layout.probes.count
        state.layout.probes.append(probe)
        state.layout.isInForce.append(true)
        return state.layout.probes.count - 1
    }

    /// Probes of these runs prove nothing by their silence from now on.
    func distrust(runs: Set<String>) {
        guard !runs.isEmpty else { return }
        state.withLock { state in
            for index in state.layout.probes.indices {
                guard let own = ProbePrefix(state.layout.probes[index].prefix), runs.contains(own.runName) else { continue }
                state.layout.probes[index].coverage = .some
            }
            state.generation += 1
        }
    }

    /// Makes room for a namespace that has just appeared; the survey fills it in.
    func add(_ namespace: NamespaceLayout) {
        state.withLock { state in
            state.layout.namespaces.append(namespace)
            state.generation += 1
        }
    }

    /// The probe that an event with `prefix` belongs to.
    ///
    /// One of ours says itself which chain it is in; of the others those are taken that the survey found for this prefix,
    /// family and hook.
    /// - Returns: `nil` for a prefix that nobody explains.
    func place(prefix: String, namespace: Int, family: AddressFamily, hook: Hook) -> UInt32? {
        state.withLock { state in
            let known = state.layout.probes.indices.last {
                let probe = state.layout.probes[$0]
                return probe.namespace == namespace && probe.family == family && probe.hook == hook
                    && probe.prefix == prefix && state.layout.isInForce[$0]
            }
            if let known { return UInt32(known) }
            state.isSurveyWanted = true
            guard namespace < state.layout.namespaces.count, let own = ProbePrefix(prefix) else { return nil }
            let probe = Probe(
                namespace: namespace, family: family, table: own.table, chain: own.chain, hook: hook,
                backend: own.run.hasSuffix("L") ? .legacy : .nft, prefix: prefix, coverage: .some)
            let index = Self.add(probe, to: &state)
            state.generation += 1
            return UInt32(index)
        }
    }
}
