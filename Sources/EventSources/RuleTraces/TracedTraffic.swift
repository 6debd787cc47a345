package import TraceModel

/// Packets whose way through the rules the kernel is to tell: an element of a set of `RuleTraceTable`.
package struct TracedTraffic: Hashable, Sendable {
    /// Which of a packet's fields must be those of `tuple`; ports only where the protocol has them.
    package enum Likeness: String, Hashable, Sendable, CaseIterable {
        /// Addresses and destination port: a new attempt of the same connection has another source port.
        case attempt
        /// Destination address and port.
        case destination
        /// Source address and port: what comes back from a destination.
        case answer
    }

    package var likeness: Likeness
    package var tuple: PacketTuple

    package init(likeness: Likeness, tuple: PacketTuple) {
        self.likeness = likeness
        self.tuple = tuple
    }

    package var family: AddressFamily { tuple.destination.family }
    /// Whether a port is part of it: a port of 0 stands for any.
    package var hasPorts: Bool {
        TransportProtocol.withPortOptions.contains(tuple.transport)
            && (likeness == .answer ? tuple.sourcePort : tuple.destinationPort) != 0
    }

    /// The set that it is in; there is a rule for each.
    package var set: TracedSet { TracedSet(likeness: likeness, family: family, hasPorts: hasPorts) }

    /// As nft writes it: `10.0.0.1 . 10.0.0.2 . 6 . 443`.
    package var element: String {
        let transport = "\(tuple.transport)"
        let words: [String] =
            switch likeness {
            case .attempt:
                ["\(tuple.source)", "\(tuple.destination)", transport] + (hasPorts ? ["\(tuple.destinationPort)"] : [])
            case .destination: ["\(tuple.destination)", transport] + (hasPorts ? ["\(tuple.destinationPort)"] : [])
            case .answer: ["\(tuple.source)", transport] + (hasPorts ? ["\(tuple.sourcePort)"] : [])
            }
        return words.joined(separator: " . ")
    }
}

/// An nf_tables set of our table, by the form of its elements.
package struct TracedSet: Hashable, Sendable {
    package var likeness: TracedTraffic.Likeness
    package var family: AddressFamily
    package var hasPorts: Bool

    package var name: String { "\(likeness.rawValue)-\(family.name)\(hasPorts ? "-port" : "")" }

    /// The types of its elements' parts.
    package var type: String {
        let address = family == .ipv4 ? "ipv4_addr" : "ipv6_addr"
        let addresses = likeness == .attempt ? [address, address] : [address]
        return (addresses + ["inet_proto"] + (hasPorts ? ["inet_service"] : [])).joined(separator: " . ")
    }

    /// What of a packet is looked for in it.
    package var key: String {
        let address = family.tableName
        let parts: [String] =
            switch likeness {
            case .attempt: ["\(address) saddr", "\(address) daddr", "meta l4proto"] + (hasPorts ? ["th dport"] : [])
            case .destination: ["\(address) daddr", "meta l4proto"] + (hasPorts ? ["th dport"] : [])
            case .answer: ["\(address) saddr", "meta l4proto"] + (hasPorts ? ["th sport"] : [])
            }
        return parts.joined(separator: " . ")
    }
}
