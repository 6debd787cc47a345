/// The two families that iptables and ip6tables filter.
///
/// Raw values are the kernel's `NFPROTO_IPV4` and `NFPROTO_IPV6` (`linux/netfilter.h`), which is what
/// `nfgenmsg.nfgen_family` carries.
@frozen public enum AddressFamily: UInt8, Sendable, Hashable, Codable, CaseIterable {
    case ipv4 = 2
    case ipv6 = 10

    /// `ipv4` or `ipv6`, as JSON and the command line spell it.
    public var name: String {
        switch self {
        case .ipv4: "ipv4"
        case .ipv6: "ipv6"
        }
    }

    /// What nft calls the family of a table: `ip` or `ip6`.
    public var tableName: String { self == .ipv4 ? "ip" : "ip6" }

    public init?(name: some StringProtocol) {
        switch name {
        case "ipv4": self = .ipv4
        case "ipv6": self = .ipv6
        default: return nil
        }
    }
}
