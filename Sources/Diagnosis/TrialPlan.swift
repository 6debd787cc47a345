public import Aggregation
public import TraceModel

/// The packets to be sent through a copy of a namespace's rules, to see whether a cure lets them through.
public struct TrialPlan: Sendable, Equatable {
    /// A packet's passage through a namespace.
    public struct Passage: Sendable, Equatable {
        /// As the packet arrives or begins, before it is translated.
        public var tuple: PacketTuple
        public var tcpFlags: TCPFlags
        public var icmpType: UInt8
        public var icmpCode: UInt8
        /// In bytes, from the IP header on.
        public var length: Int
        /// As the packet arrives or begins.
        public var timeToLive: UInt8
        /// The interface that it arrives by; `nil` for one that a process of the namespace sends.
        public var arrival: String?
        /// The interface that it leaves by; `nil` for one that a process of the namespace is to receive.
        public var departure: String?
        /// Where it is to go, after translation.
        public var destination: IPAddress
    }

    /// The namespace's name.
    public var netns: String
    /// The packet that the dropped one answers, where it passed the same namespace.
    public var opening: Passage?
    public var dropped: Passage
}

extension TraceSnapshot {
    /// How a cure is tried for the packets of a path that a rule dropped.
    ///
    /// - Parameter opening: the path of the packets that it answers.
    /// - Returns: `nil` where no rule dropped them; where it is not known by which interface they were to leave, or which packet they
    ///   answer; and for packets that cannot be made up (`Packet.canBeMadeUp`).
    public func trialPlan(ofPath index: Int, answering opening: Int?) -> TrialPlan? {
        guard let site = dropSite(ofPath: index), let decision = site.decision, case let journey = paths[index].example.journey,
            let leg = journey.legs.last, decision.namespace == nil || decision.namespace == leg.namespace,
            let dropped = passage(of: journey, leg, details: paths[index].example.details.last),
            dropped.departure != nil || leg.lastHook == .input
        else { return nil }
        var plan = TrialPlan(netns: layout.namespaces[leg.namespace].name, opening: nil, dropped: dropped)
        guard let opening else { return plan }
        let record = paths[opening].example
        guard let place = record.journey.legs.lastIndex(where: { $0.namespace == leg.namespace }),
            let passage = passage(
                of: record.journey, record.journey.legs[place],
                details: record.details.indices.contains(place) ? record.details[place] : nil)
        else { return nil }
        plan.opening = passage
        return plan
    }

    private func passage(of journey: Journey, _ leg: JourneyLeg, details: [StepDetail]?) -> TrialPlan.Passage? {
        let steps = stepTrie.steps(of: leg.stepPath)
        guard let first = steps.first, let last = steps.last, journey.packet.canBeMadeUp else { return nil }
        let isLocal = layout.probes[Int(first.probe)].hook == .output
        func name(_ interface: UInt32) -> String? { layout.interfaceName(interface, namespace: leg.namespace) }
        let hook = layout.probes[Int(last.probe)].hook
        let departure = hook == .input ? nil : name(last.outInterface)
        guard isLocal || name(first.inInterface) != nil else { return nil }
        return TrialPlan.Passage(
            tuple: leg.entry, tcpFlags: journey.packet.tcpFlags, icmpType: journey.packet.icmpType,
            icmpCode: journey.packet.icmpCode, length: Int(journey.packet.length),
            timeToLive: details?.first?.timeToLive ?? 64, arrival: isLocal ? nil : name(first.inInterface),
            departure: departure, destination: leg.exit.destination)
    }
}

extension Packet {
    /// Whether its headers are enough to make a packet that rules treat alike. They are not for an ICMP error, which rules treat by the
    /// packet that it quotes, and for fragments.
    fileprivate var canBeMadeUp: Bool {
        switch tuple.transport {
        case TransportProtocol.tcp, TransportProtocol.udp: !isFragment
        case TransportProtocol.icmp: icmpType == 8 || icmpType == 0
        case TransportProtocol.icmpv6: icmpType == 128 || icmpType == 129
        default: false
        }
    }
}
