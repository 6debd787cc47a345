internal import TraceModel

/// Probes that a packet has to pass, and the meaning of its not being seen again.
struct ExpectedProbes: Sendable {
    /// Conclusions from a packet's steps within one namespace.
    struct Assessment: Sendable {
        var ending: Ending
        /// A probe that it must have passed before its last step did not see it.
        var hasGap: Bool
    }

    /// Without an array in it, since every journey that ends asks for several.
    enum Ending: Sendable {
        /// Into the local process.
        case delivered
        /// Through the interface of its last step.
        case left
        /// It had to be seen by one of these next, which are numbers in `probes`.
        case expected(Range<Int>, crosses: MatchDependence)
        /// Dropped by what the last step says (`Probe.decision`).
        case decided
        /// No probe stands where it would be decided.
        case undecidable
    }

    /// Probes in other namespaces that must see a packet next which has left.
    struct Arrival: Sendable {
        var probes: [UInt32]
        var namespaces: Set<Int>
        var dependsOnSource: Bool
    }

    /// What decides whether a probe is one that a packet has to pass.
    struct Point: Sendable {
        var probe: UInt32
        var priority: Int32
        var condition: UInt8
        var dependence: MatchDependence
        var until: Int64?
    }

    private struct Key: Hashable {
        var namespace: Int
        var family: AddressFamily
        var hook: Hook
    }

    /// A assessment that has been worked out, in a chain of those on the same route.
    private struct Known {
        var conditions: UInt32
        var next: Int32
        var assessment: Assessment
    }

    private struct ArrivalKey: Hashable {
        var namespace: Int
        var interface: UInt32
        var family: AddressFamily
        var conditions: UInt32
    }

    private var points: [Key: [Point]] = [:]
    private var namespacesByLinkDomain: [UInt32: Set<Int>] = [:]
    let interfaces: InterfaceTable
    let filteringBridges: FilteringBridges
    private var known: [Known] = []
    /// By route: its first assessment in `known`, -1 for none.
    private var firstKnown: [Int32] = []
    /// The probes of all verdicts, one verdict's behind the other's.
    private(set) var probes: [UInt32] = []
    private var arrivals: [ArrivalKey: Arrival?] = [:]
    private var passages: [Passage: Bool] = [:]
    private var latestArrival: (key: ArrivalKey, arrival: Arrival?)?
    /// When probes expire, in microseconds since 1970, in order; cached verdicts hold until the next one.
    private var expiries: [Int64] = []
    private var cacheEnd = Int64.min
    private let layout: Layout
    /// By probe: the bit of its condition, 0 where the probe proves nothing.
    let conditionBits: [UInt32]

    init(_ layout: Layout) {
        self.layout = layout
        var loopbacks: Set<UInt32> = []
        for (index, namespace) in layout.namespaces.enumerated() {
            for interface in namespace.interfaces.values where interface.linkDomain != 0 {
                namespacesByLinkDomain[interface.linkDomain, default: []].insert(index)
                if interface.name == "lo" { loopbacks.insert(interface.linkDomain) }
            }
        }
        interfaces = InterfaceTable(
            layout, joined: loopbacks.union(namespacesByLinkDomain.filter { $0.value.count > 1 }.keys))
        // Bit 0 is the empty condition. Probes with conditions past the 31st are taken as reporting some packets only.
        var conditions: [Condition: UInt8] = [.none: 0]
        var bits: [UInt32] = []
        for (index, probe) in layout.probes.enumerated() {
            guard layout.isInForce[index], case .every(let condition, let until) = probe.coverage else {
                bits.append(0)
                continue
            }
            let number = conditions[condition] ?? UInt8(min(conditions.count, 32))
            conditions[condition] = number
            guard number < 32 else {
                bits.append(0)
                continue
            }
            bits.append(1 << UInt32(number))
            // A nat chain sees a connection's first packet only, so that its silence says nothing.
            guard probe.table != .nat, probe.isInBaseChain else { continue }
            points[Key(namespace: probe.namespace, family: probe.family, hook: probe.hook), default: []].append(
                Point(
                    probe: UInt32(index), priority: probe.priority, condition: number, dependence: condition.dependence,
                    until: until))
        }
        conditionBits = bits
        filteringBridges = FilteringBridges(
            layout,
            watched: Set(
                points.keys.filter { $0.hook == .forward }.map {
                    FilteringBridges.Place(namespace: $0.namespace, family: $0.family)
                }))
        expiries = Set(points.values.joined().compactMap(\.until)).map { $0 * 1_000_000 }.sorted()
        for key in points.keys { points[key]?.sort { $0.priority < $1.priority } }
    }

    /// The probes at `hook` that a packet which met `conditions` so far has to pass.
    private func due(_ namespace: Int, _ family: AddressFamily, _ hook: Hook, _ conditions: UInt32, _ now: Int64) -> [Point] {
        Self.due(points, namespace, family, hook, conditions, now)
    }

    private static func due(
        _ points: [Key: [Point]], _ namespace: Int, _ family: AddressFamily, _ hook: Hook, _ conditions: UInt32, _ now: Int64
    ) -> [Point] {
        (points[Key(namespace: namespace, family: family, hook: hook)] ?? []).filter {
            conditions & (1 << UInt32($0.condition)) != 0 && ($0.until.map { $0 > now / 1_000_000 } ?? true)
        }
    }

    /// Whether packets that leave at `hook` are last seen there: no probe stands further on the way out.
    func isLastOnTheWayOut(_ hook: Hook, _ namespace: Int, _ family: AddressFamily) -> Bool {
        func has(_ hook: Hook) -> Bool {
            !(points[Key(namespace: namespace, family: family, hook: hook)] ?? []).isEmpty
        }
        switch hook {
        case .postrouting: return true
        case .forward, .output: return !has(.postrouting)
        case .prerouting: return !has(.forward) && !has(.postrouting)
        case .input: return false
        }
    }

    /// - Parameters:
    ///   - conditions: the conditions that the packet is known to have met, as bits.
    ///   - now: microseconds since 1970, for probes that expire.
    mutating func assessment(_ stepPath: StepPathID, _ stepTrie: StepTrie, conditions: UInt32, now: Int64) -> Assessment {
        forgetIfExpired(now)
        let conditions = conditions | 1
        let index = Int(stepPath)
        if index < firstKnown.count {
            var next = firstKnown[index]
            while next >= 0 {
                if known[Int(next)].conditions == conditions { return known[Int(next)].assessment }
                next = known[Int(next)].next
            }
        }
        while firstKnown.count <= index { firstKnown.append(-1) }
        let assessment = decide(stepTrie.steps(of: stepPath), conditions: conditions, now: now)
        known.append(Known(conditions: conditions, next: firstKnown[index], assessment: assessment))
        firstKnown[index] = Int32(known.count - 1)
        return assessment
    }

    /// A probe that has expired is no longer one that a packet has to pass.
    @inline(__always)
    private mutating func forgetIfExpired(_ now: Int64) {
        if now >= cacheEnd { forget(now) }
    }

    private mutating func forget(_ now: Int64) {
        known.removeAll()
        firstKnown.removeAll()
        probes.removeAll()
        arrivals.removeAll()
        latestArrival = nil
        cacheEnd = expiries.first { $0 > now } ?? .max
    }

    private mutating func decide(_ steps: [Step], conditions: UInt32, now: Int64) -> Assessment {
        guard let last = steps.last else { return Assessment(ending: .undecidable, hasGap: true) }
        let lastProbe = layout.probes[Int(last.probe)]
        guard lastProbe.decision == nil else { return Assessment(ending: .decided, hasGap: false) }
        let namespace = lastProbe.namespace
        let family = lastProbe.family
        let seen = Set(steps.map(\.probe))
        let hooks = Set(steps.map { layout.probes[Int($0.probe)].hook })
        let points = points
        func due(_ hook: Hook) -> [Point] {
            Self.due(points, namespace, family, hook, conditions, now)
        }

        // Behind: every hook that the packet came through, up to its last step.
        var behind: [Point] = []
        switch lastProbe.hook {
        case .prerouting, .output: break
        case .input, .forward: behind += due(.prerouting)
        case .postrouting:
            if hooks.contains(.output) {
                behind += due(.output)
            } else if hooks.contains(.prerouting) || hooks.contains(.forward) {
                behind += due(.prerouting) + due(.forward)
            } else if let entry = due(.prerouting).first, let other = due(.output).first {
                // It came in one way or the other, and both are watched.
                behind += [entry, other]
            }
        }
        let here = due(lastProbe.hook)
        behind += here.filter { $0.priority < lastProbe.priority }
        let hasGap = behind.contains { !seen.contains($0.probe) }

        // Ahead: first the rest of this hook.
        let dependence = dependenceCrossed(from: lastProbe)
        if let next = here.first(where: { $0.priority >= lastProbe.priority && !seen.contains($0.probe) }) {
            return Assessment(ending: expected([next], crosses: dependence(lastProbe.hook, next.priority)), hasGap: hasGap)
        }
        let isWatched = !here.isEmpty
        switch lastProbe.hook {
        case .input:
            let isDecided = isWatched && !mayEndBehind(lastProbe)
            return Assessment(ending: isDecided ? .delivered : .undecidable, hasGap: hasGap)
        case .postrouting:
            return Assessment(ending: isWatched ? .left : .undecidable, hasGap: hasGap)
        case .forward, .output:
            guard let next = due(.postrouting).first else { return Assessment(ending: .undecidable, hasGap: hasGap) }
            return Assessment(ending: expected([next], crosses: dependence(.postrouting, next.priority)), hasGap: hasGap)
        case .prerouting:
            let input = due(.input).first
            let forward = due(.forward).first ?? due(.postrouting).first
            guard let input, let forward else { return Assessment(ending: .undecidable, hasGap: hasGap) }
            return Assessment(
                ending: expected([input, forward], crosses: dependence(.forward, forward.priority)), hasGap: hasGap)
        }
    }

    /// Whether a table of INPUT may drop a packet behind its last probe: the probe's own, or a later one without a probe.
    ///
    /// The security table is INPUT's end by definition: behind its probe a packet counts as delivered.
    private func mayEndBehind(_ last: Probe) -> Bool {
        guard last.table != .security else { return false }
        return layout.namespaces[last.namespace].decidingChains.contains {
            $0.family == last.family && $0.hook == .input && $0.table != .nat && $0.priority >= last.priority
        }
    }

    private mutating func expected(_ points: [Point], crosses: MatchDependence) -> Ending {
        let depends = points.reduce(MatchDependence()) { $0.union($1.dependence) }
        let start = probes.count
        probes += points.map(\.probe)
        return .expected(start..<probes.count, crosses: crosses.intersection(depends))
    }

    /// Which translations lie between the last probe and a place ahead.
    private func dependenceCrossed(from last: Probe) -> (Hook, Int32) -> MatchDependence {
        { hook, priority in
            var crossed: MatchDependence = []
            if Translation.passesDestination(from: (last.hook, last.priority), to: (hook, priority)) {
                crossed.insert(.destination)
            }
            if Translation.passesSource(from: (last.hook, last.priority), to: (hook, priority)) { crossed.insert(.source) }
            return crossed
        }
    }

    /// The namespaces with an interface on `link`.
    func namespaces(on link: UInt32) -> Set<Int> { namespacesByLinkDomain[link] ?? [] }

    private struct Passage: Hashable {
        var from: UInt32
        var to: UInt32
        var family: AddressFamily
    }

    private func isWatched(_ namespace: Int, _ family: AddressFamily, _ hook: Hook) -> Bool {
        points[Key(namespace: namespace, family: family, hook: hook)] != nil
    }

    /// Whether packets that a namespace receives from a link and forwards are first seen behind the routing decision.
    func begins(behindRoutingIn namespace: Int, _ family: AddressFamily) -> Bool {
        !isWatched(namespace, family, .prerouting) && isWatched(namespace, family, .forward)
    }

    /// Whether a namespace without probes lies between two links.
    mutating func passes(unwatchedFrom from: UInt32, to: UInt32, _ family: AddressFamily) -> Bool {
        let passage = Passage(from: from, to: to, family: family)
        if let known = passages[passage] { return known }
        let isUnwatched = namespaces(on: from).intersection(namespaces(on: to)).contains { namespace in
            ![Hook.prerouting, .forward, .postrouting].contains { isWatched(namespace, family, $0) }
        }
        passages[passage] = isUnwatched
        return isUnwatched
    }

    /// The namespaces that must have seen a packet which arrived in `namespace` through `interface`.
    ///
    /// - Returns: `nil` where it may have come from outside of the namespaces being traced, or where a match leaves that open.
    func origin(
        of namespace: Int, through interface: UInt32, family: AddressFamily, conditions: UInt32, now: Int64
    ) -> Set<Int>? {
        let known = interfaces[namespace, interface]
        guard known.linkDomain != 0, !known.isOpen else { return nil }
        var others = namespacesByLinkDomain[known.linkDomain] ?? []
        if !known.isLoopback { others.remove(namespace) }
        let isWatched = others.allSatisfy { other in
            guard let first = due(other, family, .postrouting, conditions | 1, now).first else { return false }
            return first.dependence.isEmpty
        }
        return others.isEmpty || !isWatched ? nil : others
    }

    /// Whether a packet of this length goes through `interface` in one piece.
    func fits(_ length: UInt32, namespace: Int, interface: UInt32) -> Bool {
        let mtu = interfaces[namespace, interface].mtu
        return length <= (mtu == 0 ? 1500 : mtu)
    }

    /// Whether `arrival` is `nil` whatever the packet: the interface leads out of the namespaces being traced, or may.
    func leadsOut(of namespace: Int, through interface: UInt32) -> Bool {
        let known = interfaces[namespace, interface]
        return known.linkDomain == 0 || known.isOpen
    }

    /// Whether an interface is not in the layout, which has others of its namespace: it has been added since they were read, and where it
    /// leads is not known yet.
    @inline(__always)
    func isTooNew(_ interface: UInt32, in namespace: Int) -> Bool {
        interface != 0 && !interfaces[namespace, interface].isKnown && !layout.namespaces[namespace].interfaces.isEmpty
    }

    /// Whether packets may come into a namespace without passing its chains: a flowtable is at an interface on the link that they
    /// left by.
    func mayBypass(_ namespaces: Set<Int>, from namespace: Int, through interface: UInt32) -> Bool {
        let link = interfaces[namespace, interface].linkDomain
        return namespaces.contains { index in
            guard let facts = layout.namespaces[index].facts, !facts.flowtables.isEmpty else { return false }
            let devices = Set(facts.flowtables.flatMap(\.devices))
            return layout.namespaces[index].interfaces.values.contains {
                devices.contains($0.name) && (link == 0 || $0.linkDomain == link)
            }
        }
    }

    /// Probes that must see a packet next which left `namespace` through `interface`.
    ///
    /// - Returns: `nil` where it left the namespaces being traced, or may have.
    mutating func arrival(
        from namespace: Int, through interface: UInt32, family: AddressFamily, conditions: UInt32, now: Int64
    ) -> Arrival? {
        guard !leadsOut(of: namespace, through: interface) else { return nil }
        forgetIfExpired(now)
        let key = ArrivalKey(namespace: namespace, interface: interface, family: family, conditions: conditions | 1)
        if key == latestArrival?.key { return latestArrival?.arrival }
        let arrival = arrivals[key] ?? findArrival(key, now)
        arrivals[key] = .some(arrival)
        latestArrival = (key, arrival)
        return arrival
    }

    private func findArrival(_ key: ArrivalKey, _ now: Int64) -> Arrival? {
        let known = interfaces[key.namespace, key.interface]
        var others = namespacesByLinkDomain[known.linkDomain] ?? []
        if !known.isLoopback { others.remove(key.namespace) }
        guard !others.isEmpty else { return nil }
        var points: [Point] = []
        for other in others.sorted() {
            guard let first = due(other, key.family, .prerouting, key.conditions, now).first else { return nil }
            points.append(first)
        }
        return Arrival(
            probes: points.map(\.probe), namespaces: others,
            dependsOnSource: points.contains { $0.dependence.contains(.source) })
    }
}

/// Where address translation stands among the chains.
enum Translation {
    typealias Position = (hook: Hook, priority: Int32)

    /// Whether a packet passes destination translation (PREROUTING, OUTPUT) on its way between two places.
    @inline(__always)
    static func passesDestination(from: Position, to: Position) -> Bool {
        (from.hook == .prerouting || from.hook == .output) && from.priority <= HookPriority.destinationTranslation
            && (to.hook != from.hook || to.priority > HookPriority.destinationTranslation)
    }

    /// Whether it passes source translation (INPUT, POSTROUTING).
    @inline(__always)
    static func passesSource(from: Position, to: Position) -> Bool {
        guard to.hook == .input || to.hook == .postrouting, to.priority > HookPriority.sourceTranslation else { return false }
        return from.hook != to.hook || from.priority <= HookPriority.sourceTranslation
    }
}
