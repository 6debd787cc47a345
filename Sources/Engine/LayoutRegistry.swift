package import Correlation
package import Ruleset
private import Synchronization
package import TraceModel

/// Gives probes their indices, which stay for the life of a trace, and keeps the layout that is in force.
///
/// Two sides add to it: a survey, which reads the rules, and the readers, which meet prefixes that no survey has explained.
package final class LayoutRegistry: Sendable {
    /// What may be concluded from a prefix that no rule has.
    package enum Mode: Sendable {
        /// The rules are a running machine's and can be read again: only prefixes of our own say where a probe is.
        case live
        /// The events are a file's, and there is nothing else to ask: words that people put into prefixes are believed.
        case offline
    }

    private struct State {
        var layout = Layout()
        var indices: [Identity: Int] = [:]
        var isSurveyWanted = false
        /// Probes that nothing but a prefix in a file speaks of.
        var spokenOf = 0
        /// What TRACE lines of the kernel log number; `nil` where it is not known.
        var tracedRules: LegacyRules?

        /// Makes the changed `layout` the next generation.
        ///
        /// - Parameter isChange: whether the machine has changed; else only more of it is known.
        mutating func publish(isChange: Bool) {
            layout.generation += 1
            if isChange { layout.changes += 1 }
        }
    }

    private struct Identity: Hashable {
        var namespace: Int
        var family: AddressFamily
        var backend: Backend
        var table: Table
        var chain: String
        var hook: Hook
        var prefix: String

        init(_ probe: Probe) {
            namespace = probe.namespace
            family = probe.family
            backend = probe.backend
            table = probe.table
            chain = probe.chain
            hook = probe.hook
            prefix = probe.prefix
        }
    }

    private let state = Mutex(State())
    private let mode: Mode

    package init(_ mode: Mode = .live) { self.mode = mode }

    package var isOffline: Bool { mode == .offline }

    /// The layout in force: an immutable value that nothing but this registry makes.
    package var current: Layout { state.withLock { $0.layout } }

    /// Whether a prefix has come up since the last call that the rules read so far do not explain.
    package func takeSurveyWish() -> Bool {
        state.withLock { state in
            defer { state.isSurveyWanted = false }
            return state.isSurveyWanted
        }
    }

    // MARK: What surveys find

    /// Replaces namespaces and probes: those found are in force, the others are not.
    package func update(
        namespaces: [NamespaceLayout], openLinkDomains: Set<UInt32>, unfollowedLinkDomains: Set<UInt32> = [],
        leftOut: [LeftOutNamespace] = [], probes: [Probe]
    ) {
        state.withLock { state in
            let before = state.layout.namespaces
            state.layout.namespaces = namespaces
            for index in namespaces.indices where index < before.count {
                state.layout.namespaces[index].keepNames(of: before[index])
            }
            state.layout.openLinkDomains = openLinkDomains
            state.layout.unfollowedLinkDomains = unfollowedLinkDomains
            state.layout.leftOut = leftOut
            state.layout.isInForce = state.layout.isInForce.map { _ in false }
            Self.add(probes, to: &state)
            state.publish(isChange: true)
        }
    }

    /// Adds the rules of one namespace, read from a file.
    package func add(
        _ probes: [Probe], tracksConnections: Bool?, decidingChains: Set<BuiltInChain>, facts: NamespaceFacts, namespace: Int
    ) {
        state.withLock { state in
            Self.add(probes, to: &state)
            state.layout.namespaces[namespace].tracksConnections = tracksConnections
            state.layout.namespaces[namespace].facts = facts
            state.layout.namespaces[namespace].decidingChains.formUnion(decidingChains)
            state.publish(isChange: false)
        }
    }

    private static func add(_ probes: [Probe], to state: inout State) {
        var met: Set<Int> = []
        for probe in probes {
            let index = add(probe, to: &state)
            // Two rules of one chain with one prefix: which of them reported a packet cannot be told.
            if !met.insert(index).inserted { state.layout.probes[index].coverage = .some }
        }
    }

    @discardableResult
    private static func add(_ probe: Probe, to state: inout State) -> Int {
        let identity = Identity(probe)
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

    /// Probes of these runs in one namespace prove nothing by their silence from now on.
    package func markUnreliable(runs: Set<String>, namespace: Int) {
        guard !runs.isEmpty else { return }
        state.withLock { state in
            for index in state.layout.probes.indices where state.layout.probes[index].namespace == namespace {
                guard let own = ProbePrefix(state.layout.probes[index].prefix), runs.contains(own.run) else { continue }
                state.layout.probes[index].coverage = .some
            }
            state.publish(isChange: true)
        }
    }

    /// Whether rules have been read by which the silence of a namespace's probes proves something.
    package func hasProof(of namespace: Int) -> Bool {
        state.withLock { state in
            state.layout.probes.indices.contains { index in
                guard state.layout.isInForce[index], state.layout.probes[index].namespace == namespace else { return false }
                if case .every = state.layout.probes[index].coverage { return true }
                return false
            }
        }
    }

    /// Probes of these namespaces prove nothing by their silence until they are found again.
    package func markUnreliable(namespaces: Set<Int>) {
        state.withLock { state in
            for index in state.layout.probes.indices where namespaces.contains(state.layout.probes[index].namespace) {
                if case .every = state.layout.probes[index].coverage { state.layout.probes[index].coverage = .some }
            }
            state.publish(isChange: true)
        }
    }

    /// Makes room for a namespace that has just appeared.
    ///
    /// - Returns: its index.
    @discardableResult
    package func add(_ namespace: NamespaceLayout) -> Int {
        state.withLock { Self.add(namespace, to: &$0) }
    }

    private static func add(_ namespace: NamespaceLayout, to state: inout State) -> Int {
        state.layout.namespaces.append(namespace)
        state.publish(isChange: false)
        return state.layout.namespaces.count - 1
    }

    /// Takes the layout that a recording holds, which replaces the layout of its namespaces.
    ///
    /// - Parameters:
    ///   - linkDomainOffset: keeps the link domains of different machines apart.
    ///   - isChange: whether it has replaced another one while packets were recorded.
    /// - Returns: the index here of each of its namespaces; `nil` for one that found no room.
    package func adopt(_ recorded: Layout, linkDomainOffset: UInt32, isChange: Bool) -> [Int?] {
        state.withLock { state in
            let places = recorded.namespaces.map { Self.namespace(named: $0.name, channel: $0.channel, &state) }
            func moved(_ linkDomain: UInt32) -> UInt32 { linkDomain == 0 ? 0 : linkDomain &+ linkDomainOffset }
            for (place, namespace) in zip(places, recorded.namespaces) {
                guard let index = place else { continue }
                let before = state.layout.namespaces[index]
                state.layout.namespaces[index] = namespace
                state.layout.namespaces[index].interfaces = namespace.interfaces.mapValues {
                    var interface = $0
                    interface.linkDomain = moved(interface.linkDomain)
                    return interface
                }
                state.layout.namespaces[index].keepNames(of: before)
            }
            state.layout.openLinkDomains.formUnion(recorded.openLinkDomains.map(moved))
            state.layout.unfollowedLinkDomains.formUnion(recorded.unfollowedLinkDomains.map(moved))
            // Files of one run say it again.
            for other in recorded.leftOut where !state.layout.leftOut.contains(other) { state.layout.leftOut.append(other) }
            for index in state.layout.probes.indices where places.contains(state.layout.probes[index].namespace) {
                state.layout.isInForce[index] = false
            }
            let probes = recorded.probes.compactMap { probe -> Probe? in
                guard let place = places[probe.namespace] else { return nil }
                var probe = probe
                probe.namespace = place
                return probe
            }
            Self.add(probes, to: &state)
            state.publish(isChange: isChange)
            return places
        }
    }

    // MARK: What readers meet

    /// Whether LOG could have written `prefix`: it has at most 29 characters (`xt_log_info`, linux/netfilter/xt_LOG.h), so that more is
    /// the head of a line in a form that is not read. TRACE's prefixes hold a chain's name and are longer.
    private static func mayBeWhole(logPrefix prefix: String) -> Bool {
        prefix.utf8.count <= 29 || prefix.hasPrefix("TRACE: ")
    }

    /// The namespace of this name, which is made where there is none yet: a file's namespaces are known by the file alone.
    ///
    /// - Returns: `nil` for one more than there is room for.
    package func namespace(named name: String, channel: EventChannel) -> Int? {
        state.withLock { Self.namespace(named: name, channel: channel, &$0) }
    }

    private static func namespace(named name: String, channel: EventChannel, _ state: inout State) -> Int? {
        let known = state.layout.namespaces.firstIndex { $0.name == name && $0.channel == channel }
        if let known { return known }
        // A file may name any number of them; the layout has room for 65,536.
        guard state.layout.namespaces.count < mostNamespaces else { return nil }
        // The loopback interface has index 1 in every namespace (LOOPBACK_IFINDEX in the kernel's net/flow.h).
        let loopback = Interface(name: "lo", linkDomain: firstLoopback + UInt32(state.layout.namespaces.count))
        return add(
            NamespaceLayout(name: name, inode: 0, interfaces: [1: loopback], channel: channel), to: &state)
    }

    /// Namespaces of files that are followed.
    package static let mostNamespaces = 4096
    /// Probes that prefixes of files alone speak of.
    private static let mostProbes = 1 << 13

    /// Above the link domains that surveys and recordings number.
    private static let firstLoopback: UInt32 = 1 << 30

    /// The number of an interface by its name; one that is not known gets one past those that the kernel gives.
    package func interface(named name: String, namespace: Int) -> UInt32 {
        state.withLock { state in
            let interfaces = state.layout.namespaces[namespace].interfaces
            if let known = interfaces.first(where: { $0.value.name == name })?.key { return known }
            var number: UInt32 = 1 << 24
            while interfaces[number] != nil { number += 1 }
            state.layout.namespaces[namespace].interfaces[number] = Interface(name: name)
            state.publish(isChange: false)
            return number
        }
    }

    /// The probe that an NFLOG event with `prefix` belongs to.
    ///
    /// A rule that the survey found for this prefix, family and hook; else what the prefix says itself, if it is one of ours
    /// or, of a file, has words for it.
    /// - Returns: `nil` for a prefix that nobody explains.
    package func resolve(prefix: String, namespace: Int, family: AddressFamily, hook: Hook) -> UInt32? {
        state.withLock { state in
            let known = state.layout.probes.indices.last {
                let probe = state.layout.probes[$0]
                return probe.namespace == namespace && probe.family == family && probe.hook == hook
                    && probe.prefix == prefix && state.layout.isInForce[$0]
            }
            if let known { return UInt32(known) }
            state.isSurveyWanted = true
            guard namespace < state.layout.namespaces.count else { return nil }
            let probe: Probe
            if let own = ProbePrefix(prefix) {
                probe = Self.probe(own, namespace, family, hook, prefix)
            } else if mode == .offline, let words = PrefixWords(prefix), Hook(name: words.chain) ?? hook == hook {
                probe = Self.probe(words, namespace, family, hook, prefix)
            } else {
                return nil
            }
            return addSpokenOf([probe], to: &state).first
        }
    }

    /// Adds probes that nothing but a prefix speaks of.
    ///
    /// - Returns: their numbers; none where a file speaks of more than there is room for.
    private func addSpokenOf(_ probes: [Probe], to state: inout State) -> [UInt32] {
        let new = probes.count { state.indices[Identity($0)] == nil }
        guard new == 0 || mode == .live || state.spokenOf + new <= Self.mostProbes else { return [] }
        state.spokenOf += new
        state.publish(isChange: false)
        return probes.map { UInt32(Self.add($0, to: &state)) }
    }

    /// The probes that a line of the kernel log with `prefix` may belong to: of one namespace, one for each hook that the
    /// packet may have been at.
    ///
    /// - Parameters:
    ///   - hooks: where a packet with these interfaces can be.
    /// - Returns: none for a prefix that nobody explains, or that several namespaces have.
    package func resolve(logPrefix prefix: String, family: AddressFamily, hooks: [Hook]) -> [UInt32] {
        state.withLock { state in
            let known = state.layout.probes.indices.filter { index in
                let probe = state.layout.probes[index]
                return probe.family == family && state.layout.isInForce[index] && probe.prefix.isSamePrefix(as: prefix)
                    && state.layout.namespaces[probe.namespace].channel == .kernelLog
            }
            if !known.isEmpty {
                guard Set(known.map { state.layout.probes[$0].namespace }).count == 1 else { return [] }
                return known.filter { hooks.contains(state.layout.probes[$0].hook) }.map { UInt32($0) }
            }
            state.isSurveyWanted = true
            guard mode == .offline else { return [] }
            let found: [Probe]
            if let own = ProbePrefix(prefix) {
                guard let namespace = Self.namespace(named: "ns\(own.namespace ?? 0)", channel: .kernelLog, &state) else {
                    return []
                }
                let at = Hook(name: own.chain).map { [$0] } ?? own.table.hooks.filter(hooks.contains)
                found = at.map { Self.probe(own, namespace, family, $0, prefix) }
            } else if Self.mayBeWhole(logPrefix: prefix), let words = PrefixWords(prefix),
                Hook(name: words.chain).map(hooks.contains) ?? true
            {
                guard let namespace = Self.namespace(named: words.place ?? "host", channel: .kernelLog, &state) else {
                    return []
                }
                let at = (Hook(name: words.chain).map { [$0] } ?? words.table.hooks).filter(hooks.contains)
                let decision = Self.decision(words, family, state.tracedRules)
                found = at.map { Self.probe(words, namespace, family, $0, prefix, decision) }
            } else {
                return []
            }
            return addSpokenOf(found, to: &state)
        }
    }

    /// The number of a probe that a rule trace speaks of.
    ///
    /// - Returns: `nil` where a file speaks of more than there is room for.
    package func number(of probe: Probe) -> UInt32? { state.withLock { addSpokenOf([probe], to: &$0).first } }

    /// The built-in chain that leads to all of several probes' chains, as a probe of its own: what can be said of a packet that
    /// any of them may have reported.
    ///
    /// - Returns: `nil` where the probes are of several tables or hooks.
    package func commonProbe(of probes: [UInt32]) -> UInt32? {
        state.withLock { state in
            let known = probes.map { state.layout.probes[Int($0)] }
            guard var common = known.first, known.allSatisfy({ $0.table == common.table && $0.hook == common.hook }) else {
                return nil
            }
            common.chain = common.hook.name
            common.backFrom = nil
            common.coverage = .some
            return addSpokenOf([common], to: &state).first
        }
    }

    private static func probe(
        _ own: ProbePrefix, _ namespace: Int, _ family: AddressFamily, _ hook: Hook, _ prefix: String
    ) -> Probe {
        Probe(
            namespace: namespace, family: family, table: own.table, chain: own.chain, hook: hook,
            backend: own.backend, prefix: prefix, backFrom: own.backFrom, coverage: .some)
    }

    private static func probe(
        _ words: PrefixWords, _ namespace: Int, _ family: AddressFamily, _ hook: Hook, _ prefix: String,
        _ decision: RuleDecision? = nil
    ) -> Probe {
        // TRACE puts the rule's number into the prefix: all of one chain's are one probe, but for the rule that drops.
        let rule = decision.map { ":\($0.place.number.map { "\($0)" } ?? "policy")" } ?? ""
        return Probe(
            namespace: namespace, family: family, table: words.table, chain: words.chain, hook: hook,
            backend: words.isTrace && decision != nil ? .legacy : .nft,
            prefix: words.isTrace ? "TRACE: \(words.table.name):\(words.chain)\(rule)" : prefix,
            coverage: words.isTrace ? .everyRule : .some, decision: decision)
    }

    /// The decision of the rule that a TRACE line names by its number, where the rules are known.
    private static func decision(_ words: PrefixWords, _ family: AddressFamily, _ rules: LegacyRules?) -> RuleDecision? {
        guard words.isTrace, let number = words.ruleNumber, let rules else { return nil }
        let place = RulePlace(
            tableFamily: family.tableName, table: words.table.name, chain: words.chain, number: number, backend: .legacy)
        guard let found = rules.decision(at: place) else { return nil }
        return RuleDecision(
            found.kind, at: found.place, text: found.text, position: found.position, accepting: found.accepting,
            inference: .givenRules)
    }

    /// The rules that TRACE lines of the kernel log speak of, as a file has them.
    package func setTracedRules(_ rules: LegacyRules) { state.withLock { $0.tracedRules = rules } }
}

extension NamespaceLayout {
    /// Interfaces that are gone keep their names, for the paths that led through them, and lead nowhere.
    fileprivate mutating func keepNames(of before: NamespaceLayout) {
        for (number, interface) in before.interfaces where interfaces[number] == nil {
            interfaces[number] = Interface(name: interface.name)
        }
    }
}

extension String {
    /// LOG prints a prefix as it is; many end with a blank, which tools that cut lines may have taken away.
    fileprivate func isSamePrefix(as other: String) -> Bool {
        self == other || trimmingSuffix(while: \.isWhitespace) == other.trimmingSuffix(while: \.isWhitespace)
    }

    private func trimmingSuffix(while isCut: (Character) -> Bool) -> Substring {
        var end = endIndex
        while end > startIndex, isCut(self[index(before: end)]) { end = index(before: end) }
        return self[..<end]
    }
}

extension Correlator {
    /// Takes a registry's layout where this has an earlier one. Nothing else gives a correlator of a trace its layout.
    ///
    /// - Returns: whether it had an earlier one.
    @discardableResult
    package mutating func follow(_ registry: LayoutRegistry) -> Bool {
        let newer = registry.current
        guard newer.generation != layout.generation else { return false }
        update(newer, isDiscovery: newer.changes == layout.changes)
        return true
    }

    /// Takes a registry's layout where this does not have `probe` yet, which a reader has just met.
    ///
    /// - Returns: whether it had not.
    @discardableResult
    package mutating func follow(_ registry: LayoutRegistry, to probe: UInt32) -> Bool {
        guard !layout.probes.indices.contains(Int(probe)) else { return false }
        return follow(registry)
    }
}
