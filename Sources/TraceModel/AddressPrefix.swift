/// A network: all addresses that share the first bits.
public struct AddressPrefix: Sendable, Hashable {
    public var address: IPAddress
    /// In bits: at most 32 of IPv4, 128 of IPv6.
    public var length: Int

    public init(address: IPAddress, length: Int) {
        self.address = address
        self.length = length
    }

    /// Reads what iptables-save prints: `10.0.0.0/8`, `2001:db8::/32`, or one address.
    ///
    /// - Returns: `nil` for anything that is no address with a length in bits, such as a mask with gaps.
    public init?(_ text: some StringProtocol) {
        let parts = text.split(separator: "/", maxSplits: 1, omittingEmptySubsequences: false)
        guard let address = parts.first.flatMap({ IPAddress($0) }) else { return nil }
        let width = address.family == .ipv4 ? 32 : 128
        guard let length = parts.count == 1 ? width : Int(parts[1]), (0...width).contains(length) else { return nil }
        self.init(address: address, length: length)
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
