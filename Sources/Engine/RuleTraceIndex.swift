package import TraceModel
package import WireFormat

/// The drops that the kernel's rule traces have told of lately, to be found by the packet that was dropped.
///
/// A trace has no content of the packet, so that it cannot be told from its copies for certain: what is found is what all drops of such
/// a packet at that time have in common.
package struct RuleTraceIndex: Sendable {
    private struct Key: Hashable {
        var namespace: Int
        var id: UInt32
    }

    /// A packet under way, as its latest headers had it.
    private struct Traced {
        var packet: Packet
        var time: Int64
        /// The rules by which it came into the chain that it is in.
        var way: [(place: RulePlace, isGoto: Bool)] = []
        /// The rules that it has met in the base chain that it is in.
        var walk: RuleWalk

        mutating func take(_ step: RuleTraceMessage.Step, at place: RulePlace) {
            switch step {
            case .stays: break
            // As deep as chains may be nested (NFT_JUMP_STACK_SIZE).
            case .jumps where way.count < 16: way.append((place, false))
            case .goesTo where way.count < 16: way.append((place, true))
            case .jumps, .goesTo: break
            case .returns:
                while way.popLast()?.isGoto == true {}
            }
        }
    }

    private typealias Drop = RuleDrop

    private struct Flow: Hashable {
        var namespace: Int
        var tuple: PacketTuple
    }

    private struct Walk {
        var packet: Packet
        var time: Int64
        var walk: RuleWalk
    }

    private var traced: [Key: Traced] = [:]
    private var walks: [Flow: [Walk]] = [:]
    /// At least as many as `walks` has.
    private var walkCount = 0
    private var walkNotes: [WalkNote] = []
    /// By serial.
    private var walksByJourney: [UInt64: [RuleWalk]] = [:]
    private var latestWalk = Int64.min / 2
    private var unread: [Int: Set<RulePlace>] = [:]
    /// Places that have been asked for; those of rules in several namespaces count as one.
    private var asked: Set<RulePlace> = []
    /// Whether a packet was traced whose journey may end at `time`.
    package func mayHaveWalks(at time: Int64) -> Bool { time - latestWalk <= Self.longestWait }
    /// Oldest first.
    private var drops: [Flow: [Drop]] = [:]
    private var dropCount = 0
    private var texts: [Int: [RulePlace: RuleText]] = [:]
    /// Messages that were taken, and those that could not be read.
    package private(set) var messages: UInt64 = 0
    package private(set) var malformed: UInt64 = 0

    /// A rule as its tool printed it; without text where it could not be read.
    package struct RuleText: Sendable {
        package var text: String?
        package var position: Int?
        /// `RuleDecision.accepting`.
        package var accepting: [AcceptingRule]
        /// Whether it is the rule of one of our probes.
        package var isProbe: Bool

        package init(text: String?, position: Int? = nil, accepting: [AcceptingRule] = [], isProbe: Bool = false) {
            self.isProbe = isProbe
            self.text = text
            self.position = position
            self.accepting = accepting
        }
    }

    /// A rule of iptables-legacy that a packet met, by its number.
    package struct LegacyTrace: Hashable, Sendable {
        package var place: RulePlace
        /// When it was received, in microseconds since 1970.
        package var time: Int64
    }

    private struct LegacyPacket {
        var packet: Packet
        var trace: LegacyTrace
    }

    /// By namespace, oldest first; and where it has been asked what the rules did.
    private var legacy: [Int: [LegacyPacket]] = [:]
    private var askedLegacy: Set<Int> = []

    private struct InvalidPacket {
        var namespace: Int
        var packet: Packet
        var time: Int64
        var reason: String
    }

    /// Oldest first.
    private var invalid: [InvalidPacket] = []

    /// Whether drops are kept for `takeKnown`.
    package var keepsKnown = false
    private var known: [(namespace: Int, drop: RuleDrop)] = []
    /// Drops whose rule has been asked for.
    private var unnamed: [(namespace: Int, drop: RuleDrop)] = []
    /// The accepting rules of decisions of a recording, which only the first drop of each has.
    private var described: [Described: [AcceptingRule]] = [:]

    private struct Described: Hashable {
        var namespace: Int
        var place: RulePlace
        var text: String?
    }

    private static let mostLegacy = 1 << 12
    private static let mostInvalid = 1 << 10
    private static let mostTraced = 1 << 12
    private static let mostDrops = 1 << 14
    private static let mostTexts = 1 << 12
    private static let mostWalks = 1 << 13
    /// Tables that are there for the trace itself, or as probes.
    private static let ownTables = "ipt-trace-"
    /// Messages of one packet follow one another at once: an id that is older is another packet's.
    private static let longestWalk: Int64 = 200_000
    /// By how much the times of a packet's events and of its trace may differ: the kernel gathers events, and both are read in turns.
    private static let tolerance: Int64 = 150_000
    /// A drop is looked for when its journey is closed.
    private static let longestWait: Int64 = 10_000_000

    package init() {}

    /// Takes one datagram of the group `NFNLGRP_NFTRACE`.
    ///
    /// - Parameter now: when it was received, in microseconds since 1970.
    /// - Returns: rules and policies that dropped a packet and of which nothing has been told yet (`note`).
    package mutating func take(_ bytes: RawSpan, parser: PacketParser, namespace: Int, now: Int64) -> Set<RulePlace> {
        var unknown: Set<RulePlace> = []
        var offset = 0
        while true {
            do {
                guard let message = try NetlinkMessage.next(in: bytes, at: &offset) else { return unknown }
                guard message.type == RuleTraceMessage.type else { continue }
                messages += 1
                let trace = try RuleTraceMessage(parsing: bytes, body: message.body)
                take(trace, bytes, parser, namespace, now, &unknown)
            } catch {
                malformed += 1
                return unknown
            }
        }
    }

    private mutating func take(
        _ trace: RuleTraceMessage, _ bytes: RawSpan, _ parser: PacketParser, _ namespace: Int, _ now: Int64,
        _ unknown: inout Set<RulePlace>
    ) {
        let key = Key(namespace: namespace, id: trace.id)
        if let packet = trace.packet(in: bytes, parser: parser) {
            if traced.count >= Self.mostTraced { traced.removeAll(keepingCapacity: true) }
            endWalk(of: key)
            traced[key] = Traced(
                packet: packet, time: now,
                walk: RuleWalk(
                    namespace: namespace, tableFamily: Self.familyNames[trace.tableFamily] ?? "", table: trace.table,
                    chain: trace.chain, rules: []))
        }
        guard let known = traced[key], now - known.time <= Self.longestWalk, let family = Self.familyNames[trace.tableFamily]
        else { return }
        let place = RulePlace(tableFamily: family, table: trace.table, chain: trace.chain, handle: trace.handle)
        // The end of a base chain's rules is a message like a rule's, but without a rule.
        if let verdict = trace.verdict, trace.kind == .policy || trace.handle != nil,
            !trace.table.hasPrefix(Self.ownTables), known.walk.rules.count < RuleWalk.mostRules
        {
            traced[key]?.walk.rules.append(MetRule(place, verdict))
            if trace.kind == .policy || verdict.endsBaseChain { endWalk(of: key) }
        }
        guard trace.isDrop else {
            if trace.step != .stays { traced[key]?.take(trace.step, at: place) }
            return
        }
        traced[key] = nil
        let decision = RuleDecision(
            trace.kind == .policy ? .policy : .rule, at: place, way: known.way.map { RuleDecision.Jump($0.place) })
        for place in [place] + known.way.map(\.place) where texts[namespace]?[place] == nil { unknown.insert(place) }
        let drop = Drop(packet: known.packet, time: now, decision: decision)
        add(drop, namespace)
        if keepsKnown {
            unnamed.append((namespace, drop))
            if texts[namespace]?[place] != nil { keepNamed(namespace) { $0 == place } }
        }
    }

    // MARK: Walks

    /// What a recording holds of the rules that packets met.
    package enum WalkNote: Sendable {
        /// The rules that a packet met in a base chain, without their texts; its time is that of its trace.
        case walk(RuleWalk, of: Packet, time: Int64)
        /// The text of such a rule was read.
        case rule(namespace: Int, RulePlace, RuleText)
    }

    /// The walks that ended, and the rule texts that were read, since the last call; empty unless `keepsKnown`.
    package mutating func takeWalkNotes() -> [WalkNote] {
        guard !walkNotes.isEmpty else { return [] }
        defer { walkNotes.removeAll(keepingCapacity: true) }
        return walkNotes
    }

    private mutating func endWalk(of key: Key) {
        guard let ended = traced[key], !ended.walk.rules.isEmpty else { return }
        traced[key]?.walk.rules.removeAll()
        if keepsKnown { walkNotes.append(.walk(ended.walk, of: ended.packet, time: ended.time)) }
        take(ended.walk, of: ended.packet, time: ended.time)
    }

    /// Keeps the rules that a packet met in a base chain that it has left.
    package mutating func take(_ walk: RuleWalk, of packet: Packet, time: Int64) {
        if walkCount >= Self.mostWalks { forgetWalks(before: time - Self.longestWait) }
        walkCount += 1
        latestWalk = max(latestWalk, time)
        walks[Flow(namespace: walk.namespace, tuple: packet.tuple), default: []].append(
            Walk(packet: packet, time: time, walk: walk))
    }

    /// Forgets walks of packets whose journeys have ended, or all where there are too many others.
    private mutating func forgetWalks(before time: Int64) {
        walks = walks.compactMapValues { list in
            let kept = list.filter { $0.time >= time }
            return kept.isEmpty ? nil : kept
        }
        walkCount = walks.values.reduce(0) { $0 + $1.count }
        guard walkCount > Self.mostWalks / 2 else { return }
        walks.removeAll(keepingCapacity: true)
        walkCount = 0
    }

    /// The rules that the packet of a journey met. A base chain in which more than one packet may be meant is left out.
    ///
    /// - Returns: none where nothing was traced.
    package mutating func walks(of journey: Journey) -> [RuleWalk] {
        let times = journey.firstSeen - Self.tolerance...journey.lastSeen + Self.tolerance
        var found: [RuleWalk] = []
        var ambiguous: Set<RuleWalk> = []
        for leg in journey.legs {
            for tuple in leg.exit == leg.entry ? [leg.entry] : [leg.entry, leg.exit] {
                let flow = Flow(namespace: leg.namespace, tuple: tuple)
                walks[flow]?.removeAll { $0.time < journey.lastSeen - Self.longestWait }
                for one in walks[flow] ?? [] where times.contains(one.time) && one.packet.looksLike(journey.packet) {
                    if let same = found.first(where: { $0.isOfSameChain(as: one.walk) }) {
                        if same != one.walk { ambiguous.insert(same) }
                    } else {
                        found.append(one.walk)
                    }
                }
            }
        }
        found.removeAll(where: ambiguous.contains)
        return found
    }

    /// Keeps the rules that the packet of an ended journey met, for its reports.
    package mutating func keepWalks(of journey: Journey) {
        let found = walks(of: journey)
        guard !found.isEmpty else { return }
        if walksByJourney.count >= Self.mostWalks { walksByJourney.removeAll(keepingCapacity: true) }
        walksByJourney[journey.serial] = found
        for walk in found {
            for rule in walk.rules where rule.place.handle != nil && texts[walk.namespace]?[rule.place] == nil {
                guard asked.count < Self.mostTexts, asked.insert(rule.place).inserted else { continue }
                unread[walk.namespace, default: []].insert(rule.place)
            }
        }
    }

    /// Rules that packets met and whose texts are to be read (`note`), by namespace, since the last call. Those that dropped packets are
    /// asked for by `take`, before all others.
    package mutating func takeUnread() -> [Int: Set<RulePlace>] {
        guard !unread.isEmpty else { return [:] }
        defer { unread.removeAll() }
        return unread
    }

    /// The rules that packets met, by their journeys' serials, as far as it is kept; with the texts that are known by now.
    package var keptWalks: [UInt64: [RuleWalk]] { walksByJourney.mapValues(named).filter { !$0.value.isEmpty } }

    /// The rules that the packet of one journey met.
    package func keptWalks(of serial: UInt64) -> [RuleWalk] { walksByJourney[serial].map(named) ?? [] }

    /// With the texts that are known by now, and without the probes' own rules.
    package func named(_ walks: [RuleWalk]) -> [RuleWalk] {
        walks.compactMap { walk in
            var walk = walk
            walk.rules = walk.rules.compactMap { rule in
                guard rule.text == nil, rule.place.handle != nil else { return rule }
                guard let text = texts[walk.namespace]?[rule.place] else {
                    // It may be a probe, of which nothing is to be said.
                    return rule.verdict == .goesOn ? nil : rule
                }
                return text.isProbe ? nil : MetRule(rule.place, rule.verdict, text: text.text, position: text.position)
            }
            return walk.rules.isEmpty ? nil : walk
        }
    }

    /// Drops of rules that are named by now, with their namespaces, since the last call.
    package mutating func takeKnown() -> [(namespace: Int, drop: RuleDrop)] {
        defer { known.removeAll() }
        return known
    }

    private mutating func keepNamed(_ namespace: Int, where isNamed: (RulePlace) -> Bool) {
        for (index, drop) in unnamed where index == namespace && isNamed(drop.decision.place) && known.count < Self.mostDrops {
            known.append((namespace, RuleDrop(packet: drop.packet, time: drop.time, decision: named(drop.decision, namespace))))
        }
        unnamed.removeAll { $0.namespace == namespace && isNamed($0.drop.decision.place) }
        if unnamed.count > Self.mostDrops { unnamed.removeAll() }
    }

    private func named(_ decision: RuleDecision, _ namespace: Int, in other: Int? = nil) -> RuleDecision {
        let text = decision.place.backend == .nft ? texts[namespace]?[decision.place] : nil
        return RuleDecision(
            decision.kind, at: decision.place, text: text?.text ?? decision.text, position: text?.position ?? decision.position,
            // A recording has them with the drop, and not with the rule's text.
            namespace: other, accepting: decision.accepting.isEmpty ? text?.accepting ?? [] : decision.accepting,
            way: decision.way.map { jump in
                RuleDecision.Jump(jump.place, text: jump.text ?? texts[namespace]?[jump.place]?.text)
            })
    }

    /// Takes a drop of a recording.
    package mutating func take(_ drop: RuleDrop, namespace: Int) {
        let decision = drop.decision
        let key = Described(namespace: namespace, place: decision.place, text: decision.text)
        if !decision.accepting.isEmpty, described.count < Self.mostTexts { described[key] = decision.accepting }
        let whole = RuleDecision(
            decision.kind, at: decision.place, text: decision.text, position: decision.position,
            accepting: described[key] ?? decision.accepting, way: decision.way)
        add(RuleDrop(packet: drop.packet, time: drop.time, decision: whole), namespace)
    }

    private mutating func add(_ drop: Drop, _ namespace: Int) {
        if dropCount >= Self.mostDrops {
            drops.removeAll(keepingCapacity: true)
            dropCount = 0
        }
        dropCount += 1
        drops[Flow(namespace: namespace, tuple: drop.packet.tuple), default: []].append(drop)
    }

    // MARK: iptables-legacy

    /// Takes one datagram of NFLOG group 0: a trace of iptables-legacy, or why connection tracking calls a packet invalid.
    package mutating func takeLogged(_ bytes: RawSpan, parser: PacketParser, namespace: Int, now: Int64) {
        var offset = 0
        while true {
            do {
                guard let message = try NetlinkMessage.next(in: bytes, at: &offset) else { return }
                guard message.type == NFLogMessage.packetType else { continue }
                let logged = try NFLogMessage(parsing: bytes, body: message.body)
                let prefix = bytes.text(logged.prefix)
                if let reason = Self.invalidity(prefix) {
                    noteInvalid(try parser.parse(bytes, logged.payload), reason, namespace, now)
                    continue
                }
                // Others may write there, too.
                guard let words = PrefixWords(prefix), words.isTrace, let number = words.ruleNumber else {
                    continue
                }
                messages += 1
                let packet = try parser.parse(bytes, logged.payload)
                let place = RulePlace(
                    tableFamily: packet.tuple.destination.family.tableName, table: words.table.name, chain: words.chain,
                    number: number, backend: .legacy)
                if legacy[namespace, default: []].count >= Self.mostLegacy { legacy[namespace] = [] }
                legacy[namespace, default: []].append(
                    LegacyPacket(packet: packet, trace: LegacyTrace(place: place, time: now)))
            } catch {
                malformed += 1
                return
            }
        }
    }

    // MARK: Invalid packets

    /// What connection tracking says of a packet: `nf_ct_proto_6: bad checksum`. Numbers in it, such as those of a window, are another
    /// packet's as soon as it is another's, and are left out.
    private static func invalidity(_ prefix: String) -> String? {
        guard prefix.hasPrefix("nf_ct_"), let colon = prefix.firstRange(of: ": ") else { return nil }
        let words = prefix[colon.upperBound...].split(separator: " ").filter { !$0.allSatisfy { $0.isNumber || $0 == "-" } }
        return words.isEmpty ? nil : words.joined(separator: " ")
    }

    private mutating func noteInvalid(_ packet: Packet, _ reason: String, _ namespace: Int, _ now: Int64) {
        if invalid.count >= Self.mostInvalid { invalid.removeFirst(Self.mostInvalid / 2) }
        invalid.append(InvalidPacket(namespace: namespace, packet: packet, time: now, reason: reason))
    }

    /// Why connection tracking called the packet of a journey invalid, where it was last seen.
    ///
    /// - Returns: `nil` where it did not, or nobody has heard why.
    package func invalidity(of journey: Journey) -> String? {
        guard !invalid.isEmpty, let leg = journey.legs.last else { return nil }
        let times = journey.firstSeen - Self.tolerance...journey.lastSeen + Self.tolerance
        let reasons = invalid.lazy.filter {
            $0.namespace == leg.namespace && ($0.packet.tuple == leg.entry || $0.packet.tuple == leg.exit)
                && times.contains($0.time) && $0.packet.fingerprint == journey.packet.fingerprint
        }.map(\.reason)
        return Set(reasons).count == 1 ? reasons.first : nil
    }

    /// The traces of a namespace whose rules are to be looked up now; `nil` where there are none, or a look-up is under way.
    package mutating func undecidedLegacy(namespace: Int) -> Set<LegacyTrace>? {
        guard let packets = legacy[namespace], !packets.isEmpty, askedLegacy.insert(namespace).inserted else { return nil }
        return Set(packets.map(\.trace))
    }

    /// Nothing is traced there any more.
    package mutating func forgetLegacy(namespace: Int) {
        legacy[namespace] = nil
        askedLegacy.remove(namespace)
    }

    /// Takes what rules did to the packets whose traces were received up to then: those that are not in `found` dropped none, or may
    /// have been others.
    package mutating func note(_ found: [LegacyTrace: RuleDecision], received: Int64, namespace: Int) {
        askedLegacy.remove(namespace)
        let packets = legacy[namespace] ?? []
        legacy[namespace] = packets.filter { $0.trace.time > received }
        for packet in packets where packet.trace.time <= received {
            guard let decision = found[packet.trace] else { continue }
            let drop = Drop(packet: packet.packet, time: packet.trace.time, decision: decision)
            add(drop, namespace)
            if keepsKnown, known.count < Self.mostDrops { known.append((namespace, drop)) }
        }
    }

    /// `NFPROTO_*` of linux/netfilter.h.
    private static let familyNames: [UInt8: String] = [1: "inet", 2: "ip", 5: "netdev", 7: "bridge", 10: "ip6"]

    /// Takes the texts of rules that `take` has asked for. Those that were not found are gone.
    package mutating func note(_ found: [RulePlace: RuleText], of places: Set<RulePlace>, namespace: Int) {
        if texts.values.reduce(0, { $0 + $1.count }) >= Self.mostTexts { texts.removeAll() }
        for place in places {
            let text = found[place] ?? RuleText(text: nil)
            texts[namespace, default: [:]][place] = text
            asked.remove(place)
            if keepsKnown { walkNotes.append(.rule(namespace: namespace, place, text)) }
        }
        if keepsKnown { keepNamed(namespace, where: places.contains) }
    }

    /// What dropped the packet of a journey that ended `dropped`.
    ///
    /// - Parameter next: the namespaces that it was to come to, where it may have been dropped before any probe of theirs.
    /// - Returns: `nil` where no trace tells, or several drops of such a packet at that time were of different rules.
    package mutating func decision(of journey: Journey, next: Set<Int> = []) -> RuleDecision? {
        guard !drops.isEmpty, let leg = journey.legs.last else { return nil }
        let times = journey.firstSeen - Self.tolerance...journey.lastSeen + Self.tolerance
        var found: (decision: RuleDecision, namespace: Int)?
        for namespace in next.union([leg.namespace]) {
            for tuple in leg.exit == leg.entry ? [leg.exit] : [leg.exit, leg.entry] {
                for candidate in candidates(
                    Flow(namespace: namespace, tuple: tuple), since: journey.lastSeen - Self.longestWait)
                where times.contains(candidate.time) && candidate.packet.looksLike(journey.packet) {
                    if let found, found.decision != candidate.decision || found.namespace != namespace { return nil }
                    found = (candidate.decision, namespace)
                }
            }
        }
        guard let (decision, namespace) = found else { return nil }
        return named(decision, namespace, in: namespace == leg.namespace ? nil : namespace)
    }

    /// The drops of a flow; older ones are forgotten.
    private mutating func candidates(_ flow: Flow, since: Int64) -> [Drop] {
        guard var candidates = drops[flow] else { return [] }
        let before = candidates.count
        candidates.removeAll { $0.time < since }
        dropCount -= before - candidates.count
        drops[flow] = candidates.isEmpty ? nil : candidates
        return candidates
    }
}

extension RuleWalk {
    fileprivate func isOfSameChain(as other: RuleWalk) -> Bool {
        namespace == other.namespace && tableFamily == other.tableFamily && table == other.table && chain == other.chain
    }
}

extension Packet {
    /// Whether both have what routing and translation leave alone and a trace shows.
    fileprivate func looksLike(_ other: Packet) -> Bool {
        length == other.length && icmpType == other.icmpType && icmpCode == other.icmpCode && icmpSequence == other.icmpSequence
            && (tuple.transport != TransportProtocol.tcp || tcpFlags == other.tcpFlags)
    }
}
