/// The checksum of IPv4, ICMP, TCP and UDP (RFC 1071).
package enum InternetChecksum {
    /// - Parameter bytes: with 0 where the checksum is to stand; behind an odd number of them a 0 counts.
    package static func of(_ bytes: [UInt8]) -> UInt16 {
        var sum: UInt32 = 0
        for (index, byte) in bytes.enumerated() { sum += index % 2 == 0 ? UInt32(byte) << 8 : UInt32(byte) }
        while sum > 0xFFFF { sum = sum & 0xFFFF + sum >> 16 }
        return ~UInt16(truncatingIfNeeded: sum)
    }
}
