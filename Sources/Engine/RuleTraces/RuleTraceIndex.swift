package import TraceModel
package import WireFormat

/// What the kernel's rule traces have told of lately: which rules packets met, and which dropped them, to be found by the packet's journey.
///
/// A trace of nf_tables has the packet's headers and not its payload, so that two packets with the same headers cannot be told apart. Where the
/// traces of such packets at that time disagree, none is taken.
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

    private var traced: [Key: Traced] = [:]
    private var walks = RuleWalkTable()
    private var drops = RuleDropTable()
    private var texts = RuleTextTable()
    private var legacy = LegacyTraces()
    private var invalid = InvalidPackets()
    /// Journeys that ended before it was known which rules of iptables-legacy they met.
    private var ended: [Journey] = []
    private var notes = RuleTraceNotes()
    /// The accepting rules of decisions of a recording, which only the first drop of each has.
    private var described: [Described: [AcceptingRule]] = [:]
    /// Messages that were taken, and those that could not be read.
    package private(set) var messages: UInt64 = 0
    package private(set) var malformed: UInt64 = 0

    private struct Described: Hashable {
        var namespace: Int
        var place: RulePlace
        var text: String?
    }

    private static let mostTraced = 1 << 12
    private static let mostDescribed = 1 << 12
    private static let mostEnded = 1 << 10
    /// Tables that are there for the trace itself, or as probes.
    private static let ownTables = "ipt-trace-"
    /// Messages of one packet follow one another at once: an id that is older is another packet's.
    private static let longestWalk: Int64 = 200_000
    /// `NFPROTO_*` of linux/netfilter.h.
    private static let familyNames: [UInt8: String] = [1: "inet", 2: "ip", 5: "netdev", 7: "bridge", 10: "ip6"]

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
        for place in [place] + known.way.map(\.place) where texts[namespace, place] == nil { unknown.insert(place) }
        let drop = RuleDrop(packet: known.packet, time: now, decision: decision)
        drops.add(drop, namespace)
        notes.addUnnamed(drop, namespace: namespace)
        if texts[namespace, place] != nil { notes.name([place], namespace: namespace, by: texts) }
    }

    private mutating func endWalk(of key: Key) {
        guard let ended = traced[key], !ended.walk.rules.isEmpty else { return }
        traced[key]?.walk.rules.removeAll()
        notes.add(.walk(ended.walk, of: ended.packet, time: ended.time))
        take(ended.walk, of: ended.packet, time: ended.time)
    }

    /// Takes the texts of rules that `take` has asked for. Those that were not found are gone.
    package mutating func note(_ found: [RulePlace: RuleText], of places: Set<RulePlace>, namespace: Int) {
        let read = Dictionary(uniqueKeysWithValues: places.map { ($0, found[$0] ?? RuleText(text: nil)) })
        texts.note(read, namespace: namespace)
        for (place, text) in read { notes.add(.rule(namespace: namespace, place, text)) }
        notes.name(places, namespace: namespace, by: texts)
    }

    // MARK: iptables-legacy, and connection tracking

    /// Takes one datagram of NFLOG group 0: a trace of iptables-legacy, or why connection tracking calls a packet invalid.
    package mutating func takeLogged(_ bytes: RawSpan, parser: PacketParser, namespace: Int, now: Int64) {
        var offset = 0
        while true {
            do {
                guard let message = try NetlinkMessage.next(in: bytes, at: &offset) else { return }
                guard message.type == NFLogMessage.packetType else { continue }
                let logged = try NFLogMessage(parsing: bytes, body: message.body)
                let prefix = bytes.text(logged.prefix)
                if let reason = InvalidPackets.reason(in: prefix) {
                    invalid.add(try parser.parse(bytes, logged.payload), reason, namespace, now)
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
                legacy.add(packet, at: place, namespace: namespace, now: now)
            } catch {
                malformed += 1
                return
            }
        }
    }

    /// The traces of a namespace whose rules are to be looked up now; `nil` where there are none, or a look-up is under way.
    package mutating func takeUndecidedLegacy(namespace: Int) -> Set<LegacyTrace>? {
        legacy.takeUndecided(namespace: namespace)
    }

    /// Nothing is traced there any more.
    package mutating func forgetLegacy(namespace: Int) {
        legacy.forget(namespace: namespace)
        takeEnded()
    }

    /// Looks once more for the rules that journeys met whose traces were still undecided when they ended.
    private mutating func takeEnded() {
        let journeys = ended
        ended.removeAll()
        for journey in journeys { keepWalks(of: journey) }
    }

    /// Takes what rules do to the packets whose traces were received up to then: those that are not in `found` may have been others.
    package mutating func note(_ found: [LegacyTrace: LegacyStep], received: Int64, namespace: Int) {
        for result in legacy.take(found, received: received, namespace: namespace) {
            switch result {
            case .walk(let walk, let packet, let time):
                notes.add(.walk(walk, of: packet, time: time))
                take(walk, of: packet, time: time)
            case .drop(let drop):
                drops.add(drop, namespace)
                notes.add(drop, namespace: namespace)
            }
        }
        takeEnded()
    }

    /// Why connection tracking called the packet of a journey invalid, where it was last seen.
    ///
    /// - Returns: `nil` where it did not, or nobody has heard why.
    package func invalidity(of journey: Journey) -> String? { invalid.reason(of: journey) }

    // MARK: Recordings

    /// Whether `takeKnown` and `takeWalkNotes` are called.
    package var keepsKnown: Bool {
        get { notes.isWanted }
        set { notes.isWanted = newValue }
    }

    /// Drops of rules that are named by now, with their namespaces, since the last call.
    package mutating func takeKnown() -> [(namespace: Int, drop: RuleDrop)] {
        notes.takeDrops().map { namespace, drop in
            guard let reason = invalid.reason(of: drop, namespace: namespace) else { return (namespace, drop) }
            return (namespace, RuleDrop(packet: drop.packet, time: drop.time, decision: drop.decision.of(invalidity: reason)))
        }
    }

    /// The walks that ended, and the rule texts that were read, since the last call.
    package mutating func takeWalkNotes() -> [WalkNote] {
        notes.takeWalks().filter { note in
            guard case .walk(let walk, _, let time) = note else { return true }
            return !walks.mayLackRules(namespace: walk.namespace, time: time)
        }
    }

    /// Takes a drop of a recording.
    package mutating func take(_ drop: RuleDrop, namespace: Int) {
        let decision = drop.decision
        let key = Described(namespace: namespace, place: decision.place, text: decision.text)
        if !decision.accepting.isEmpty, described.count < Self.mostDescribed { described[key] = decision.accepting }
        let whole = RuleDecision(
            decision.kind, at: decision.place, text: decision.text, position: decision.position,
            accepting: described[key] ?? decision.accepting, way: decision.way, invalidity: decision.invalidity)
        drops.add(RuleDrop(packet: drop.packet, time: drop.time, decision: whole), namespace)
    }

    // MARK: Of a journey

    /// What dropped the packet of a journey that ended `dropped`.
    ///
    /// - Parameter next: the namespaces that it was to come to, where it may have been dropped before any probe of theirs.
    /// - Returns: `nil` where no trace tells, or several drops of such a packet at that time were of different rules.
    package mutating func decision(of journey: Journey, next: Set<Int> = []) -> RuleDecision? {
        guard let (decision, namespace) = drops.decision(of: journey, next: next) else { return nil }
        return texts.named(decision, namespace, in: namespace == journey.legs.last?.namespace ? nil : namespace)
    }

    /// Keeps the rules that a packet met in a base chain that it has left.
    package mutating func take(_ walk: RuleWalk, of packet: Packet, time: Int64) { walks.add(walk, of: packet, time: time) }

    /// Messages of rule traces were lost in a namespace, which was noticed at `time`.
    package mutating func noteLoss(namespace: Int, at time: Int64) { walks.noteLoss(namespace: namespace, at: time) }

    /// Whether a packet was traced whose journey may end at `time`.
    package func mayHaveWalks(at time: Int64) -> Bool { walks.mayHaveWalks(at: time) || legacy.isAnyUndecided }

    /// The rules that the packet of a journey met. A base chain in which more than one packet may be meant is left out.
    ///
    /// - Returns: none where nothing was traced.
    package mutating func walks(of journey: Journey) -> [RuleWalk] { walks.walks(of: journey) }

    /// Keeps the rules that the packet of an ended journey met, for its reports, and asks for their texts.
    package mutating func keepWalks(of journey: Journey) {
        if ended.count < Self.mostEnded, legacy.isUndecided(journey) { ended.append(journey) }
        for walk in walks.keep(journey) {
            for rule in walk.rules where rule.place.handle != nil { texts.ask(for: rule.place, namespace: walk.namespace) }
        }
    }

    /// Rules that packets met and whose texts are to be read (`note`), by namespace, since the last call. Those that dropped packets are
    /// asked for by `take`, before all others.
    package mutating func takeUnread() -> [Int: Set<RulePlace>] { texts.takeWanted() }

    /// The rules that packets met, by their journeys' serials, as far as it is kept; with the texts that are known by now.
    package var keptWalks: [UInt64: [RuleWalk]] { walks.kept.mapValues(texts.named).filter { !$0.value.isEmpty } }

    /// The rules that the packet of one journey met.
    package func keptWalks(of serial: UInt64) -> [RuleWalk] { walks.kept[serial].map(texts.named) ?? [] }

    /// With the texts that are known by now, and without the probes' own rules.
    package func named(_ walks: [RuleWalk]) -> [RuleWalk] { texts.named(walks) }
}
