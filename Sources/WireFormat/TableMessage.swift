/// An nf_tables table as the kernel lists it (`NFT_MSG_NEWTABLE`, linux/netfilter/nf_tables.h).
public struct TableMessage: Hashable, Sendable {
    /// `nlmsg_type` of `NFT_MSG_NEWTABLE` (0) in `NFNL_SUBSYS_NFTABLES` (10).
    public static let newTable: UInt16 = 0x0A00

    /// `NFPROTO_*`.
    public var family: UInt8
    public var name = ""
    /// Unique in its namespace: a table that is deleted and created again gets another one.
    public var handle: UInt64 = 0
    /// `NFT_TABLE_F_*`.
    public var flags: UInt32 = 0

    public init(parsing bytes: RawSpan, body: Range<Int>) throws(ParseError) {
        guard body.count >= 4 else { throw .truncated(offset: body.lowerBound, needed: 4, available: body.count) }
        try bytes.check(4, at: body.lowerBound)
        family = bytes.byte(body.lowerBound)
        var offset = body.lowerBound + 4
        while let attribute = try NetlinkAttribute.next(in: bytes, at: &offset, end: body.upperBound) {
            switch attribute.type {
            case 1: name = bytes.text(attribute.value)  // NFTA_TABLE_NAME
            case 2 where attribute.value.count >= 4: flags = bytes.big32(attribute.value.lowerBound)  // NFTA_TABLE_FLAGS
            case 4 where attribute.value.count >= 8: handle = bytes.big64(attribute.value.lowerBound)  // NFTA_TABLE_HANDLE
            default: break
            }
        }
    }
}

/// The generation of a namespace's nf_tables rules, which every committed transaction raises (`NFT_MSG_NEWGEN`).
public struct GenerationMessage: Hashable, Sendable {
    /// `nlmsg_type` of `NFT_MSG_NEWGEN` (15) in `NFNL_SUBSYS_NFTABLES` (10).
    public static let newGeneration: UInt16 = 0x0A0F

    public var generation: UInt32

    public init(parsing bytes: RawSpan, body: Range<Int>) throws(ParseError) {
        guard body.count >= 4 else { throw .truncated(offset: body.lowerBound, needed: 4, available: body.count) }
        var found: UInt32?
        var offset = body.lowerBound + 4
        while let attribute = try NetlinkAttribute.next(in: bytes, at: &offset, end: body.upperBound) {
            // NFTA_GEN_ID
            if attribute.type == 1, attribute.value.count >= 4 { found = bytes.big32(attribute.value.lowerBound) }
        }
        guard let found else { throw .truncated(offset: body.lowerBound, needed: 12, available: body.count) }
        generation = found
    }
}
