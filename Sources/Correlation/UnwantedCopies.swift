internal import TraceModel

/// Copies of multicast packets that nobody in a namespace had asked for: the kernel looks no further at them behind PREROUTING. That is
/// no drop.
enum UnwantedCopies {
    /// Whether a leg that ended is such a copy.
    static func contain(_ leaf: LegIndex, _ state: inout LiveState, _ layout: inout LayoutIndex) -> Bool {
        guard state.live.legs[leaf].hook == .prerouting, state.live.current(leaf).destination.isMulticast,
            !state.hasLost(in: Int(state.live.legs[leaf].namespace), since: state.live.begunAt(leaf)),
            lacksNothingButRouting(leaf, &state, &layout),
            // IPv4's limited broadcast is for every namespace.
            state.live.entry(leaf).destination != IPAddress(ipv4: .max), !mayFailReversePath(leaf, &state, &layout)
        else { return false }
        return !mayEndBeforeRouting(leaf, &state, &layout)
    }

    /// Whether all probes of PREROUTING have seen it.
    static func lacksNothingButRouting(_ leaf: LegIndex, _ state: inout LiveState, _ layout: inout LayoutIndex) -> Bool {
        guard state.live.legs[leaf].hook == .prerouting else { return false }
        let assessment = layout.expectedProbes.assessment(of: leaf, in: &state)
        guard case .expected(let probes, _) = assessment.ending, !assessment.hasGap else { return false }
        for probe in layout.expectedProbes.probes[probes] where layout.places[Int(probe)].hook == .prerouting { return false }
        return true
    }

    /// Whether a chain behind the last probe of PREROUTING may have dropped it.
    static func mayEndBeforeRouting(_ leaf: LegIndex, _ state: inout LiveState, _ layout: inout LayoutIndex) -> Bool {
        let last = layout.layout.probes[Int(state.stepTrie.lastProbe(of: state.live.legs[leaf].stepPath))]
        let namespace = layout.layout.namespaces[last.namespace]
        let mayDrop = namespace.decidingChains.contains {
            $0.hook == .prerouting && $0.family == last.family && $0.table != .nat
                && (last.sentinel == nil ? $0.priority >= last.priority : $0.priority > last.priority)
        }
        return mayDrop
            || namespace.facts?.otherChains.contains {
                $0.hook == .ip(.prerouting) && $0.family ?? last.family == last.family && $0.priority >= last.priority
            } == true
    }

    /// Whether a strict reverse-path filter may have dropped it (`ip_mc_validate_source` in net/ipv4/route.c).
    private static func mayFailReversePath(
        _ leaf: LegIndex, _ state: inout LiveState, _ layout: inout LayoutIndex
    ) -> Bool {
        let leg = state.live.legs[leaf]
        let namespace = layout.layout.namespaces[Int(leg.namespace)]
        guard state.live.entry(leaf).source.family == .ipv4, let name = namespace.interfaces[leg.inInterface]?.name else {
            return false
        }
        return namespace.facts?.strictInterfaces.contains(name) == true
    }
}
