public import TraceModel

/// The kernel's message about a packet for which `nftrace` is set: `NFT_MSG_TRACE` of group `NFNLGRP_NFTRACE`
/// (net/netfilter/nf_tables_trace.c, linux/netfilter/nf_tables.h).
///
/// One message for each rule that matched, for each policy and for each return from a chain. The packet's headers stand only in the
/// first message of each base chain, which the others follow under the same `id`.
public struct RuleTraceMessage: Sendable, Equatable {
    /// Subsystem `NFNL_SUBSYS_NFTABLES` (10), `NFT_MSG_TRACE` (17).
    public static let type: UInt16 = 0x0A11

    /// `NFT_TRACETYPE_*`.
    public enum Kind: UInt32, Sendable {
        case policy = 1
        case returned = 2
        case rule = 3
    }

    /// `NF_DROP`, both as a verdict and as a policy.
    private static let drop: UInt32 = 0

    /// `NFPROTO_*` of the table.
    public var tableFamily: UInt8
    public var table: String
    public var chain: String
    public var kind: Kind
    /// The rule's number in its table; `nil` where no rule is meant.
    public var handle: UInt64?
    /// The rule's verdict or the policy says that the packet is dropped.
    public var isDrop: Bool
    /// What becomes of the packet's way through the chains.
    public enum Step: Sendable, Equatable {
        case stays
        /// It goes on in another chain, and comes back from there.
        case jumps
        /// It goes on in another chain, and comes back to where this one was entered from.
        case goesTo
        /// It leaves the chain for the one that it was entered from.
        case returns
    }

    public var step: Step
    /// Verdict of the rule or the policy; `nil` for a return from a chain, and for a verdict that is not known.
    public var verdict: MetRule.Verdict?
    /// Tells the packets of one namespace apart that are under way at the same time: a hash of the kernel's address of the packet, so
    /// that others have it later.
    public var id: UInt32
    /// The packet's IP header and the beginning of its payload, as they lie in the message; `nil` where it has none.
    public var headers: (network: Range<Int>, transport: Range<Int>?)?

    public static func == (left: RuleTraceMessage, right: RuleTraceMessage) -> Bool {
        left.tableFamily == right.tableFamily && left.table == right.table && left.chain == right.chain
            && left.kind == right.kind
            && left.handle == right.handle && left.isDrop == right.isDrop && left.step == right.step && left.id == right.id
            && left.headers?.network == right.headers?.network && left.headers?.transport == right.headers?.transport
    }

    /// - Parameter body: behind the netlink header.
    /// - Throws: `ParseError` for a message that lacks its table, chain, kind or id, or is cut.
    public init(parsing bytes: RawSpan, body: Range<Int>) throws(ParseError) {
        // struct nfgenmsg
        try bytes.check(4, at: body.lowerBound)
        tableFamily = bytes.byte(body.lowerBound)
        var table: String?
        var chain: String?
        var kind: Kind?
        var id: UInt32?
        var handle: UInt64?
        var code: UInt32?
        var network: Range<Int>?
        var transport: Range<Int>?
        var offset = body.lowerBound + 4
        while let attribute = try NetlinkAttribute.next(in: bytes, at: &offset, end: body.upperBound) {
            let value = attribute.value
            switch attribute.type {
            case 1: table = bytes.text(Self.unterminated(bytes, value))
            case 2: chain = bytes.text(Self.unterminated(bytes, value))
            case 3:
                try bytes.check(8, at: value.lowerBound)
                handle = bytes.big64(value.lowerBound)
            case 4:
                try bytes.check(4, at: value.lowerBound)
                kind = Kind(rawValue: bytes.big32(value.lowerBound))
            case 5:
                var inner = value.lowerBound
                while let part = try NetlinkAttribute.next(in: bytes, at: &inner, end: value.upperBound) {
                    guard part.type == 1 else { continue }
                    try bytes.check(4, at: part.value.lowerBound)
                    code = bytes.big32(part.value.lowerBound)
                }
            case 6:
                try bytes.check(4, at: value.lowerBound)
                id = bytes.big32(value.lowerBound)
            case 8: network = value
            case 9: transport = value
            case 16:
                try bytes.check(4, at: value.lowerBound)
                code = bytes.big32(value.lowerBound)
            default: break
            }
        }
        guard let table, let chain, let kind, let id else {
            throw .missingField(offset: body.lowerBound, name: "table, chain, type or id")
        }
        self.table = table
        self.chain = chain
        self.kind = kind
        self.handle = kind == .rule ? handle : nil
        self.id = id
        isDrop = kind != .returned && code == Self.drop
        // NFT_JUMP, NFT_GOTO and NFT_RETURN of linux/netfilter/nf_tables.h.
        step =
            switch (kind, code.map { Int32(bitPattern: $0) }) {
            case (.rule, -3): .jumps
            case (.rule, -4): .goesTo
            case (.rule, -5), (.returned, _): .returns
            default: .stays
            }
        verdict = kind == .returned ? nil : code.flatMap { MetRule.Verdict(code: Int32(bitPattern: $0)) }
        headers = network.map { ($0, transport) }
    }

    private static func unterminated(_ bytes: RawSpan, _ value: Range<Int>) -> Range<Int> {
        var end = value.upperBound
        while end > value.lowerBound, bytes.byte(end - 1) == 0 { end -= 1 }
        return value.lowerBound..<end
    }

    /// The packet, as far as its headers are in the message.
    ///
    /// - Parameter bytes: those that the message was parsed from.
    /// - Returns: `nil` where there are none, or they cannot be read.
    public func packet(in bytes: RawSpan, parser: PacketParser) -> Packet? {
        guard let headers else { return nil }
        // The kernel copies 40 bytes at most from the IP header on, and as many as the transport header has from there on; between
        // them may be options, or more headers.
        let first = headers.network
        guard first.count >= 20 else { return nil }
        let version = bytes.byte(first.lowerBound) >> 4
        let length = version == 4 ? Int(bytes.byte(first.lowerBound) & 0x0F) * 4 : 40
        guard length <= first.count else { return nil }
        var joined = first.prefix(length).map { bytes.byte($0) }
        joined += (headers.transport ?? first.upperBound..<first.upperBound).map { bytes.byte($0) }
        return try? parser.parse(joined.octets, 0..<joined.count)
    }
}

extension MetRule.Verdict {
    /// `NF_*` of linux/netfilter.h, whose upper bits are an argument, and `NFT_*` of linux/netfilter/nf_tables.h.
    fileprivate init?(code: Int32) {
        switch code {
        case -1: self = .goesOn
        case -3: self = .jump
        case -4: self = .goto
        case -5: self = .return
        case 0...:
            switch code & 0xFF {
            case 0: self = .drop
            case 1: self = .accept
            case 3: self = .queue
            default: return nil
            }
        default: return nil
        }
    }
}
