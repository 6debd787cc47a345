package import TraceModel

/// The packets that the kernel said lately to have dropped, to be found by the journeys that ended there.
///
/// The kernel's report of a drop names neither the namespace nor the packet. It is matched to a journey by time and, where the report has
/// them, by addresses. A journey gets a reason only where all reports that match it have the same one.
package struct DropReasonIndex: Sendable {
    /// By time.
    private var drops: [KernelDrop] = []
    /// When the latest drop with addresses and ports was.
    private var lastWithPorts = Int64.min / 2
    /// Times of which some drops may be missing.
    private var unreliable: ClosedRange<Int64>?
    /// Drops that did not fit into the kernel's buffer.
    package private(set) var lost: UInt64 = 0
    /// Journeys for which drops of different reasons came into question.
    package private(set) var ambiguous: UInt64 = 0
    /// Whether drops are kept for `takeNew`.
    package var keepsNew = false
    private var new: [KernelDrop] = []

    private static let mostDrops = 1 << 14
    /// Microseconds between the event before a packet's drop and the drop: both come from one run through the kernel. All of 6,000
    /// came within 60.
    private static let reach: Int64 = 100
    /// Microseconds between that event and a drop that has the packet's addresses.
    private static let addressedReach: Int64 = 200
    /// Microseconds by which the time of an event without the kernel's stamp may be late: the kernel holds it back for up to 10 ms, and it
    /// waits to be read.
    private static let gathered: Int64 = 20_000
    /// By how much the event may seem the later one: times are rounded, and the clock of traces is read without a lock.
    private static let slack: Int64 = 5

    package init() {}

    package mutating func take(_ drop: KernelDrop) {
        if keepsNew, new.count < Self.mostDrops { new.append(drop) }
        if drop.endpoints?.hasPorts == true { lastWithPorts = max(lastWithPorts, drop.time) }
        if drops.count >= 2 * Self.mostDrops { drops.removeFirst(Self.mostDrops) }
        guard let last = drops.last, last.time > drop.time else { return drops.append(drop) }
        drops.insert(drop, at: firstIndex(from: drop.time + 1))
    }

    /// Drops are missing among the latest.
    ///
    /// - Parameter now: microseconds since 1970.
    package mutating func noteLoss(_ count: UInt64, now: Int64) {
        lost += count
        let begin = min(drops.last?.time ?? now, now) - 1_000_000
        unreliable = min(unreliable?.lowerBound ?? begin, begin)...max(unreliable?.upperBound ?? now, now)
    }

    /// Those that were taken since the last call.
    package mutating func takeNew() -> [KernelDrop] {
        guard !new.isEmpty else { return [] }
        defer { new.removeAll(keepingCapacity: true) }
        return new
    }

    /// Why the kernel dropped the packet of a journey that ended.
    ///
    /// - Returns: `nil` where it says nothing, a table dropped it, or drops of different reasons may be the packet's.
    package mutating func decision(of journey: Journey, _ history: EventHistory) -> KernelDecision? {
        guard !drops.isEmpty, let leg = journey.legs.last else { return nil }
        let isStamped = leg.lastHook != .output && leg.lastHook != .postrouting
        switch journey.outcome {
        case .dropped: break
        // To the sockets, where it may find none.
        case .delivered where isStamped && lastWithPorts >= journey.lastEvent - Self.slack: break
        // Seen last where it ended, or went on unseen: a drop that has its addresses tells.
        case .incomplete
        where isStamped && (journey.incompleteReason == .refragmented || journey.incompleteReason == .layoutChanged): break
        default: return nil
        }
        let found = candidates(of: journey, leg, isStamped: isStamped)
        // A drop with the packet's addresses is its own, unless another such packet came before the drop.
        if let first = found.addressed.first {
            let isOwn = !history.isSeenAgain(after: leg.lastEvent, upTo: first.time)
            guard isOwn || Self.agree(found.addressed + found.timed) else {
                ambiguous += 1
                return nil
            }
            let isDrop = journey.outcome == .dropped || isOwn && !first.decision.isOfTable
            let isOfSocket = first.decision.reason == "NO_SOCKET" || first.decision.reason.hasSuffix("_CSUM")
            guard isDrop, journey.outcome != .delivered || isOfSocket else { return nil }
            return first.decision.isOfTable ? nil : first.decision
        }
        // Without addresses, all drops of that time have to be known, and the time has to be the kernel's.
        guard journey.outcome == .dropped, let first = found.timed.first, unreliable?.contains(journey.lastEvent) != true,
            !journey.packet.tuple.destination.isMulticast
        else {
            return nil
        }
        guard Self.agree(found.timed) else {
            ambiguous += 1
            return nil
        }
        return first.decision.isOfTable ? nil : first.decision
    }

    /// The drops that may be a journey's: those with its addresses, and those without any that came at the same time.
    private func candidates(
        of journey: Journey, _ leg: JourneyLeg, isStamped: Bool
    ) -> (addressed: [KernelDrop], timed: [KernelDrop]) {
        let last = journey.lastEvent
        let begin = isStamped ? last - Self.slack : journey.firstSeen - Self.gathered
        let end = last + (isStamped ? Self.addressedReach : Self.slack)
        var found: (addressed: [KernelDrop], timed: [KernelDrop]) = ([], [])
        var index = firstIndex(from: begin)
        while index < drops.count, drops[index].time <= end {
            let drop = drops[index]
            index += 1
            guard drop.family == leg.exit.source.family, drop.mayBe(of: journey, behind: leg.lastHook) else { continue }
            if let endpoints = drop.endpoints {
                if endpoints.fit(leg.exit) || endpoints.fit(leg.entry) { found.addressed.append(drop) }
            } else if isStamped, drop.time <= last + Self.reach {
                found.timed.append(drop)
            }
        }
        return found
    }

    private static func agree(_ drops: [KernelDrop]) -> Bool { drops.allSatisfy { $0.decision == drops.first?.decision } }

    private func firstIndex(from time: Int64) -> Int {
        var low = 0
        var high = drops.count
        while low < high {
            let middle = (low + high) / 2
            if drops[middle].time < time { low = middle + 1 } else { high = middle }
        }
        return low
    }
}

extension KernelDecision {
    /// Whether a rule, a policy or another function at a netfilter hook dropped the packet.
    fileprivate var isOfTable: Bool { reason == "NETFILTER_DROP" }

    private static let ofSockets = ["NO_SOCKET", "SOCKET_", "TCP_", "UDP_", "ICMP_CSUM", "PROTO_MEM"]
    private static let ofRouting = ["IP_INNOROUTES", "IP_INADDRERRORS", "IP_RPFILTER", "IP_LOCAL", "IP_INVALID"]
    private static let ofLinks = ["NEIGH_", "QDISC_", "TC_EGRESS", "DEV_"]

    private func isOne(of names: [String]) -> Bool { names.contains { reason.hasPrefix($0) } }

    /// Whether it can be behind the last chain of a hook.
    fileprivate func isPossible(behind hook: Hook) -> Bool {
        if isOfTable { return true }
        return switch hook {
        case .prerouting: !isOne(of: Self.ofSockets) && !isOne(of: Self.ofLinks)
        case .input: !isOne(of: Self.ofRouting) && !isOne(of: Self.ofLinks)
        case .forward, .output, .postrouting: !isOne(of: Self.ofRouting) && !isOne(of: Self.ofSockets)
        }
    }
}

extension KernelDrop {
    fileprivate func mayBe(of journey: Journey, behind hook: Hook) -> Bool {
        guard decision.isPossible(behind: hook) else { return false }
        // A damaged header is dropped before PREROUTING, so that in forwarding this reason means a time to live that is used up.
        if decision.reason == "IP_INHDR", decision.function.contains("forward") { return journey.timeToLive <= 1 }
        return true
    }
}
