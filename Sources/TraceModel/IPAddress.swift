/// An IPv4 or IPv6 address by value, 17 bytes, without allocation.
@frozen public struct IPAddress: Sendable, Hashable {
    /// The address's bytes 0–7 as a big-endian number; 0 for IPv4.
    public let high: UInt64
    /// The address's bytes 8–15 as a big-endian number; an IPv4 address in the lower 32 bits.
    public let low: UInt64
    public let family: AddressFamily

    @inlinable init(high: UInt64, low: UInt64, family: AddressFamily) {
        self.high = high
        self.low = low
        self.family = family
    }

    @inlinable public init(ipv4: UInt32) {
        high = 0
        low = UInt64(ipv4)
        family = .ipv4
    }

    @inlinable public init(ipv6High: UInt64, low: UInt64) {
        high = ipv6High
        self.low = low
        family = .ipv6
    }

    /// 127.0.0.0/8 or ::1.
    public var isLoopback: Bool {
        switch family {
        case .ipv4: low >> 24 == 127
        case .ipv6: high == 0 && low == 1
        }
    }

    /// Multicast, or IPv4's limited broadcast: one such packet may reach several receivers.
    @inlinable public var isMulticast: Bool {
        switch family {
        case .ipv4: low >> 28 == 0xE || low == 0xFFFF_FFFF
        case .ipv6: high >> 56 == 0xFF
        }
    }
}

extension IPAddress: Comparable {
    /// By number; IPv4 before IPv6.
    public static func < (one: IPAddress, other: IPAddress) -> Bool {
        (one.family.rawValue, one.high, one.low) < (other.family.rawValue, other.high, other.low)
    }
}

extension IPAddress: CustomStringConvertible {
    /// Dotted decimal, or the canonical IPv6 text of RFC 5952.
    public var description: String {
        switch family {
        case .ipv4:
            return "\(low >> 24 & 255).\(low >> 16 & 255).\(low >> 8 & 255).\(low & 255)"
        case .ipv6:
            if high == 0, low >> 32 == 0xFFFF { return "::ffff:\(IPAddress(ipv4: UInt32(low & 0xFFFF_FFFF)))" }
            let groups = (0..<8).map { index in
                UInt16(truncatingIfNeeded: (index < 4 ? high : low) >> (48 - 16 * UInt64(index % 4)))
            }
            let run = IPAddress.longestZeroRun(in: groups)
            func text(_ part: ArraySlice<UInt16>) -> String {
                part.map { String($0, radix: 16) }.joined(separator: ":")
            }
            guard run.count > 1 else { return text(groups[...]) }
            return text(groups[..<run.lowerBound]) + "::" + text(groups[run.upperBound...])
        }
    }

    private static func longestZeroRun(in groups: [UInt16]) -> Range<Int> {
        var best = 0..<0
        var start = 0
        while start < groups.count {
            var end = start
            while end < groups.count, groups[end] == 0 { end += 1 }
            if end - start > best.count { best = start..<end }
            start = max(end, start + 1)
        }
        return best
    }
}
