/// An nf_tables rule as the kernel lists it (`NFT_MSG_NEWRULE`, linux/netfilter/nf_tables.h).
public struct RuleMessage: Hashable, Sendable {
    /// `nlmsg_type` of `NFT_MSG_NEWRULE` (6) in `NFNL_SUBSYS_NFTABLES` (10).
    public static let newRule: UInt16 = 0x0A06

    /// A LOG or NFLOG statement, native or as an x_tables target.
    public struct Log: Hashable, Sendable {
        /// At most 127 bytes (`NF_LOG_PREFIXLEN`).
        public var prefix: String
        /// The NFLOG group; `nil` where the statement writes to the kernel log.
        public var group: UInt16?

        public init(prefix: String, group: UInt16?) {
            self.prefix = prefix
            self.group = group
        }
    }

    /// Verdict of an `immediate` statement: `NF_*` or `NFT_*` codes of linux/netfilter/nf_tables.h.
    public struct Verdict: Hashable, Sendable {
        public static let jump: Int32 = -3
        public static let goto: Int32 = -4

        public var code: Int32
        /// The chain of a jump or goto.
        public var chain: String?

        public init(code: Int32, chain: String?) {
            self.code = code
            self.chain = chain
        }
    }

    /// `NFPROTO_*`.
    public var family: UInt8
    public var table = ""
    public var chain = ""
    /// The kernel gives no other rule of the table this number while the table lasts.
    public var handle: UInt64 = 0
    /// The names of its statements and expressions in order, such as `meta`, `cmp`, `counter`, `log`.
    public var expressions: [String] = []
    public var log: Log?
    public var verdict: Verdict?
    /// Packets of its first counter; `nil` where it has none.
    public var packets: UInt64?
    /// `NFTA_RULE_EXPRESSIONS` as the kernel sent them, for rules that only log; else empty.
    public var expressionBytes: [UInt8] = []
    /// FNV-1a hash of its expressions and its comment, counters left out: equal for rules that do the same.
    public var digest: UInt64 = RuleDigest.empty

    /// Whether it reports packets and decides nothing: its last statement logs.
    public var isOnlyLogging: Bool {
        guard log != nil, verdict == nil, let last = expressions.last else { return false }
        return last == "log" || last == "target"
    }

    public init(parsing bytes: RawSpan, body: Range<Int>) throws(ParseError) {
        guard body.count >= 4 else { throw .truncated(offset: body.lowerBound, needed: 4, available: body.count) }
        try bytes.check(4, at: body.lowerBound)
        family = bytes.byte(body.lowerBound)
        var offset = body.lowerBound + 4
        var digest = RuleDigest()
        var list: Range<Int>?
        while let attribute = try NetlinkAttribute.next(in: bytes, at: &offset, end: body.upperBound) {
            switch attribute.type {
            case 1: table = bytes.text(attribute.value)  // NFTA_RULE_TABLE
            case 2: chain = bytes.text(attribute.value)  // NFTA_RULE_CHAIN
            case 3 where attribute.value.count >= 8: handle = bytes.big64(attribute.value.lowerBound)  // NFTA_RULE_HANDLE
            case 4:  // NFTA_RULE_EXPRESSIONS
                list = attribute.value
                try parseExpressions(bytes, attribute.value, &digest)
            case 7: digest.add(bytes, attribute.value)  // NFTA_RULE_USERDATA
            default: break
            }
        }
        self.digest = digest.value
        if let list, isOnlyLogging { expressionBytes = list.map { bytes.byte($0) } }
    }

    private mutating func parseExpressions(
        _ bytes: RawSpan, _ list: Range<Int>, _ digest: inout RuleDigest
    ) throws(ParseError) {
        var offset = list.lowerBound
        // Each is an NFTA_LIST_ELEM with NFTA_EXPR_NAME (1) and NFTA_EXPR_DATA (2).
        while let element = try NetlinkAttribute.next(in: bytes, at: &offset, end: list.upperBound) {
            var name = ""
            var data: Range<Int>?
            var inner = element.value.lowerBound
            while let attribute = try NetlinkAttribute.next(in: bytes, at: &inner, end: element.value.upperBound) {
                switch attribute.type {
                case 1: name = bytes.text(attribute.value)
                case 2: data = attribute.value
                default: break
                }
            }
            expressions.append(name)
            digest.add(name)
            guard let data else { continue }
            switch name {
            case "counter": try parseCounter(bytes, data)
            case "log": try parseLog(bytes, data)
            case "target": try parseTarget(bytes, data)
            case "immediate": try parseImmediate(bytes, data)
            default: break
            }
            try digest.add(expression: name, bytes, data)
        }
    }

    private mutating func parseCounter(_ bytes: RawSpan, _ data: Range<Int>) throws(ParseError) {
        var offset = data.lowerBound
        while let attribute = try NetlinkAttribute.next(in: bytes, at: &offset, end: data.upperBound) {
            // NFTA_COUNTER_PACKETS
            if attribute.type == 2, attribute.value.count >= 8, packets == nil {
                packets = bytes.big64(attribute.value.lowerBound)
            }
        }
    }

    private mutating func parseLog(_ bytes: RawSpan, _ data: Range<Int>) throws(ParseError) {
        guard log == nil else { return }
        var found = Log(prefix: "", group: nil)
        var offset = data.lowerBound
        while let attribute = try NetlinkAttribute.next(in: bytes, at: &offset, end: data.upperBound) {
            switch attribute.type {
            case 1 where attribute.value.count >= 2: found.group = bytes.big16(attribute.value.lowerBound)  // NFTA_LOG_GROUP
            case 2: found.prefix = bytes.text(attribute.value)  // NFTA_LOG_PREFIX
            default: break
            }
        }
        log = found
    }

    /// An x_tables target: `struct xt_log_info` (linux/netfilter/xt_LOG.h) and `struct xt_nflog_info` (xt_NFLOG.h).
    private mutating func parseTarget(_ bytes: RawSpan, _ data: Range<Int>) throws(ParseError) {
        var name = ""
        var info: Range<Int>?
        var offset = data.lowerBound
        while let attribute = try NetlinkAttribute.next(in: bytes, at: &offset, end: data.upperBound) {
            switch attribute.type {
            case 1: name = bytes.text(attribute.value)  // NFTA_TARGET_NAME
            case 3: info = attribute.value  // NFTA_TARGET_INFO
            default: break
            }
        }
        guard log == nil, let info else { return }
        switch name {
        case "LOG" where info.count >= 32:
            log = Log(prefix: bytes.text(info.lowerBound + 2..<info.lowerBound + 32), group: nil)
        case "NFLOG" where info.count >= 76:
            log = Log(
                prefix: bytes.text(info.lowerBound + 12..<info.lowerBound + 76), group: bytes.native16(info.lowerBound + 4))
        default: break
        }
    }

    private mutating func parseImmediate(_ bytes: RawSpan, _ data: Range<Int>) throws(ParseError) {
        var offset = data.lowerBound
        while let attribute = try NetlinkAttribute.next(in: bytes, at: &offset, end: data.upperBound) {
            guard attribute.type == 2 else { continue }  // NFTA_IMMEDIATE_DATA
            var inner = attribute.value.lowerBound
            while let content = try NetlinkAttribute.next(in: bytes, at: &inner, end: attribute.value.upperBound) {
                guard content.type == 2 else { continue }  // NFTA_DATA_VERDICT
                var found = Verdict(code: 0, chain: nil)
                var part = content.value.lowerBound
                while let field = try NetlinkAttribute.next(in: bytes, at: &part, end: content.value.upperBound) {
                    switch field.type {
                    case 1 where field.value.count >= 4:  // NFTA_VERDICT_CODE
                        found.code = Int32(bitPattern: bytes.big32(field.value.lowerBound))
                    case 2: found.chain = bytes.text(field.value)  // NFTA_VERDICT_CHAIN
                    default: break
                    }
                }
                verdict = found
            }
        }
    }
}

/// FNV-1a hash over a rule's expressions, to compare the rules of two listings.
struct RuleDigest {
    static let empty: UInt64 = 0xCBF2_9CE4_8422_2325

    private(set) var value = RuleDigest.empty

    private mutating func add(_ byte: UInt8) { value = (value ^ UInt64(byte)) &* 0x100_0000_01B3 }

    mutating func add(_ text: String) {
        for byte in text.utf8 { add(byte) }
        add(0)
    }

    mutating func add(_ bytes: RawSpan, _ range: Range<Int>) {
        for offset in range { add(bytes.byte(offset)) }
        add(0)
    }

    /// Adds an expression's data without the kernel's counters in it.
    mutating func add(expression name: String, _ bytes: RawSpan, _ data: Range<Int>) throws(ParseError) {
        switch name {
        case "counter", "last": return
        case "quota":
            var offset = data.lowerBound
            while let attribute = try NetlinkAttribute.next(in: bytes, at: &offset, end: data.upperBound) {
                // NFTA_QUOTA_CONSUMED
                if attribute.type != 4 { add(bytes, attribute.value) }
            }
        default: add(bytes, data)
        }
    }
}
