private import Foundation
package import TraceModel

/// What a rule trace tells of a packet, as recordings hold it: the packet, and JSON.
package struct RecordedTrace: Equatable, Sendable {
    /// When the trace was received, in microseconds since 1970.
    package var time: Int64
    package var tuple: PacketTuple
    package var length: UInt32
    package var icmpType: UInt8
    package var icmpCode: UInt8
    package var tcpFlags: TCPFlags
    package var icmpSequence: UInt16
    package var json: [UInt8]

    package init(
        time: Int64, tuple: PacketTuple, length: UInt32, icmpType: UInt8, icmpCode: UInt8, tcpFlags: TCPFlags,
        icmpSequence: UInt16, json: [UInt8]
    ) {
        self.time = time
        self.tuple = tuple
        self.length = length
        self.icmpType = icmpType
        self.icmpCode = icmpCode
        self.tcpFlags = tcpFlags
        self.icmpSequence = icmpSequence
        self.json = json
    }

    /// - Returns: `nil` for what no JSON can hold.
    private init?(_ packet: Packet, time: Int64, _ content: some Encodable) {
        guard let json = Self.json(content) else { return nil }
        self.init(
            time: time, tuple: packet.tuple, length: packet.length, icmpType: packet.icmpType, icmpCode: packet.icmpCode,
            tcpFlags: packet.tcpFlags, icmpSequence: packet.icmpSequence, json: json)
    }

    fileprivate static func json(_ content: some Encodable) -> [UInt8]? {
        let encoder = JSONEncoder()
        encoder.outputFormatting = .sortedKeys
        return (try? encoder.encode(content)).map { Array($0) }
    }

    package var packet: Packet {
        Packet(
            tuple: tuple, fingerprint: Fingerprint(header: 0, payload: 0), length: length, timeToLive: 0, icmpType: icmpType,
            icmpCode: icmpCode, tcpFlags: tcpFlags, icmpSequence: icmpSequence)
    }
}

// MARK: What dropped a packet

extension RecordedTrace {
    private struct Decision: Codable {
        var kind: RuleDecision.Kind
        var place: RulePlace
        var rule: String?
        var position: Int?
        /// Empty also where an earlier drop of the same rule has them.
        var accepting: [AcceptingRule]
        var way: [RuleDecision.Jump]?
        var invalid: String?
    }

    /// - Parameter isDescribed: whether the accepting rules are in an earlier one.
    /// - Returns: `nil` for what no JSON can hold.
    package init?(_ drop: RuleDrop, isDescribed: Bool) {
        self.init(
            drop.packet, time: drop.time,
            Decision(
                kind: drop.decision.kind, place: drop.decision.place, rule: drop.decision.text,
                position: drop.decision.position, accepting: isDescribed ? [] : drop.decision.accepting, way: drop.decision.way,
                invalid: drop.decision.invalidity)
        )
    }

    /// - Throws: where its JSON is damaged.
    package func drop() throws -> RuleDrop {
        let decision = try JSONDecoder().decode(Decision.self, from: Data(json))
        return RuleDrop(
            packet: packet, time: time,
            decision: RuleDecision(
                decision.kind, at: decision.place, text: decision.rule, position: decision.position,
                accepting: decision.accepting, way: decision.way ?? [], invalidity: decision.invalid))
    }
}

// MARK: The rules that a packet met

extension RecordedTrace {
    private struct Walk: Codable {
        struct Rule: Codable {
            var place: RulePlace
            var verdict: MetRule.Verdict
            /// Of iptables-legacy, whose rules have no lasting numbers; nf_tables' are in a `RecordedRule`.
            var rule: String?
            var position: Int?
        }

        var family: String
        var table: String
        var chain: String
        var rules: [Rule]
    }

    /// - Returns: `nil` for what no JSON can hold.
    package init?(_ walk: RuleWalk, of packet: Packet, time: Int64) {
        self.init(
            packet, time: time,
            Walk(
                family: walk.tableFamily, table: walk.table, chain: walk.chain,
                rules: walk.rules.map { Walk.Rule(place: $0.place, verdict: $0.verdict, rule: $0.text, position: $0.position) })
        )
    }

    /// - Parameter namespace: index in the layout.
    /// - Throws: where its JSON is damaged.
    package func walk(namespace: Int) throws -> RuleWalk {
        let walk = try JSONDecoder().decode(Walk.self, from: Data(json))
        return RuleWalk(
            namespace: namespace, tableFamily: walk.family, table: walk.table, chain: walk.chain,
            rules: walk.rules.prefix(RuleWalk.mostRules).map {
                MetRule($0.place, $0.verdict, text: $0.rule, position: $0.position)
            })
    }
}

/// The text of a rule that packets met, as recordings hold it.
package struct RecordedRule: Codable, Equatable, Sendable {
    package var place: RulePlace
    /// `nil` where it could not be read.
    package var text: String?
    package var position: Int?
    /// Whether it is the rule of one of our probes.
    package var isProbe: Bool

    package init(place: RulePlace, text: String?, position: Int?, isProbe: Bool) {
        self.place = place
        self.text = text
        self.position = position
        self.isProbe = isProbe
    }

    /// `nil` for what no JSON can hold.
    package var json: [UInt8]? { RecordedTrace.json(self) }

    /// - Throws: where its JSON is damaged.
    package init(json: [UInt8]) throws { self = try JSONDecoder().decode(Self.self, from: Data(json)) }
}
