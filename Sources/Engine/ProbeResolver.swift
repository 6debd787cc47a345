package import Correlation
package import TraceModel

/// Cached results for one decoder: the probe of each origin, and the fate of each recent packet.
package struct ResolverCache {
    /// By origin: the number of its probe, or one of those that stand for none.
    fileprivate var probes: [UInt32] = []
    /// By recent packet: what became of its last event.
    fileprivate var entries = [Entry](repeating: .unknown, count: RecentPackets.capacity)
    /// It holds as long as this is that of `ProbeResolver`.
    fileprivate var epoch: UInt64 = 0

    fileprivate enum Entry {
        case unknown
        /// It is one of those that are not followed.
        case leftOut
        case followed(LegName)
    }

    package init() {}

    /// A packet has taken the place of another one, and its event is not taken.
    @inline(__always)
    package mutating func forget(_ packet: UInt8) { entries[Int(packet)] = .unknown }

    @inline(never)
    fileprivate mutating func forget(_ epoch: UInt64) {
        probes.removeAll(keepingCapacity: true)
        for index in entries.indices { entries[index] = .unknown }
        self.epoch = epoch
    }
}

/// Turns decoded reports of one namespace into events: finds the probe of each, and counts gaps in the sequence. They may come
/// from several decoders, one after the other, as from files of which one continues another.
package struct ProbeResolver {
    package private(set) var counters = IntakeCounters()
    package private(set) var unresolved = UnresolvedPrefixes()

    package let namespace: Int
    private let registry: LayoutRegistry
    /// `nil` where a file begins somewhere in the middle.
    private var nextSequence: UInt32?
    private var order: UInt32 = 0
    /// Changes with everything that `ResolverCache` rests on.
    private var epoch: UInt64 = 1

    /// One flow of 2 to this power is followed, whole.
    package var thinning = 0 {
        didSet { epoch += 1 }
    }

    package init(namespace: Int, registry: LayoutRegistry) {
        self.namespace = namespace
        self.registry = registry
        // A group that has just been bound counts from 0.
        nextSequence = registry.isOffline ? nil : 0
    }

    /// Forgets which prefix belongs to which probe, because the layout has changed.
    package mutating func layoutChanged() { epoch += 1 }

    /// Events are missing that no sequence number tells of.
    package mutating func noteLoss(_ count: UInt64) { counters.lost &+= count }

    /// A message could not be understood at all.
    package mutating func countMalformed(_ correlator: inout Correlator) {
        counters.malformed += 1
        correlator.noteLoss(namespace: namespace)
    }

    /// Takes one message's report.
    ///
    /// - Parameters:
    ///   - packet: the one that the report names.
    ///   - origin: the one that the report names.
    ///   - cache: that of the decoder that made the report.
    ///   - now: microseconds since 1970, for events that the kernel did not stamp.
    /// - Returns: the leg that it is part of (`Correlator.ingest`), or `NFLogReader.noTag`.
    @inline(__always)
    package mutating func take(
        _ report: NFLogReport, _ packet: @autoclosure () -> Packet, _ origin: @autoclosure () -> NFLogOrigin,
        _ cache: inout ResolverCache, now: Int64, into correlator: inout Correlator
    ) -> UInt64 {
        if cache.epoch != epoch { cache.forget(epoch) }
        if report.hasSequence { followSequence(report.sequence, &correlator) }
        // Whoever did not ask for sequence numbers has the order in which the events came.
        order = report.hasSequence ? report.globalSequence : order &+ 1
        counters.events += 1
        let number = Int(report.origin)
        var probe = number < cache.probes.count ? cache.probes[number] : Self.unknown
        if probe == Self.unknown { probe = resolve(number, origin(), &cache, &correlator) }
        // Whatever was known of the place that a new packet has taken was of another packet.
        if report.isNewPacket { cache.forget(report.packet) }
        guard probe < Self.firstUnresolved else {
            countUnresolved(probe)
            return NFLogReader.noTag
        }
        guard report.packet != RecentPackets.none else {
            countMalformed(&correlator)
            return NFLogReader.noTag
        }
        let sighting = Sighting(
            time: report.timestamp == 0 ? now : report.timestamp, probe: probe, inInterface: report.inInterface,
            outInterface: report.outInterface, mark: report.mark, order: order, timeToLive: report.timeToLive,
            isStamped: report.timestamp != 0)
        let slot = Int(report.packet)
        if !report.isNewPacket {
            switch cache.entries[slot] {
            case .followed(let name):
                if correlator.extend(name, with: sighting) { return name.firstEvent }
            case .leftOut:
                counters.thinned += 1
                return NFLogReader.noTag
            case .unknown: break
            }
        }
        return take(packet(), sighting, slot, &cache, &correlator)
    }

    @inline(never)
    private mutating func take(
        _ packet: Packet, _ sighting: Sighting, _ slot: Int, _ cache: inout ResolverCache, _ correlator: inout Correlator
    ) -> UInt64 {
        if thinning > 0, Self.isLeftOut(correlator.flow(of: packet), thinning),
            // One that is followed stays so behind a translation that is not known yet.
            !correlator.mayContinue(packet, at: sighting.probe)
        {
            cache.entries[slot] = .leftOut
            counters.thinned += 1
            return NFLogReader.noTag
        }
        var packet = packet
        packet.timeToLive = sighting.timeToLive
        let name = correlator.ingest(Event(packet: packet, sighting: sighting))
        cache.entries[slot] = .followed(name)
        return name.firstEvent
    }

    /// Whether a level of thinning leaves a flow out, all its packets alike. A higher level keeps a part of what a lower one keeps.
    private static func isLeftOut(_ flow: UInt64, _ thinning: Int) -> Bool {
        (flow &* 0x9E37_79B9_7F4A_7C15) >> UInt64(64 - thinning) != 0
    }

    @inline(__always)
    private mutating func followSequence(_ sequence: UInt32, _ correlator: inout Correlator) {
        if let nextSequence, sequence != nextSequence { skip(from: nextSequence, to: sequence, &correlator) }
        nextSequence = sequence &+ 1
    }

    private mutating func skip(from expected: UInt32, to sequence: UInt32, _ correlator: inout Correlator) {
        let gap = sequence &- expected
        // A number that goes back is a new instance of the group, not a gap of four billion. In a file it may be a stretch of it
        // that stands there twice.
        guard gap < 1 << 31 else {
            if registry.isOffline { correlator.noteLoss(namespace: namespace) }
            return
        }
        counters.lost += UInt64(gap)
        correlator.noteLoss(namespace: namespace)
    }

    /// Whether a report follows the last one of its namespace.
    package func follows(_ report: NFLogReport) -> Bool {
        guard report.hasSequence, let nextSequence else { return true }
        return report.sequence == nextSequence
    }

    // MARK: Probes

    private static let unknown = UInt32.max
    /// The hook is none of IP's.
    private static let impossible = UInt32.max - 1
    /// Numbers from here on stand for prefixes that no probe has.
    private static let firstUnresolved = impossible - UInt32(UnresolvedPrefixes.limit) - 1

    /// The slow path, once for each origin.
    private mutating func resolve(
        _ number: Int, _ origin: NFLogOrigin, _ cache: inout ResolverCache, _ correlator: inout Correlator
    ) -> UInt32 {
        let probe: UInt32
        var isExplained = true
        if origin.prefix == nil {
            probe = Self.firstUnresolved + UInt32(unresolved.numberOfOthers())
            isExplained = false
        } else if let hook = Hook(rawValue: origin.hook), let prefix = origin.prefix {
            if let family = AddressFamily(rawValue: origin.family),
                let placed = registry.resolve(prefix: prefix, namespace: namespace, family: family, hook: hook)
            {
                probe = placed
                isExplained = !correlator.follow(registry, to: placed)
            } else {
                probe = Self.firstUnresolved + UInt32(unresolved.number(of: prefix))
                isExplained = false
            }
        } else {
            probe = Self.impossible
            isExplained = false
        }
        // In a file, what no rule explains may be damaged: the event of a probe that is known is missing then.
        if registry.isOffline, !isExplained, registry.hasProof(of: namespace) { correlator.noteLoss(namespace: namespace) }
        while cache.probes.count <= number { cache.probes.append(Self.unknown) }
        cache.probes[number] = probe
        return probe
    }

    private mutating func countUnresolved(_ probe: UInt32) {
        if probe == Self.impossible {
            counters.malformed += 1
        } else {
            counters.unresolved += 1
            unresolved.count(Int(probe - Self.firstUnresolved))
        }
    }
}
