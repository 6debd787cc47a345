/// Change that a notification of nf_tables reports (group `NFNLGRP_NFTABLES`, linux/netfilter/nfnetlink.h).
public struct RulesetNotice: Hashable, Sendable {
    public enum Subject: Sendable {
        case table, chain, rule
    }

    public var subject: Subject
    /// `NFPROTO_*`.
    public var family: UInt8
    public var table = ""
    /// Empty for a table.
    public var chain = ""

    /// - Returns: `nil` for a notification about anything else: sets, objects, generations.
    public init?(parsing bytes: RawSpan, _ message: NetlinkMessage) throws(ParseError) {
        let chainAttribute: UInt16
        switch message.type {
        case 0x0A00, 0x0A02: (subject, chainAttribute) = (.table, .max)  // NFT_MSG_NEWTABLE, NFT_MSG_DELTABLE
        case 0x0A03, 0x0A05: (subject, chainAttribute) = (.chain, 3)  // NFT_MSG_NEWCHAIN, NFT_MSG_DELCHAIN: NFTA_CHAIN_NAME
        case 0x0A06, 0x0A08: (subject, chainAttribute) = (.rule, 2)  // NFT_MSG_NEWRULE, NFT_MSG_DELRULE: NFTA_RULE_CHAIN
        default: return nil
        }
        family = try bytes.netfilterFamily(message.body)
        var offset = message.body.lowerBound + 4
        while let attribute = try NetlinkAttribute.next(in: bytes, at: &offset, end: message.body.upperBound) {
            // NFTA_TABLE_NAME, NFTA_CHAIN_TABLE, NFTA_RULE_TABLE
            if attribute.type == 1 { table = bytes.text(attribute.value) }
            if attribute.type == chainAttribute { chain = bytes.text(attribute.value) }
        }
    }
}

extension RawSpan {
    /// `nfgen_family` of the `struct nfgenmsg` that begins a body (linux/netfilter/nfnetlink.h).
    fileprivate func netfilterFamily(_ body: Range<Int>) throws(ParseError) -> UInt8 {
        guard body.count >= 4 else { throw .truncated(offset: body.lowerBound, needed: 4, available: body.count) }
        try check(4, at: body.lowerBound)
        return byte(body.lowerBound)
    }
}
