package import TraceModel

/// A rule of iptables-legacy that a packet met, by its number.
package struct LegacyTrace: Hashable, Sendable {
    package var place: RulePlace
    /// When it was received, in microseconds since 1970.
    package var time: Int64
}

/// Traces of iptables-legacy, until somebody has looked up what the rules do that they number; and the packets' ways through the rules, put
/// together from them.
struct LegacyTraces {
    private struct Waiting {
        var packet: Packet
        var trace: LegacyTrace
    }

    private struct Key: Hashable {
        var namespace: Int
        var tuple: PacketTuple
        var fingerprint: Fingerprint
    }

    /// What the lines of one packet's trace in a base chain amount to.
    enum Result {
        case walk(RuleWalk, of: Packet, time: Int64)
        case drop(RuleDrop)
    }

    /// By namespace, oldest first.
    private var waiting: [Int: [Waiting]] = [:]
    /// Where an answer is awaited.
    private var asked: Set<Int> = []
    private var walks: [Key: LegacyWalk] = [:]
    private static let most = 1 << 12

    mutating func add(_ packet: Packet, at place: RulePlace, namespace: Int, now: Int64) {
        if waiting[namespace, default: []].count >= Self.most { waiting[namespace] = [] }
        waiting[namespace, default: []].append(Waiting(packet: packet, trace: LegacyTrace(place: place, time: now)))
    }

    /// Whether any wait for an answer.
    var isAnyUndecided: Bool { !waiting.isEmpty }

    /// The traces of a namespace whose rules are to be looked up now; `nil` where there are none, or a look-up is under way.
    mutating func takeUndecided(namespace: Int) -> Set<LegacyTrace>? {
        guard let waiting = waiting[namespace], !waiting.isEmpty, asked.insert(namespace).inserted else { return nil }
        return Set(waiting.map(\.trace))
    }

    /// Whether some wait for an answer that may be of the packet of a journey.
    func isUndecided(_ journey: Journey) -> Bool {
        !waiting.isEmpty
            && journey.legs.contains { leg in
                waiting[leg.namespace]?.first.map { $0.trace.time <= journey.traceTimes.upperBound } ?? false
            }
    }

    mutating func forget(namespace: Int) {
        waiting[namespace] = nil
        asked.remove(namespace)
        walks = walks.filter { $0.key.namespace != namespace }
    }

    /// Takes what rules do to the packets whose traces were received up to then: those that are not in `found` may have been others.
    mutating func take(_ found: [LegacyTrace: LegacyStep], received: Int64, namespace: Int) -> [Result] {
        asked.remove(namespace)
        var results: [Result] = []
        let all = waiting[namespace] ?? []
        let later = all.filter { $0.trace.time > received }
        waiting[namespace] = later.isEmpty ? nil : later
        for one in all where one.trace.time <= received {
            let key = Key(namespace: namespace, tuple: one.packet.tuple, fingerprint: one.packet.fingerprint)
            if walks[key]?.mayGoOn(with: one.trace) != true {
                if walks.count >= Self.most { walks.removeAll(keepingCapacity: true) }
                walks[key] = LegacyWalk(of: one.packet, from: one.trace, namespace: namespace)
            }
            let step = found[one.trace]
            walks[key]?.take(step, at: one.trace.place)
            if let decision = step?.decision {
                let way = walks[key].flatMap { $0.isWhole ? $0.way : nil } ?? []
                results.append(.drop(RuleDrop(packet: one.packet, time: one.trace.time, decision: decision.by(way))))
            }
            guard let walk = walks[key], walk.hasEnded, walk.isWhole else { continue }
            walks[key] = nil
            if !walk.walk.rules.isEmpty { results.append(.walk(walk.walk, of: walk.packet, time: walk.time)) }
        }
        return results
    }
}

/// A packet's way through a base chain of iptables-legacy and the chains that this one leads to, line by line of its trace.
private struct LegacyWalk {
    private struct Frame {
        var chain: String
        /// The latest rule's.
        var number = 0
        /// The rule that led here; `nil` in the base chain.
        var jump: RuleDecision.Jump?
        var isGoto = false
    }

    let packet: Packet
    let time: Int64
    private(set) var walk: RuleWalk
    private(set) var hasEnded = false
    /// Whether it begins in a base chain and every line follows from the one before: otherwise one is missing, or lines of two packets
    /// are mixed.
    private(set) var isWhole: Bool
    private var frames: [Frame]
    /// Chains that are followed one into another, more than rule sets have.
    private static let deepest = 64

    /// The lines of a packet in a base chain follow one another at once. Microseconds.
    private static let longest: Int64 = 200_000

    init(of packet: Packet, from trace: LegacyTrace, namespace: Int) {
        self.packet = packet
        time = trace.time
        let place = trace.place
        walk = RuleWalk(
            namespace: namespace, tableFamily: place.tableFamily, table: place.table, chain: place.chain, rules: [])
        frames = [Frame(chain: place.chain)]
        isWhole = Self.isBaseChain(place)
    }

    private static func isBaseChain(_ place: RulePlace) -> Bool {
        Table(name: place.table)?.hooks.contains { $0.name == place.chain } == true
    }

    /// Whether a line may be another one of the same way, or of a copy of the packet that cannot be told from it.
    func mayGoOn(with trace: LegacyTrace) -> Bool {
        guard trace.time - time <= Self.longest else { return false }
        let place = trace.place
        guard walk.table == place.table, walk.tableFamily == place.tableFamily else { return false }
        return !isWhole || walk.chain == place.chain || !Self.isBaseChain(place)
    }

    /// The rules that led into the chain of the latest line.
    var way: [RuleDecision.Jump] { frames.compactMap(\.jump) }

    /// - Parameter step: `nil` where it is not known what the rule did.
    mutating func take(_ step: LegacyStep?, at place: RulePlace) {
        guard let step, let number = place.number, let frame = frames.last, frame.chain == place.chain, frame.number < number
        else {
            isWhole = false
            return
        }
        frames[frames.count - 1].number = number
        let isEndOfChain = step.rule.place.number == nil && step.rule.verdict == .return
        if !step.isProbe, !isEndOfChain, walk.rules.count < RuleWalk.mostRules { walk.rules.append(step.rule) }
        switch step.rule.verdict {
        case .accept, .drop, .queue: hasEnded = true
        case .goesOn: break
        case .return:
            // From the base chain it leads to the policy.
            while frames.count > 1, frames.popLast()?.isGoto == true {}
        case .jump, .goto:
            guard let target = step.target, frames.count < Self.deepest else {
                isWhole = false
                return
            }
            frames.append(
                Frame(
                    chain: target, jump: RuleDecision.Jump(place, text: step.rule.text), isGoto: step.rule.verdict == .goto))
        }
    }
}
