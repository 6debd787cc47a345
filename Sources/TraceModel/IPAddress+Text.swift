extension IPAddress {
    /// Reads an address of characters that are anywhere: dotted decimal, or IPv6 with or without `::`.
    ///
    /// - Parameter byte: the character at a position of `range`.
    @inlinable public init?(textIn range: Range<Int>, byte character: (Int) -> UInt8) {
        var groups: (high: UInt64, low: UInt64) = (0, 0)
        var isIPv6 = false
        var number: UInt64 = 0
        var digits = 0
        var count = 0
        var gap: Int?
        var parts: UInt64 = 0
        func store(_ group: UInt64, _ position: Int) {
            if position < 4 { groups.high |= group << UInt64(48 - 16 * position) }
            if position >= 4, position < 8 { groups.low |= group << UInt64(112 - 16 * position) }
        }
        var decimals: UInt64 = 0
        if range.count >= 2, character(range.lowerBound) == UInt8(ascii: ":"),
            character(range.lowerBound + 1) != UInt8(ascii: ":")
        {
            return nil
        }
        for index in range {
            let byte = character(index)
            switch byte {
            case UInt8(ascii: "."):
                guard !isIPv6, digits > 0, decimals <= 255 else { return nil }
                parts = parts << 8 | decimals
                count += 1
                (number, decimals, digits) = (0, 0, 0)
            case UInt8(ascii: ":"):
                isIPv6 = true
                if digits > 0 {
                    guard count < 8 else { return nil }
                    store(number, count)
                    count += 1
                } else if index > range.lowerBound, character(index - 1) == byte {
                    guard gap == nil else { return nil }
                    gap = count
                } else if index > range.lowerBound {
                    return nil
                }
                (number, decimals, digits) = (0, 0, 0)
            default:
                guard let digit = Self.hexadecimalDigit(byte), digits < 4 else { return nil }
                number = number << 4 | UInt64(digit)
                decimals = decimals * 10 + UInt64(digit)
                digits += 1
            }
        }
        if !isIPv6 {
            guard count == 3, digits > 0, decimals <= 255 else { return nil }
            self.init(ipv4: UInt32(truncatingIfNeeded: parts << 8 | decimals))
            return
        }
        if digits > 0 {
            guard count < 8 else { return nil }
            store(number, count)
            count += 1
        }
        guard let gap else {
            guard count == 8 else { return nil }
            self.init(ipv6High: groups.high, low: groups.low)
            return
        }
        guard count < 8 else { return nil }
        // What stands behind the gap moves to the end.
        let all = groups
        groups = (0, 0)
        for position in 0..<count {
            let word = position < 4 ? all.high : all.low
            let group = word >> UInt64(48 - 16 * (position % 4)) & 0xFFFF
            store(group, position < gap ? position : position + 8 - count)
        }
        self.init(ipv6High: groups.high, low: groups.low)
    }

    /// Reads a text that is an address and nothing else.
    public init?(_ text: some StringProtocol) {
        let bytes = Array(text.utf8)
        self.init(textIn: bytes.indices) { bytes[$0] }
    }

    /// 0 to 15; `nil` for anything that is no digit.
    @inlinable @inline(__always)
    public static func hexadecimalDigit(_ byte: UInt8) -> UInt8? {
        switch byte {
        case UInt8(ascii: "0")...UInt8(ascii: "9"): byte - UInt8(ascii: "0")
        case UInt8(ascii: "a")...UInt8(ascii: "f"): byte - UInt8(ascii: "a") + 10
        case UInt8(ascii: "A")...UInt8(ascii: "F"): byte - UInt8(ascii: "A") + 10
        default: nil
        }
    }
}
