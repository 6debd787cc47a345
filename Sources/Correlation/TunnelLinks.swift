internal import TraceModel

/// Which packets carry which others: a tunnel puts a packet into a new one, which goes ways of its own.
///
/// The kernel encapsulates in one go: the outer packet's first event follows the inner one's last in the same namespace. What
/// tells that they belong together is the inner packet's headers, which the outer one holds.
struct TunnelLinks {
    /// A packet about to leave through a tunnel.
    private struct Entrance {
        var key: UInt64
        /// `JourneyLeg.firstEvent`.
        var leg: UInt64
        var tuple: PacketTuple
    }

    /// The latest, by key; an older one gives way.
    private var entrances: [Entrance?]
    private var inner: [UInt64: CarriedPacket] = [:]
    private var outer: [UInt64: CarriedPacket] = [:]
    /// Links that are kept; past it new ones are not made.
    private static let capacity = 1 << 16

    init() { entrances = [Entrance?](repeating: nil, count: 1 << 10) }

    private static func key(_ identity: UInt64, _ namespace: UInt16) -> UInt64 {
        (identity ^ UInt64(namespace)) &* 0x9E37_79B9_7F4A_7C15
    }

    private func slot(_ key: UInt64) -> Int { Int(key >> 32) & (entrances.count - 1) }

    mutating func enter(_ identity: UInt64, namespace: UInt16, leg: UInt64, tuple: PacketTuple) {
        let key = Self.key(identity, namespace)
        entrances[slot(key)] = Entrance(key: key, leg: leg, tuple: tuple)
    }

    /// `leg` begins with a packet that holds the one of `identity`.
    mutating func carry(_ identity: UInt64, namespace: UInt16, leg: UInt64, tuple: PacketTuple) {
        let key = Self.key(identity, namespace)
        guard let entrance = entrances[slot(key)], entrance.key == key, inner.count < Self.capacity else { return }
        // Each is carried once.
        entrances[slot(key)] = nil
        inner[leg] = CarriedPacket(leg: entrance.leg, tuple: entrance.tuple)
        outer[entrance.leg] = CarriedPacket(leg: leg, tuple: tuple)
    }

    @inline(__always)
    var isEmpty: Bool { inner.isEmpty && outer.isEmpty }

    func carried(by leg: UInt64) -> CarriedPacket? { inner[leg] }
    func carrier(of leg: UInt64) -> CarriedPacket? { outer[leg] }

    mutating func forget(_ leg: UInt64) {
        inner[leg] = nil
        outer[leg] = nil
    }
}
