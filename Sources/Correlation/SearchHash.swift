package import TraceModel

/// The hashes by which legs are found in `LiveStore`.
///
/// Those of one table begin alike for one packet and tell its entries apart by their lower bits, so that all that is known of a
/// packet lies side by side in memory, in whichever namespace it is: by its source for what continues within a namespace, where
/// the destination may be translated, and by its destination for what crosses from one to the next, where it was. Ports are left
/// out for ICMP, whose query id is rewritten with either address.
///
/// The lowest bits tell the search.
package enum SearchHash {
    private static let searchBits: UInt32 = 3
    static let searchMask: UInt32 = 7
    private static let detailMask: UInt32 = 0xFF

    /// Where an event's leg is.
    @inline(__always)
    package static func place(_ namespace: UInt16, _ fingerprint: Fingerprint, _ tuple: PacketTuple) -> UInt32 {
        hash(.place, fingerprint, key(tuple.source, tuple.isICMP ? 0 : tuple.sourcePort), UInt64(namespace))
    }

    /// Hash of a packet whose source may have been translated.
    @inline(__always)
    static func translated(_ namespace: UInt16, _ fingerprint: Fingerprint, _ tuple: PacketTuple) -> UInt32 {
        hash(.translated, fingerprint, destination(tuple), UInt64(namespace))
    }

    /// What arrives, and what leaves.
    @inline(__always)
    package static func crossing(_ search: Search, _ fingerprint: Fingerprint, _ tuple: PacketTuple) -> UInt32 {
        let port = UInt64(tuple.isICMP ? 0 : tuple.sourcePort) << 48
        return hash(search, fingerprint, destination(tuple), spread(tuple.source.low ^ tuple.source.high ^ port))
    }

    @inline(__always)
    private static func destination(_ tuple: PacketTuple) -> UInt64 {
        key(tuple.destination, tuple.isICMP ? 0 : tuple.destinationPort)
    }

    @inline(__always)
    private static func key(_ address: IPAddress, _ port: UInt16) -> UInt64 {
        address.low ^ address.high &* 0x9E37_79B9_7F4A_7C15 ^ UInt64(port) << 40
    }

    /// A few bits of a word, all of which matter.
    @inline(__always)
    private static func spread(_ word: UInt64) -> UInt64 { (word &* 0x9E37_79B9_7F4A_7C15) >> 56 }

    /// - Parameters:
    ///   - key: what all of a packet's entries in a table have.
    ///   - detail: what tells them apart, of which eight bits count. With more, packets that differ in nothing else would take more
    ///     slots in a row; with fewer, more of them would share one.
    @inline(__always)
    private static func hash(_ search: Search, _ fingerprint: Fingerprint, _ key: UInt64, _ detail: UInt64) -> UInt32 {
        // The fingerprint is well mixed already; the rest needs a multiplication.
        let product = (key ^ fingerprint.header).multipliedFullWidth(by: 0xD6E8_FEB8_6659_FD93)
        let mixed = product.high ^ product.low ^ fingerprint.payload
        let detailed = UInt32(truncatingIfNeeded: mixed ^ mixed >> 32) ^ UInt32(truncatingIfNeeded: detail) & detailMask
        return detailed << searchBits | UInt32(search.rawValue)
    }

    /// The hashes that begin as one does.
    @inline(__always)
    static func near(_ hash: UInt32) -> ClosedRange<UInt32> {
        let mask = detailMask << searchBits | searchMask
        return hash & ~mask...hash | mask
    }

    /// Hash shared by a departure and the arrivals that it may have become.
    @inline(__always)
    static func facing(_ hash: UInt32, _ search: Search) -> UInt32 { hash & ~searchMask | UInt32(search.rawValue) }
}

extension Search {
    /// The search that a hash is for.
    @inline(__always)
    init?(_ hash: UInt32) { self.init(rawValue: UInt8(truncatingIfNeeded: hash & SearchHash.searchMask)) }

    /// Whether a hash is for it.
    @inline(__always)
    func isOf(_ hash: UInt32) -> Bool { hash & SearchHash.searchMask == UInt32(rawValue) }
}
