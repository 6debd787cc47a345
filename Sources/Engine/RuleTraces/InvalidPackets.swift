import TraceModel

/// Packets that connection tracking called invalid lately, and why.
struct InvalidPackets {
    private struct Entry {
        var namespace: Int
        var packet: Packet
        var time: Int64
        var reason: String
    }

    /// Oldest first.
    private var entries: [Entry] = []
    private static let most = 1 << 10

    /// What connection tracking says of a packet: `nf_ct_proto_6: bad checksum`. Numbers in it, such as those of a window, are another
    /// packet's as soon as it is another's, and are left out.
    static func reason(in prefix: String) -> String? {
        guard prefix.hasPrefix("nf_ct_"), let colon = prefix.firstRange(of: ": ") else { return nil }
        let words = prefix[colon.upperBound...].split(separator: " ").filter { !$0.allSatisfy { $0.isNumber || $0 == "-" } }
        return words.isEmpty ? nil : words.joined(separator: " ")
    }

    mutating func add(_ packet: Packet, _ reason: String, _ namespace: Int, _ now: Int64) {
        if entries.count >= Self.most { entries.removeFirst(Self.most / 2) }
        entries.append(Entry(namespace: namespace, packet: packet, time: now, reason: reason))
    }

    /// Why the packet of a journey was invalid where it was last seen.
    ///
    /// - Returns: `nil` where it was not, or nobody has heard why.
    func reason(of journey: Journey) -> String? {
        guard !entries.isEmpty, let leg = journey.legs.last else { return nil }
        let times = journey.traceTimes
        let reasons = entries.lazy.filter {
            $0.namespace == leg.namespace && ($0.packet.tuple == leg.entry || $0.packet.tuple == leg.exit)
                && times.contains($0.time) && $0.packet.fingerprint == journey.packet.fingerprint
        }.map(\.reason)
        return Set(reasons).count == 1 ? reasons.first : nil
    }

    /// Why the packet of a trace was invalid, by its headers alone.
    ///
    /// - Returns: `nil` where it was not, nobody has heard why, or there are several reasons for packets that look like it.
    func reason(of drop: RuleDrop, namespace: Int) -> String? {
        guard !entries.isEmpty else { return nil }
        let times = drop.time - Journey.traceTolerance...drop.time + Journey.traceTolerance
        let reasons = entries.lazy.filter {
            $0.namespace == namespace && $0.packet.tuple == drop.packet.tuple && times.contains($0.time)
                && $0.packet.looksLike(drop.packet)
        }.map(\.reason)
        return Set(reasons).count == 1 ? reasons.first : nil
    }
}
