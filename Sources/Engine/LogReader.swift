package import Correlation
internal import TraceModel
package import WireFormat

/// Turns what LOG and TRACE rules write into the kernel log into events: parses, places, and counts.
///
/// One for all namespaces, since the kernel log is one and only a line's prefix says where it comes from.
package struct LogReader {
    package private(set) var counters = IntakeCounters()
    package private(set) var unresolved = UnresolvedPrefixes()
    /// Messages that are not LOG's.
    package private(set) var others: UInt64 = 0

    private let seed: UInt64
    private let registry: LayoutRegistry
    /// Index into `resolutions` by prefix, family, and which interfaces a packet has.
    private var prefixes = PrefixTable()
    private var resolutions: [Resolution] = []
    /// Index of an interface by its name and namespace.
    private var interfaces = PrefixTable()
    private var order: UInt32 = 0
    /// The last line's packet and where it was: lines of one packet follow one another.
    private var last: (fingerprint: Fingerprint, probe: UInt32)?

    private enum Resolution {
        case unresolved(Int)
        case probes([Candidates])
    }

    /// The probes of one hook that a line may be of.
    private struct Candidates {
        var hook: Hook
        var probes: [UInt32]
        /// The chain that leads to all of them, where they are in several; `nil` where there is none such.
        var common: UInt32?
    }

    private let mostResolutions: Int

    /// - Parameters:
    ///   - seed: as `PacketParser` takes it.
    ///   - mostResolutions: prefixes that are remembered; 1 at least.
    package init(seed: UInt64, registry: LayoutRegistry, mostResolutions: Int = 1 << 16) {
        self.mostResolutions = mostResolutions
        self.seed = seed
        self.registry = registry
    }

    /// Forgets which prefix belongs to which probe, because the layout has changed.
    package mutating func layoutChanged() {
        prefixes = PrefixTable()
        interfaces = PrefixTable()
        resolutions = []
    }

    /// The namespaces that lines were placed in.
    package var namespaces: [Int] {
        let layout = registry.current
        return layout.namespaces.indices.filter { layout.namespaces[$0].channel == .kernelLog }
    }

    /// Lines are missing.
    package mutating func noteLoss(_ count: UInt64) { counters.lost += count }

    /// Reads one message of the kernel's.
    ///
    /// - Parameter now: when it was written, in microseconds since 1970.
    /// - Returns: whether it was one of LOG's or TRACE's.
    /// - Throws: `ParseError` for one of LOG's that cannot be understood; it is counted already.
    @discardableResult
    package mutating func read(
        _ bytes: RawSpan, _ message: Range<Int>, now: Int64, into correlator: inout Correlator
    ) throws(ParseError) -> Bool {
        let logged: LogPacket?
        do {
            logged = try LogPacket(parsing: bytes, message: message, seed: seed)
        } catch {
            counters.events += 1
            counters.malformed += 1
            throw error
        }
        guard let logged else {
            others += 1
            return false
        }
        counters.events += 1
        let number = resolution(of: logged, bytes, &correlator)
        guard case .probes(let candidates) = resolutions[number], let choice = choose(candidates, logged, correlator) else {
            counters.unresolved += 1
            if case .unresolved(let prefix) = resolutions[number] { unresolved.count(prefix) }
            return true
        }
        let probe = choice.probe
        let place = correlator.placeOfProbe(probe)
        last = (logged.packet.fingerprint, probe)
        order &+= 1
        let leg = correlator.ingest(
            Event(
                packet: logged.packet,
                sighting: Sighting(
                    time: now, probe: probe, inInterface: interface(logged.inInterface, bytes, place.namespace),
                    outInterface: interface(logged.outInterface, bytes, place.namespace), mark: logged.mark, order: order,
                    timeToLive: logged.packet.timeToLive, isStamped: true)))
        if !choice.isCertain { correlator.markAmbiguous(leg) }
        return true
    }

    private mutating func resolution(of logged: LogPacket, _ bytes: RawSpan, _ correlator: inout Correlator) -> Int {
        let family = logged.packet.tuple.source.family
        let shape: UInt8 = (logged.inInterface.isEmpty ? 0 : 1) | (logged.outInterface.isEmpty ? 0 : 2)
        if let known = prefixes.number(bytes, logged.prefix, family: family.rawValue, hook: shape) { return Int(known) }
        let text = bytes.text(logged.prefix)
        let probes = registry.resolve(logPrefix: text, family: family, hooks: Self.hooks(shape))
        let candidates = group(probes)
        for probe in candidates.flatMap(\.probes) + candidates.compactMap(\.common) { correlator.follow(registry, to: probe) }
        let resolution: Resolution = probes.isEmpty ? .unresolved(unresolved.number(of: text)) : .probes(candidates)
        // Bounded: TRACE has a prefix for every rule, and a rule set may be large. Past the bound all are placed anew.
        if resolutions.count >= mostResolutions {
            prefixes = PrefixTable()
            resolutions.removeAll(keepingCapacity: true)
        }
        resolutions.append(resolution)
        prefixes.insert(
            logged.prefix.map { bytes.byte($0) }, family: family.rawValue, hook: shape, number: UInt32(resolutions.count - 1))
        return resolutions.count - 1
    }

    /// Where a packet with these interfaces can be. At POSTROUTING older kernels leave the first out.
    private static func hooks(_ shape: UInt8) -> [Hook] {
        switch shape {
        case 1: [.prerouting, .input]
        case 2: [.output, .postrouting]
        case 3: [.forward, .postrouting]
        default: Hook.allCases
        }
    }

    /// Probes by hook, in the order in which each hook is met.
    private func group(_ probes: [UInt32]) -> [Candidates] {
        let layout = registry.current
        var groups: [Candidates] = []
        for probe in probes {
            let hook = layout.probes[Int(probe)].hook
            if let index = groups.firstIndex(where: { $0.hook == hook }) {
                groups[index].probes.append(probe)
            } else {
                groups.append(Candidates(hook: hook, probes: [probe]))
            }
        }
        for index in groups.indices where groups[index].probes.count > 1 {
            groups[index].common = registry.commonProbe(of: groups[index].probes)
        }
        return groups
    }

    /// A chain that several hooks lead to was reached from the one at which the packet was seen before; of several chains with one
    /// prefix the packet is in the one where it was.
    private func choose(
        _ candidates: [Candidates], _ logged: LogPacket, _ correlator: borrowing Correlator
    ) -> (probe: UInt32, isCertain: Bool)? {
        var before: UInt32?
        if let last, last.fingerprint == logged.packet.fingerprint { before = last.probe }
        let hook = before.map { correlator.placeOfProbe($0).hook }
        let atHook = hook.flatMap { hook in
            candidates.first { $0.hook == hook } ?? candidates.first { hook.leads(to: $0.hook) }
        }
        guard let chosen = atHook ?? candidates.first, let first = chosen.probes.first else { return nil }
        guard chosen.probes.count > 1 else { return (first, atHook != nil || candidates.count == 1) }
        if let before {
            let layout = registry.current
            let chain = layout.probes[Int(before)]
            let same = chosen.probes.first {
                let probe = layout.probes[Int($0)]
                return probe.hook == chain.hook && probe.table == chain.table && probe.chain == chain.chain
            }
            if let same { return (same, true) }
        }
        return (chosen.common ?? first, false)
    }

    private mutating func interface(_ name: Range<Int>, _ bytes: RawSpan, _ namespace: Int) -> UInt32 {
        guard !name.isEmpty else { return 0 }
        let high = UInt8(truncatingIfNeeded: namespace >> 8)
        let low = UInt8(truncatingIfNeeded: namespace)
        if let known = interfaces.number(bytes, name, family: high, hook: low) { return known }
        let number = registry.interface(named: bytes.text(name), namespace: namespace)
        if interfaces.count < 1 << 12 {
            interfaces.insert(name.map { bytes.byte($0) }, family: high, hook: low, number: number)
        }
        return number
    }
}
