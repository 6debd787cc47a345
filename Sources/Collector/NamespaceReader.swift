private import Foundation
package import Correlation
internal import TraceModel
package import WireFormat

/// Turns what one namespace's socket delivers into events: splits, parses, places, and counts what is missing.
///
/// Needs no kernel: it is fed bytes.
package struct NamespaceReader {
    /// What went wrong so far.
    package struct Counters: Equatable {
        package var events: UInt64 = 0
        /// From gaps in the kernel's sequence numbers.
        package var lost: UInt64 = 0
        package var malformed: UInt64 = 0
        package var unplaced: UInt64 = 0
    }

    package private(set) var counters = Counters()
    /// Prefixes that no probe has, with their counts, at most 64.
    package private(set) var unplacedPrefixes: [String: UInt64] = [:]

    private let namespace: Int
    private let parser: PacketParser
    private let registry: LayoutRegistry
    private var prefixes = PrefixTable()
    private var nextSequence: UInt32 = 0

    package init(namespace: Int, parser: PacketParser, registry: LayoutRegistry) {
        self.namespace = namespace
        self.parser = parser
        self.registry = registry
    }

    /// Forgets which prefix belongs to which probe, because the layout has changed.
    mutating func layoutChanged() { prefixes = PrefixTable() }

    /// Reads one datagram.
    ///
    /// - Parameter now: microseconds since 1970, for events that the kernel did not stamp.
    package mutating func read(_ bytes: RawSpan, now: Int64, into correlator: inout Correlator) {
        var offset = 0
        while true {
            let message: NetlinkMessage
            do {
                guard let next = try NetlinkMessage.next(in: bytes, at: &offset) else { return }
                message = next
            } catch {
                // Without a sound length there is no next message to go on with.
                counters.malformed += 1
                return
            }
            guard message.type == NFLogMessage.packetType else { continue }
            do {
                try read(NFLogMessage(parsing: bytes, body: message.body), bytes, now, &correlator)
            } catch {
                counters.malformed += 1
            }
        }
    }

    @inline(__always)
    private mutating func read(
        _ message: NFLogMessage, _ bytes: RawSpan, _ now: Int64, _ correlator: inout Correlator
    ) throws(ParseError) {
        if message.hasSequence { followSequence(message.sequence, &correlator) }
        counters.events += 1
        guard let hook = Hook(rawValue: message.hook) else {
            counters.malformed += 1
            return
        }
        let probe: UInt32
        if let known = prefixes.probe(bytes, message.prefix, family: message.family, hook: message.hook) {
            probe = known
        } else {
            probe = place(message, bytes, hook)
            if probe != PrefixTable.unplaced, probe >= correlator.probeCount { correlator.update(registry.current.layout) }
        }
        guard probe != PrefixTable.unplaced else {
            counters.unplaced += 1
            return
        }
        let packet = try parser.parse(bytes, message.payload)
        correlator.ingest(
            Event(
                packet: packet, time: message.timestamp == 0 ? now : message.timestamp, probe: probe,
                inInterface: message.inInterface, outInterface: message.outInterface, mark: message.mark,
                order: message.globalSequence, hook: hook, isStamped: message.timestamp != 0))
    }

    @inline(__always)
    private mutating func followSequence(_ sequence: UInt32, _ correlator: inout Correlator) {
        if sequence != nextSequence {
            let gap = sequence &- nextSequence
            // A number that goes back is a new instance of the group, not a gap of four billion.
            if gap < 1 << 31 {
                counters.lost += UInt64(gap)
                correlator.noteLoss(namespace: namespace)
            }
        }
        nextSequence = sequence &+ 1
    }

    /// The slow path, once for each prefix, family and hook.
    private mutating func place(_ message: NFLogMessage, _ bytes: RawSpan, _ hook: Hook) -> UInt32 {
        let text = bytes.text(message.prefix)
        var probe = PrefixTable.unplaced
        if let family = AddressFamily(rawValue: message.family),
            let placed = registry.place(prefix: text, namespace: namespace, family: family, hook: hook)
        {
            probe = placed
        } else {
            if unplacedPrefixes.count < 64 { unplacedPrefixes[text, default: 0] += 1 }
        }
        // Bounded: prefixes come from rules, and rules are made by root, but a rule set may be large.
        if prefixes.count < 1 << 16 {
            prefixes.insert(message.prefix.map { bytes.byte($0) }, family: message.family, hook: message.hook, probe: probe)
        }
        return probe
    }
}
