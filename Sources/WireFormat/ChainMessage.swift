/// An nf_tables chain as the kernel lists it (`NFT_MSG_NEWCHAIN`, linux/netfilter/nf_tables.h).
public struct ChainMessage: Hashable, Sendable {
    /// `nlmsg_type` of `NFT_MSG_NEWCHAIN` (3) in `NFNL_SUBSYS_NFTABLES` (10).
    public static let newChain: UInt16 = 0x0A03

    /// `NFPROTO_*`.
    public var family: UInt8
    public var table = ""
    public var name = ""
    /// `NF_DROP` (0) or `NF_ACCEPT` (1) of a base chain; `nil` for one without a policy.
    public var policy: UInt32?
    /// `NF_INET_*` of a base chain.
    public var hook: UInt32?
    public var priority: Int32?
    /// The interfaces that a chain of the family `netdev`, or one at `NF_INET_INGRESS`, is for.
    public var devices: [String] = []

    public init(parsing bytes: RawSpan, body: Range<Int>) throws(ParseError) {
        guard body.count >= 4 else { throw .truncated(offset: body.lowerBound, needed: 4, available: body.count) }
        try bytes.check(4, at: body.lowerBound)
        family = bytes.byte(body.lowerBound)
        var offset = body.lowerBound + 4
        while let attribute = try NetlinkAttribute.next(in: bytes, at: &offset, end: body.upperBound) {
            switch attribute.type {
            case 1: table = bytes.text(attribute.value)  // NFTA_CHAIN_TABLE
            case 3: name = bytes.text(attribute.value)  // NFTA_CHAIN_NAME
            case 5 where attribute.value.count >= 4: policy = bytes.big32(attribute.value.lowerBound)  // NFTA_CHAIN_POLICY
            case 4: try parseHook(bytes, attribute.value)  // NFTA_CHAIN_HOOK
            default: break
            }
        }
    }

    private mutating func parseHook(_ bytes: RawSpan, _ value: Range<Int>) throws(ParseError) {
        var offset = value.lowerBound
        while let attribute = try NetlinkAttribute.next(in: bytes, at: &offset, end: value.upperBound) {
            let value = attribute.value
            switch attribute.type {
            case 1 where value.count >= 4: hook = bytes.big32(value.lowerBound)  // NFTA_HOOK_HOOKNUM
            case 2 where value.count >= 4: priority = Int32(bitPattern: bytes.big32(value.lowerBound))  // NFTA_HOOK_PRIORITY
            case 3: devices.append(bytes.text(value))  // NFTA_HOOK_DEV
            case 4: devices += try DeviceList.read(bytes, value)  // NFTA_HOOK_DEVS
            default: break
            }
        }
        // Of one interface the kernel tells both ways.
        devices = devices.reduce(into: []) { if !$0.contains($1) { $0.append($1) } }
    }
}

/// Nested attributes with a name each, as chains and flowtables list their interfaces (`nft_hook_attributes`).
enum DeviceList {
    static func read(_ bytes: RawSpan, _ range: Range<Int>) throws(ParseError) -> [String] {
        var names: [String] = []
        var offset = range.lowerBound
        while let attribute = try NetlinkAttribute.next(in: bytes, at: &offset, end: range.upperBound) {
            // NFTA_DEVICE_NAME
            if attribute.type == 1 { names.append(bytes.text(attribute.value)) }
        }
        return names
    }
}

/// A flowtable as the kernel lists it (`NFT_MSG_NEWFLOWTABLE`, linux/netfilter/nf_tables.h).
public struct FlowtableMessage: Hashable, Sendable {
    /// `nlmsg_type` of `NFT_MSG_NEWFLOWTABLE` (22) in `NFNL_SUBSYS_NFTABLES` (10).
    public static let newFlowtable: UInt16 = 0x0A16

    /// `NFPROTO_*`.
    public var family: UInt8
    public var table = ""
    public var name = ""
    /// The interfaces between which packets of its connections pass no chain.
    public var devices: [String] = []

    public init(parsing bytes: RawSpan, body: Range<Int>) throws(ParseError) {
        guard body.count >= 4 else { throw .truncated(offset: body.lowerBound, needed: 4, available: body.count) }
        try bytes.check(4, at: body.lowerBound)
        family = bytes.byte(body.lowerBound)
        var offset = body.lowerBound + 4
        while let attribute = try NetlinkAttribute.next(in: bytes, at: &offset, end: body.upperBound) {
            switch attribute.type {
            case 1: table = bytes.text(attribute.value)  // NFTA_FLOWTABLE_TABLE
            case 2: name = bytes.text(attribute.value)  // NFTA_FLOWTABLE_NAME
            case 3:  // NFTA_FLOWTABLE_HOOK
                var inner = attribute.value.lowerBound
                while let part = try NetlinkAttribute.next(in: bytes, at: &inner, end: attribute.value.upperBound) {
                    // NFTA_FLOWTABLE_HOOK_DEVS
                    if part.type == 3 { devices += try DeviceList.read(bytes, part.value) }
                }
            default: break
            }
        }
    }
}
