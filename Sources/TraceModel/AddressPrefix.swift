/// A network: all addresses that share the first bits.
public struct AddressPrefix: Sendable, Hashable {
    public var address: IPAddress
    /// In bits: at most 32 of IPv4, 128 of IPv6.
    public var length: Int

    public init(address: IPAddress, length: Int) {
        self.address = address
        self.length = length
    }

    /// Reads what iptables-save prints: `10.0.0.0/8`, `10.0.0.0/255.0.0.0`, `2001:db8::/32`, or one address.
    ///
    /// - Returns: `nil` for anything that is no address with a length, such as a mask with gaps.
    public init?(_ text: some StringProtocol) {
        let parts = text.split(separator: "/", maxSplits: 1, omittingEmptySubsequences: false)
        guard let address = parts.first.flatMap({ IPAddress($0) }) else { return nil }
        let width = address.family == .ipv4 ? 32 : 128
        guard let length = parts.count == 1 ? width : Int(parts[1]) ?? Self.length(ofMask: parts[1], address.family),
            (0...width).contains(length)
        else { return nil }
        self.init(address: address, length: length)
    }

    /// The length of a mask written as an address; `nil` for one with gaps.
    private static func length(ofMask text: some StringProtocol, _ family: AddressFamily) -> Int? {
        guard let mask = IPAddress(text), mask.family == family else { return nil }
        if family == .ipv4 {
            let bits = UInt32(truncatingIfNeeded: mask.low)
            return (~bits).leadingZeroBitCount == bits.nonzeroBitCount ? bits.nonzeroBitCount : nil
        }
        let length = mask.high.nonzeroBitCount + mask.low.nonzeroBitCount
        let ones = mask.high == .max ? 64 + (~mask.low).leadingZeroBitCount : (~mask.high).leadingZeroBitCount
        return ones == length ? length : nil
    }

    public func contains(_ other: AddressPrefix) -> Bool { other.length >= length && contains(other.address) }

    public func contains(_ other: IPAddress) -> Bool {
        guard other.family == address.family else { return false }
        // Of IPv4 the lower 32 bits alone count.
        let skipped = address.family == .ipv4 ? 96 : 0
        func mask(_ bits: Int) -> UInt64 { bits <= 0 ? 0 : bits >= 64 ? .max : ~(.max >> UInt64(bits)) }
        let high = mask(length + skipped)
        let low = mask(length + skipped - 64)
        return (address.high ^ other.high) & high == 0 && (address.low ^ other.low) & low == 0
    }
}

extension AddressPrefix: CustomStringConvertible {
    /// As `ip route` prints it: `10.0.0.0/8`, `default`, and one address without its length.
    public var description: String {
        if length == 0 { return "default" }
        return length == (address.family == .ipv4 ? 32 : 128) ? "\(address)" : "\(address)/\(length)"
    }
}
