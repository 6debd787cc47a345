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
            guard attribute.value.count >= 4 else { continue }
            let number = bytes.big32(attribute.value.lowerBound)
            switch attribute.type {
            case 1: hook = number  // NFTA_HOOK_HOOKNUM
            case 2: priority = Int32(bitPattern: number)  // NFTA_HOOK_PRIORITY
            default: break
            }
        }
    }
}
