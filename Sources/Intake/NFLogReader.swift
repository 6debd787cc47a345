package import Correlation
internal import TraceModel
package import WireFormat

/// Turns what NFLOG reports of one namespace, from a socket or a file, into events: parses, places, and counts what is
/// missing.
///
/// Needs no kernel: it is fed bytes.
package struct NFLogReader {
    package private(set) var counters = IntakeCounters()
    package private(set) var unplaced = UnplacedPrefixes()

    package let namespace: Int
    private let parser: PacketParser
    private let registry: LayoutRegistry
    private var prefixes = PrefixTable()
    /// `nil` where a file begins somewhere in the middle.
    private var nextSequence: UInt32?
    private var order: UInt32 = 0
    /// One packet of 2 to this power is followed.
    package var thinning = 0

    package init(namespace: Int, parser: PacketParser, registry: LayoutRegistry) {
        self.namespace = namespace
        self.parser = parser
        self.registry = registry
        // A group that has just been bound counts from 0.
        nextSequence = registry.isOffline ? nil : 0
    }

    /// Forgets which prefix belongs to which probe, because the layout has changed.
    package mutating func layoutChanged() { prefixes = PrefixTable() }

    /// Reads one datagram.
    ///
    /// - Parameters:
    ///   - now: microseconds since 1970, for events that the kernel did not stamp.
    ///   - tags: where it is given, gets the segment of each message (`Correlator.ingest`), or `noTag`.
    package mutating func read(
        _ bytes: RawSpan, now: Int64, into correlator: inout Correlator, tags: inout [UInt64]?
    ) {
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
            let tag: UInt64
            do {
                tag = try read(NFLogMessage(parsing: bytes, body: message.body), bytes, now, &correlator) ?? Self.noTag
            } catch {
                counters.malformed += 1
                tag = Self.noTag
            }
            tags?.append(tag)
        }
    }

    /// Events are missing that no sequence number tells of.
    package mutating func noteLoss(_ count: UInt64) { counters.lost &+= count }

    package mutating func read(_ bytes: RawSpan, now: Int64, into correlator: inout Correlator) {
        var tags: [UInt64]?
        read(bytes, now: now, into: &correlator, tags: &tags)
    }

    /// Stands for a message that is part of no journey.
    package static let noTag = UInt64.max

    /// Reads one message as a capture file has it: `struct nfgenmsg` and attributes.
    ///
    /// - Returns: the segment that it is part of (`Correlator.ingest`), or `noTag`.
    /// - Throws: `ParseError` for one that cannot be understood; it is counted already.
    package mutating func read(
        captured bytes: RawSpan, _ range: Range<Int>, now: Int64, into correlator: inout Correlator
    ) throws(ParseError) -> UInt64 {
        do {
            return try read(NFLogMessage(parsing: bytes, body: range), bytes, now, &correlator) ?? Self.noTag
        } catch {
            counters.malformed += 1
            throw error
        }
    }

    @inline(__always)
    private mutating func read(
        _ message: NFLogMessage, _ bytes: RawSpan, _ now: Int64, _ correlator: inout Correlator
    ) throws(ParseError) -> UInt64? {
        if message.hasSequence { followSequence(message.sequence, &correlator) }
        // Whoever did not ask for sequence numbers has the order in which the events came.
        order = message.hasSequence ? message.globalSequence : order &+ 1
        counters.events += 1
        guard let hook = Hook(rawValue: message.hook) else {
            counters.malformed += 1
            return nil
        }
        let probe: UInt32
        if let known = prefixes.number(bytes, message.prefix, family: message.family, hook: message.hook) {
            probe = known
        } else {
            probe = place(message, bytes, hook)
            if probe < Self.firstUnplaced, probe >= correlator.probeCount {
                correlator.update(registry.current.layout, isDiscovery: registry.isOffline)
            }
        }
        guard probe < Self.firstUnplaced else {
            counters.unplaced += 1
            unplaced.count(Int(probe - Self.firstUnplaced))
            return nil
        }
        let packet = try parser.parse(bytes, message.payload)
        if thinning > 0, Self.isLeftOut(packet.fingerprint, thinning) {
            counters.thinned += 1
            return nil
        }
        return correlator.ingest(
            Event(
                packet: packet, time: message.timestamp == 0 ? now : message.timestamp, probe: probe,
                inInterface: message.inInterface, outInterface: message.outInterface, mark: message.mark,
                order: order, hook: hook, isStamped: message.timestamp != 0))
    }

    /// The same for a packet wherever it is seen, since nothing on its way changes its fingerprint.
    private static func isLeftOut(_ fingerprint: Fingerprint, _ thinning: Int) -> Bool {
        ((fingerprint.header ^ fingerprint.payload) &* 0x9E37_79B9_7F4A_7C15) >> UInt64(64 - thinning) != 0
    }

    @inline(__always)
    private mutating func followSequence(_ sequence: UInt32, _ correlator: inout Correlator) {
        if let nextSequence, sequence != nextSequence {
            let gap = sequence &- nextSequence
            // A number that goes back is a new instance of the group, not a gap of four billion.
            if gap < 1 << 31 {
                counters.lost += UInt64(gap)
                correlator.noteLoss(namespace: namespace)
            }
        }
        nextSequence = sequence &+ 1
    }

    /// Numbers from here on stand for prefixes that no probe has.
    private static let firstUnplaced = UInt32.max - UInt32(UnplacedPrefixes.limit) - 1

    /// The slow path, once for each prefix, family and hook.
    private mutating func place(_ message: NFLogMessage, _ bytes: RawSpan, _ hook: Hook) -> UInt32 {
        let text = bytes.text(message.prefix)
        let probe: UInt32
        if let family = AddressFamily(rawValue: message.family),
            let placed = registry.place(prefix: text, namespace: namespace, family: family, hook: hook)
        {
            probe = placed
        } else {
            probe = Self.firstUnplaced + UInt32(unplaced.number(of: text))
        }
        // Bounded: prefixes come from rules, and rules are made by root, but a rule set may be large.
        if prefixes.count < 1 << 16 {
            prefixes.insert(message.prefix.map { bytes.byte($0) }, family: message.family, hook: message.hook, number: probe)
        }
        return probe
    }
}
