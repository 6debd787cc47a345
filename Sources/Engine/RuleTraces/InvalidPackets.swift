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
        return reason(in: leg.namespace, at: journey.traceTimes) { packet in
            (packet.tuple == leg.entry || packet.tuple == leg.exit) && packet.fingerprint == journey.packet.fingerprint
        }
    }

    /// Why the packet of a trace was invalid, by its headers alone.
    ///
    /// - Returns: `nil` where it was not, nobody has heard why, or there are several reasons for packets that look like it.
    func reason(of drop: RuleDrop, namespace: Int) -> String? {
        guard !entries.isEmpty else { return nil }
        let times = drop.time - Journey.traceTolerance...drop.time + Journey.traceTolerance
        return reason(in: namespace, at: times) { $0.tuple == drop.packet.tuple && $0.looksLike(drop.packet) }
    }

    /// The only reason for the packets that are meant.
    private func reason(in namespace: Int, at times: ClosedRange<Int64>, where isMeant: (Packet) -> Bool) -> String? {
        let meant = entries.filter { $0.namespace == namespace && times.contains($0.time) && isMeant($0.packet) }
        return Set(meant.map(\.reason)).count == 1 ? meant.first?.reason : nil
    }
}
