public import Aggregation
public import TraceModel

/// Where packets of a path were dropped: between the last probe that saw them and those of which one had to see them next.
public struct DropSite: Sendable {
    public var after: Step
    /// Indices of probes.
    public var before: [UInt32]
    /// What lies between; exactly one where it is certain.
    public var suspects: [Suspect]
    /// What dropped them, where a rule trace says so; then the suspect is the chain that it happened in.
    public var decision: RuleDecision?
    /// Why the kernel dropped them, where it says so of the packets themselves.
    public var kernel: KernelDecision?
    /// Where that dropped what no rule had accepted: the accepting rules that came closest.
    public var nearest: [NearestRule] = []
    /// For packets lost in routing, known reasons to drop packets there.
    public var causes: [RoutingCause]
    /// Whether the kernel's own counters say that the cause is the one: it is a fact then, else something that may have been.
    public var isCounted = false
    /// Why connection tracking dropped them, by its statistics.
    public var trackingLoss: TrackingLoss?

    /// Why connection tracking drops a packet that opens a connection.
    public enum TrackingLoss: Sendable {
        /// It could make no entry for the connection.
        case tableFull
        /// It could not put the entry into its table, behind all chains.
        case insertionFailed
    }

    /// Whether the kernel says why: of the packets themselves, or by its counters.
    public var isToldByKernel: Bool { kernel != nil || isCounted || trackingLoss != nil }
}

extension TraceContext {
    /// Where a packet was dropped; `nil` where it was not.
    public func dropSite(of journey: Journey) -> DropSite? {
        guard journey.outcome == .dropped, let steps = journey.legs.last.map({ stepTrie.steps(of: $0.stepPath) }),
            let last = steps.last
        else { return nil }
        return dropSite(
            steps, after: last, packet: journey.arrived, exit: journey.legs.last?.exit, expected: journey.expected, packets: 1,
            spent: journey.isSpent ? 1 : 0,
            martian: journey.hasMartianSource ? 1 : 0, decision: journey.decision)
    }

    /// - Parameters:
    ///   - steps: those in the last namespace.
    ///   - step: the last of them.
    ///   - packet: one of them, as it came into that namespace.
    ///   - exit: its addresses and ports as it was last seen.
    ///   - expected: the probes of which one had to see the packets next.
    ///   - packets: all that were lost there.
    ///   - spent: those of them with no hops left to live.
    ///   - martian: those with a source that cannot be.
    ///   - decision: what dropped them, where it is known.
    fileprivate func dropSite(
        _ steps: [Step], after step: Step, packet: Packet, exit: PacketTuple?, expected: [UInt32], packets: UInt64,
        spent: UInt64, martian: UInt64,
        decision: Decision?
    ) -> DropSite {
        if let decision = decision?.rule ?? layout.probes[Int(step.probe)].decision {
            let suspects = DropLocator(layout, steps, last: step, packet: packet, expected: expected).suspects
            var site = DropSite(
                after: step, before: expected, suspects: suspects.filter { $0.holds(decision.place) }, decision: decision,
                causes: [])
            if !decision.accepting.isEmpty {
                var seen = RuleMatch.Packet(exit ?? packet.tuple)
                let namespace = layout.probes[Int(step.probe)].namespace
                seen.inInterface = layout.interfaceName(step.inInterface, namespace: namespace)
                seen.outInterface = layout.interfaceName(step.outInterface, namespace: namespace)
                site.nearest = NearestRule.nearest(decision.accepting, to: seen)
            }
            return site
        }
        let suspects = DropLocator(layout, steps, last: step, packet: packet, expected: expected).suspects
        if let kernel = decision?.kernel {
            let causes = [kernel.routingCause].compactMap(\.self)
            let places = suspects.filter { suspect in
                if case .bridge = suspect { kernel.isOfBridge } else { suspect == .routing && !causes.isEmpty }
            }
            var site = DropSite(after: step, before: expected, suspects: places, decision: nil, causes: causes)
            site.kernel = kernel
            return site
        }
        let lastProbe = layout.probes[Int(step.probe)]
        let isBehindChains = lastProbe.hook == .postrouting
        if suspects.contains(.connectionTracking),
            (isBehindChains ? insertionDrops : trackingDrops).contains(lastProbe.namespace)
        {
            var site = DropSite(after: step, before: expected, suspects: [.connectionTracking], decision: nil, causes: [])
            site.trackingLoss = isBehindChains ? .insertionFailed : .tableFull
            return site
        }
        let key = RoutingKey(namespace: lastProbe.namespace, family: lastProbe.family)
        if suspects.contains(.routing), let cause = routingDrops[key].flatMap(RoutingCause.init),
            !packet.tuple.destination.isMulticast
        {
            var site = DropSite(
                after: step, before: expected, suspects: [.routing], decision: nil, causes: [cause])
            site.isCounted = true
            return site
        }
        var causes: [RoutingCause] = []
        if suspects.contains(.routing) {
            let last = layout.probes[Int(step.probe)]
            let namespace = layout.namespaces[last.namespace]
            let interface = layout.interfaceName(step.inInterface, namespace: last.namespace)
            if martian > 0 { causes.append(.martian) }
            if martian < packets {
                let forwards = last.family == .ipv4 ? namespace.facts?.forwardsIPv4 : namespace.facts?.forwardsIPv6
                if last.family == .ipv4, let interface, namespace.facts?.strictInterfaces.contains(interface) == true {
                    causes.append(.reversePath)
                }
                if packet.tuple.destination.isMulticast {
                    // The limited broadcast is for everybody.
                    if packet.tuple.destination != IPAddress(ipv4: .max) { causes.append(.groupNotJoined) }
                } else if forwards == false {
                    causes.append(.forwardingDisabled)
                }
                if spent > 0 { causes.append(.timeToLive) }
            }
        }
        return DropSite(after: step, before: expected, suspects: suspects, decision: nil, causes: causes)
    }
}

extension TraceSnapshot {
    /// Where a path's packets were dropped; `nil` where they were not.
    public func dropSite(ofPath index: Int) -> DropSite? {
        let path = paths[index]
        guard path.outcome == .dropped, let leg = path.stepPaths.last.map(stepTrie.steps),
            let last = path.stepPaths.reversed().lazy.compactMap({ stepTrie.steps(of: $0).last }).first
        else { return nil }
        let counts = paths.counts(index)
        return context.dropSite(
            leg, after: last, packet: path.example.journey.arrived, exit: path.example.journey.legs.last?.exit,
            expected: path.expected, packets: counts.packets,
            spent: counts.spent, martian: counts.martian, decision: decision(ofPath: index))
    }
}

extension Journey {
    /// The packet as it came into the last namespace.
    fileprivate var arrived: Packet {
        var packet = packet
        if let entry = legs.last?.entry { packet.tuple = entry }
        return packet
    }
}
