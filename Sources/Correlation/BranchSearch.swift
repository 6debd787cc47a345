package import TraceModel

/// Of which leg an event shows a copy. One multicast packet may pass a hook several times: a bridge with br_netfilter hands a copy for
/// each port to FORWARD and POSTROUTING, and another one to INPUT (`br_flood` in net/bridge/br_forward.c); what a process sends to a
/// group that the machine is a member of passes POSTROUTING again for the copy that comes back (`ip_mc_output` in
/// net/ipv4/ip_output.c). Each copy has a leg of its own, which begins with the steps that they share.
package enum BranchSearch {
    /// The leg that a copy branches off from.
    ///
    /// - Parameter event: of a multicast packet, at a hook behind PREROUTING and OUTPUT.
    /// - Returns: none where the event is no copy of a packet that has passed already.
    package static func original(of event: Event, _ state: inout LiveState, _ layout: inout LayoutIndex) -> LegIndex {
        let place = layout.places[Int(event.sighting.probe)]
        var candidates = state.live.atPlace(place.namespace, event.packet.fingerprint, event.packet.tuple)
        var candidate = state.live.next(&candidates)
        var looks = 0
        while candidate.exists, looks < 256 {
            looks += 1
            if state.live.legs[candidate].namespace == place.namespace,
                !state.live.legs[candidate].origin.original.exists,
                state.live.fingerprint(candidate) == event.packet.fingerprint,
                state.live.current(candidate) == event.packet.tuple, state.isRecent(candidate),
                sharesWay(candidate, event, place, &state, &layout)
            {
                return candidate
            }
            candidate = state.live.next(&candidates)
        }
        return .none
    }

    /// Whether the packet of a leg went the copy's way up to the hook where the copy is seen now.
    private static func sharesWay(
        _ original: LegIndex, _ event: Event, _ place: ProbePlace, _ state: inout LiveState, _ layout: inout LayoutIndex
    ) -> Bool {
        guard let last = sharedWay(of: original, before: place, &state, &layout).last else { return false }
        let hook = layout.places[Int(last.probe)].hook
        switch place.hook {
        case .input, .forward: return hook == .prerouting && last.inInterface == event.sighting.inInterface
        case .postrouting:
            return hook == .output && state.live.legs[original].outInterface == event.sighting.outInterface
        case .prerouting, .output: return false
        }
    }

    /// The steps of a leg before a hook's stage; none where it has not gone further than that itself.
    static func sharedWay(
        of original: LegIndex, before place: ProbePlace, _ state: inout LiveState, _ layout: inout LayoutIndex
    ) -> ArraySlice<Step> {
        let steps = state.stepTrie.steps(of: state.live.legs[original].stepPath)
        var count = 0
        while count < steps.count, layout.places[Int(steps[count].probe)].hook.stage < place.hook.stage { count += 1 }
        return count < steps.count ? steps[..<count] : []
    }

    /// Whether a leg is the copy for one port of a bridge.
    static func isPortCopy(_ leg: LegIndex, _ state: inout LiveState, _ layout: inout LayoutIndex) -> Bool {
        guard state.live.legs[leg].inInterface != 0,
            state.live.legs[leg].inInterface == state.live.legs[leg].outInterface
        else { return false }
        for step in state.stepTrie.steps(of: state.live.legs[leg].stepPath)
        where layout.places[Int(step.probe)].hook == .forward {
            return true
        }
        return false
    }

    /// Whether a leg began in OUTPUT. If to a group, a copy may come back to the machine, as one of its members.
    static func wasSentFromHere(_ leg: LegIndex, _ state: inout LiveState, _ layout: inout LayoutIndex) -> Bool {
        guard let first = state.stepTrie.steps(of: state.live.legs[leg].stepPath).first else { return false }
        return layout.places[Int(first.probe)].hook == .output
    }
}
