internal import TraceModel
internal import WireFormat

/// The packets that were read last, with their bytes: a packet that is reported by the next chain has the same ones, but for
/// what routers and mangling change and a fingerprint leaves out (RFC 791 and RFC 8200: type of service or traffic class, hops
/// left, IPv4's checksum).
struct RecentPackets: Sendable {
    /// Stands for a packet that is not kept.
    static let none = UInt8.max
    /// As many as may take turns: one for each CPU, or for each direction, that reports at the same time.
    static let capacity = 4

    private struct Entry: Sendable {
        var packet: Packet
        /// Bytes that the parser has seen; 0 for a free place.
        var count = 0
        // The first sixteen, in which what may differ is masked out.
        var first: UInt64 = 0
        var second: UInt64 = 0
    }

    private var entries: [Entry]
    /// What follows those sixteen, `PacketParser.reach` for each entry.
    private var rest: [UInt8]
    private var latest = 0
    private var oldest = 0

    init() {
        entries = [Entry](repeating: Entry(packet: .none), count: Self.capacity)
        rest = [UInt8](repeating: 0, count: Self.capacity * PacketParser.reach)
    }

    @inline(__always)
    func packet(_ number: UInt8) -> Packet { entries[Int(number)].packet }

    /// The packet whose bytes stand in `payload`, and the hops that it has left there.
    @inline(__always)
    mutating func find(_ bytes: RawSpan, _ payload: Range<Int>) -> (number: UInt8, timeToLive: UInt8)? {
        let count = min(payload.count, PacketParser.reach)
        guard count >= 20, bytes.byteCount &- payload.lowerBound >= count else { return nil }
        let (first, second, timeToLive) = Self.head(bytes, payload.lowerBound)
        if isEqual(latest, bytes, payload.lowerBound, count, first, second) { return (UInt8(latest), timeToLive) }
        for index in 0..<Self.capacity
        where index != latest && isEqual(index, bytes, payload.lowerBound, count, first, second) {
            latest = index
            return (UInt8(index), timeToLive)
        }
        return nil
    }

    /// Puts a packet into the place of the oldest one. One that is too short to be recognised is kept until the next comes.
    mutating func insert(_ packet: Packet, _ bytes: RawSpan, _ payload: Range<Int>) -> UInt8 {
        let count = min(payload.count, PacketParser.reach)
        let index = oldest
        oldest = (oldest + 1) % Self.capacity
        latest = index
        entries[index].packet = packet
        entries[index].count = count
        guard count >= 20 else {
            entries[index].count = 0
            return UInt8(index)
        }
        let (first, second, _) = Self.head(bytes, payload.lowerBound)
        entries[index].first = first
        entries[index].second = second
        let place = index * PacketParser.reach
        bytes.copy(payload.lowerBound + 16..<payload.lowerBound + count, to: &rest, at: place)
        return UInt8(index)
    }

    @inline(__always)
    private func isEqual(_ index: Int, _ bytes: RawSpan, _ start: Int, _ count: Int, _ first: UInt64, _ second: UInt64) -> Bool
    {
        guard entries[index].count == count, entries[index].first == first, entries[index].second == second else {
            return false
        }
        let known = rest.octets
        return known.isEqual(at: index &* PacketParser.reach, to: bytes, at: start &+ 16, count: count &- 16)
    }

    /// The first sixteen bytes without what may differ.
    @inline(__always)
    private static func head(_ bytes: RawSpan, _ start: Int) -> (first: UInt64, second: UInt64, timeToLive: UInt8) {
        let first = bytes.little64(start)
        let second = bytes.little64(start &+ 8)
        if first & 0xF0 == 0x60 {
            // Traffic class in bytes 0 and 1, hop limit in byte 7.
            return (first & 0x00FF_FFFF_FFFF_0FF0, second, UInt8(truncatingIfNeeded: first >> 56))
        }
        // Type of service in byte 1; time to live, protocol and checksum from byte 8 on.
        return (first & 0xFFFF_FFFF_FFFF_00FF, second & 0xFFFF_FFFF_0000_FF00, UInt8(truncatingIfNeeded: second))
    }
}
