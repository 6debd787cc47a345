private import Foundation
package import TraceModel

/// A packet that a rule trace shows to have been dropped, as recordings hold it.
package struct RecordedDrop: Equatable, Sendable {
    /// When the trace was received, in microseconds since 1970.
    package var time: Int64
    package var tuple: PacketTuple
    package var length: UInt32
    package var icmpType: UInt8
    package var icmpCode: UInt8
    package var tcpFlags: TCPFlags
    package var icmpSequence: UInt16
    /// JSON.
    package var decision: [UInt8]

    private struct Decision: Codable {
        var kind: RuleDecision.Kind
        var place: RulePlace
        var rule: String?
        var position: Int?
        /// Empty also where an earlier drop of the same rule has them.
        var accepting: [AcceptingRule]
        var way: [RuleDecision.Jump]?
    }

    package init(
        time: Int64, tuple: PacketTuple, length: UInt32, icmpType: UInt8, icmpCode: UInt8, tcpFlags: TCPFlags,
        icmpSequence: UInt16, decision: [UInt8]
    ) {
        self.time = time
        self.tuple = tuple
        self.length = length
        self.icmpType = icmpType
        self.icmpCode = icmpCode
        self.tcpFlags = tcpFlags
        self.icmpSequence = icmpSequence
        self.decision = decision
    }

    /// - Parameter isDescribed: whether the accepting rules are in an earlier one.
    /// - Returns: `nil` for what no JSON can hold.
    package init?(_ drop: RuleDrop, isDescribed: Bool) {
        let decision = Decision(
            kind: drop.decision.kind, place: drop.decision.place, rule: drop.decision.text, position: drop.decision.position,
            accepting: isDescribed ? [] : drop.decision.accepting, way: drop.decision.way)
        let encoder = JSONEncoder()
        encoder.outputFormatting = .sortedKeys
        guard let json = try? encoder.encode(decision) else { return nil }
        let packet = drop.packet
        self.init(
            time: drop.time, tuple: packet.tuple, length: packet.length, icmpType: packet.icmpType, icmpCode: packet.icmpCode,
            tcpFlags: packet.tcpFlags, icmpSequence: packet.icmpSequence, decision: Array(json))
    }

    /// - Throws: where its JSON is damaged.
    package func restored() throws -> RuleDrop {
        let decision = try JSONDecoder().decode(Decision.self, from: Data(decision))
        let packet = Packet(
            tuple: tuple, fingerprint: Fingerprint(header: 0, payload: 0), length: length, timeToLive: 0, icmpType: icmpType,
            icmpCode: icmpCode, tcpFlags: tcpFlags, icmpSequence: icmpSequence)
        return RuleDrop(
            packet: packet, time: time,
            decision: RuleDecision(
                decision.kind, at: decision.place, text: decision.rule, position: decision.position,
                accepting: decision.accepting, way: decision.way ?? []))
    }
}
