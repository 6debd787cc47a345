public import Aggregation
internal import TraceModel

/// `/precedence`: the observed order of chains.
public struct PrecedenceReport: Codable, Sendable, Equatable {
    public struct Order: Codable, Sendable, Equatable {
        /// `out` (made here), `in` (for here), `through`.
        public var direction: String
        public var packets: UInt64
        /// `table/CHAIN`, first to last.
        public var chains: [String]
    }

    public struct Role: Codable, Sendable, Equatable {
        /// `client`, `router`, `server`, or `local`.
        public var role: String
        public var netns: String
        /// How packets were reported: `nflog`, or `log` for the kernel log.
        public var medium: String
        public var orders: [Order]
    }

    /// Two packets that disagree.
    public struct Conflict: Codable, Sendable, Equatable {
        public var netns: String
        public var direction: String
        public var first: String
        public var second: String
        /// Packets that passed `first` before `second`, and the other way round.
        public var packets: UInt64
        public var packetsOtherwise: UInt64
    }

    public var schema = 1
    public var generatedAt: String
    public var completeness: Completeness
    public var roles: [Role]
    public var conflicts: [Conflict]
    public var notes: [String]
}

/// Which way packets pass a namespace.
private enum Passage: String, CaseIterable {
    case out, `in`, through
}

/// Observed orders of one namespace and passage.
private struct Observation {
    var packets: UInt64 = 0
    var orders: [[String]: UInt64] = [:]
    /// Packets that passed the first chain before the second.
    var before: [[String]: UInt64] = [:]
}

extension PrecedenceReport: MarkdownReport {
    public static let name = "precedence"
    public static let summary = "Print the observed order of chains, by namespace and direction."
    public static let filters: [TraceFilter.Field] = [.netns]

    public init(_ snapshot: TraceSnapshot, _ filter: TraceFilter) { self = snapshot.precedenceReport(filter) }
}

extension TraceSnapshot {
    /// - Parameter filter: of which the namespaces count.
    public func precedenceReport(_ filter: TraceFilter = TraceFilter()) -> PrecedenceReport {
        var observations: [Int: [Passage: Observation]] = [:]
        var originated: [Int: UInt64] = [:]
        var answered: [Int: UInt64] = [:]
        var looped: [Int: UInt64] = [:]
        for number in paths.indices
        where paths[number].incompleteReason != .stepsMissing && paths[number].incompleteReason != .eventsLost {
            let path = paths[number]
            let counts = paths.counts(number)
            // A line of the kernel log whose prefix several rules have.
            if counts.ambiguous == counts.packets, path.channel(in: context) == .kernelLog { continue }
            for (index, stepPath) in path.stepPaths.enumerated() {
                let steps = stepTrie.steps(of: stepPath)
                guard let first = steps.first, let last = steps.last else { continue }
                let namespace = layout.probes[Int(first.probe)].namespace
                let hooks = Set(steps.map { layout.probes[Int($0.probe)].hook })
                guard let passage = passage(hooks) else { continue }
                observe(steps, counts.packets, &observations[namespace, default: [:]][passage, default: Observation()])
                if layout.interfaceName(last.outInterface, namespace: namespace) == "lo"
                    || layout.interfaceName(first.inInterface, namespace: namespace) == "lo"
                {
                    looped[namespace, default: 0] += counts.packets
                } else if passage == .out, index == 0 {
                    originated[namespace, default: 0] += counts.originals
                    answered[namespace, default: 0] += counts.replies
                } else if passage == .in, index == path.stepPaths.count - 1 {
                    originated[namespace, default: 0] += counts.replies
                    answered[namespace, default: 0] += counts.originals
                }
            }
        }
        var roles: [PrecedenceReport.Role] = []
        var conflicts: [PrecedenceReport.Conflict] = []
        for namespace in observations.keys.sorted() {
            let name = layout.namespaces[namespace].name
            guard let passages = observations[namespace], filter.admits(netns: name) else { continue }
            var orders: [PrecedenceReport.Order] = []
            for passage in Passage.allCases {
                guard let observation = passages[passage] else { continue }
                let merged = merge(observation)
                orders += observed(merged.chains, observation).map {
                    PrecedenceReport.Order(direction: passage.rawValue, packets: $0.packets, chains: $0.chains)
                }
                conflicts += merged.conflicts.map { pair in
                    PrecedenceReport.Conflict(
                        netns: name, direction: passage.rawValue, first: pair[0], second: pair[1],
                        packets: observation.before[pair] ?? 0,
                        packetsOtherwise: observation.before[[pair[1], pair[0]]] ?? 0)
                }
            }
            let role: String
            if passages[.through] != nil {
                role = "router"
            } else if let loops = looped[namespace], loops > (originated[namespace] ?? 0) + (answered[namespace] ?? 0) {
                role = "local"
            } else {
                role = (answered[namespace] ?? 0) > (originated[namespace] ?? 0) ? "server" : "client"
            }
            roles.append(
                PrecedenceReport.Role(
                    role: role, netns: name, medium: layout.namespaces[namespace].channel.rawValue, orders: orders))
        }
        return PrecedenceReport(
            generatedAt: Timestamp.text(generatedAt), completeness: completeness, roles: roles, conflicts: conflicts,
            notes: notes(observations, filter))
    }

    private func passage(_ hooks: Set<Hook>) -> Passage? {
        if hooks.contains(.output) { return .out }
        if hooks.contains(.input) { return .in }
        if hooks.contains(.forward) || (hooks.contains(.prerouting) && hooks.contains(.postrouting)) { return .through }
        // Seen at PREROUTING alone: it was lost before it was known where it goes.
        return nil
    }

    private func label(_ step: Step) -> String {
        let probe = layout.probes[Int(step.probe)]
        return "\(probe.table.name)/\(probe.chain)"
    }

    private func observe(_ steps: [Step], _ packets: UInt64, _ observation: inout Observation) {
        var chains: [String] = []
        // Sentinels are ours, and no part of the machine's order.
        let chainSteps = steps.filter { layout.probes[Int($0.probe)].table != .sentinel }
        for chain in chainSteps.map(label) where !chains.contains(chain) { chains.append(chain) }
        observation.packets += packets
        observation.orders[chains, default: 0] += packets
        for (index, chain) in chains.enumerated() {
            for later in chains[(index + 1)...] { observation.before[[chain, later], default: 0] += packets }
        }
    }

    /// One order out of all that were seen: of two chains the one that more packets passed first comes first. Pairs on
    /// which packets disagree are conflicts.
    private func merge(_ observation: Observation) -> (chains: [String], conflicts: [[String]]) {
        var remaining = Set(observation.orders.keys.flatMap { $0 })
        let before = observation.before
        var chains: [String] = []
        while !remaining.isEmpty {
            // Next is one that nothing else remaining precedes; where packets disagree in a circle, the one least
            // preceded. Ties go by name, so that the result does not depend on a hash's order.
            func preceding(_ chain: String) -> Int {
                remaining.filter { (before[[$0, chain]] ?? 0) > (before[[chain, $0]] ?? 0) }.count
            }
            guard let next = remaining.min(by: { (preceding($0), $0) < (preceding($1), $1) }) else { break }
            chains.append(next)
            remaining.remove(next)
        }
        let conflicts = before.keys.filter { pair in
            let otherwise = before[[pair[1], pair[0]]] ?? 0
            let packets = before[pair] ?? 0
            return otherwise > 0 && (packets > otherwise || packets == otherwise && pair[0] < pair[1])
        }
        return (chains, conflicts.sorted { $0.lexicographicallyPrecedes($1) })
    }

    /// Orders of which packets showed each step from one chain to the next: chains that no packet passed both of are in different
    /// ones. Each packet counts in the first order that has all of its chains.
    private func observed(_ chains: [String], _ observation: Observation) -> [(chains: [String], packets: UInt64)] {
        func precedes(_ one: String, _ other: String) -> Bool { observation.before[[one, other]] != nil }
        var orders: [[String]] = []
        for chain in chains {
            if let index = orders.firstIndex(where: { $0.last.map { precedes($0, chain) } ?? false }) {
                orders[index].append(chain)
                continue
            }
            var order: [String] = []
            for earlier in chains.prefix(while: { $0 != chain }) where precedes(earlier, chain) {
                if order.last.map({ precedes($0, earlier) }) ?? true { order.append(earlier) }
            }
            orders.append(order + [chain])
        }
        var counted = orders.map { (chains: $0, packets: UInt64(0)) }
        for (passed, packets) in observation.orders {
            let wanted = Set(passed)
            guard let index = orders.firstIndex(where: { wanted.isSubset(of: $0) }) else { continue }
            counted[index].packets += packets
        }
        return counted
    }

    /// Why a table that has probes was silent.
    private func notes(_ observations: [Int: [Passage: Observation]], _ filter: TraceFilter) -> [String] {
        var notes: [String] = []
        for (index, namespace) in layout.namespaces.enumerated() where filter.admits(netns: namespace.name) && !namespace.isGone
        {
            let probes = layout.probes.indices.filter { layout.probes[$0].namespace == index && layout.isInForce[$0] }
            guard !probes.isEmpty else {
                // Most namespaces have no LOG rule, and nothing is missing then.
                if namespace.channel == .kernelLog { continue }
                notes.append("\(namespace.name): no rules in force there report, so nothing of it is known")
                continue
            }
            guard let passages = observations[index] else {
                notes.append("\(namespace.name): no packet has passed it")
                continue
            }
            let tables = Set(probes.map { layout.probes[$0].table })
            for table in Table.iptables where !tables.contains(table) {
                notes.append("\(namespace.name): no probe in table \(table.name), so its place in the order is not known")
            }
            guard tables.contains(.nat) else { continue }
            var natPackets: UInt64 = 0
            var packets: UInt64 = 0
            for observation in passages.values {
                packets += observation.packets
                for (chains, count) in observation.orders where chains.contains(where: { $0.hasPrefix("nat/") }) {
                    natPackets += count
                }
            }
            if natPackets == 0 {
                notes.append(
                    namespace.tracksConnections == false
                        ? "\(namespace.name): the nat chains saw nothing: no rule there needs connection tracking, so it is off "
                            + "and nat never runs"
                        : "\(namespace.name): the nat chains saw nothing: they see the first packet of a connection only, and "
                            + "none began while we watched, or connection tracking is off")
            } else if natPackets < packets {
                notes.append(
                    "\(namespace.name): the nat chains saw \(natPackets) of \(packets) packets: they see the first packet of "
                        + "a connection only")
            }
        }
        return notes
    }
}
