public import TraceModel

/// A line of a rule trace as text: what `nft monitor trace` prints (`trace_print_rule`, `trace_print_packet` in nftables' src/netlink.c),
/// or `xtables-monitor --trace` (iptables/xtables-monitor.c).
public struct RuleTraceLine: Equatable, Sendable {
    public enum Verdict: String, Sendable {
        case accept, drop, jump, goto, `return`, `continue`, queue, stolen
    }

    public enum Content: Equatable, Sendable {
        /// The packet, as it is at a base chain.
        case packet(TracedPacket)
        /// A rule that matched: its text, and its handle where the line has one.
        case rule(text: String, handle: UInt64?, Verdict)
        case policy(Verdict)
        /// The end of a chain, or a line about it that says no more.
        case end
    }

    public struct TracedPacket: Equatable, Sendable {
        public var packet: Packet
        /// Names; `nil` where the packet has none.
        public var inInterface: String?
        public var outInterface: String?

        public static func == (one: TracedPacket, other: TracedPacket) -> Bool {
            one.packet.tuple == other.packet.tuple && one.packet.length == other.packet.length
                && one.inInterface == other.inInterface && one.outInterface == other.outInterface
        }
    }

    /// The kernel's number of the packet in one namespace.
    public var id: UInt32
    /// `ip`, `ip6`, `inet`, `bridge`, `netdev`.
    public var tableFamily: String
    /// Empty in a `PACKET` line of xtables-monitor, which is followed by the chain's.
    public var table: String
    public var chain: String
    public var content: Content

    /// - Returns: `nil` for a line of neither form.
    public init?(_ line: some StringProtocol) {
        let words = String(line).split(separator: " " as Character).map(String.init)
        if words.count >= 7, words[0] == "trace", words[1] == "id", let id = UInt32(words[2], radix: 16) {
            self.init(id: id, nft: words, line: String(line))
        } else if words.count >= 3, words[0] == "PACKET:" || words[0] == "TRACE:", let id = UInt32(words[2], radix: 16) {
            self.init(id: id, xtables: words, line: String(line))
        } else {
            return nil
        }
    }

    // MARK: nft

    private init?(id: UInt32, nft words: [String], line: String) {
        self.id = id
        (tableFamily, table, chain) = (words[3], words[4], words[5])
        switch words[6] {
        case "packet:":
            guard let packet = Self.packet(Array(words[7...]), id: id) else { return nil }
            content = .packet(packet)
        case "rule":
            guard let begin = line.range(of: " rule ")?.upperBound, let end = line.range(of: " (verdict ", last: true),
                begin <= end.lowerBound,
                let verdict = line[end.upperBound...].split(whereSeparator: { " )".contains($0) }).first
                    .flatMap({ Verdict(rawValue: String($0)) })
            else { return nil }
            content = .rule(text: String(line[begin..<end.lowerBound]), handle: nil, verdict)
        case "policy":
            guard words.count > 7, let verdict = Verdict(rawValue: words[7]) else { return nil }
            content = .policy(verdict)
        case "verdict", "unknown": content = .end
        default: return nil
        }
    }

    /// Fields by header: `ip saddr 10.0.0.1 ip daddr … icmp type echo-request`.
    private static func packet(_ words: [String], id: UInt32) -> TracedPacket? {
        let headers: Set<String> = ["ip", "ip6", "icmp", "icmpv6", "tcp", "udp", "udplite", "sctp", "dccp", "ether", "meta"]
        var fields: [String: String] = [:]
        var transport: String?
        for (index, word) in words.enumerated() {
            if word == "iif" || word == "oif", index + 1 < words.count { fields[word] = words[index + 1] }
            guard headers.contains(word), index + 2 < words.count else { continue }
            let key = "\(word) \(words[index + 1])"
            if fields[key] == nil { fields[key] = words[index + 2] }
            if !["ip", "ip6", "ether", "meta"].contains(word) { transport = transport ?? word }
        }
        let name = transport ?? fields["ip protocol"] ?? fields["ip6 nexthdr"]
        let header = transport ?? ""
        return TracedPacket(
            id: id, source: fields["ip saddr"] ?? fields["ip6 saddr"], destination: fields["ip daddr"] ?? fields["ip6 daddr"],
            transport: name, sourcePort: fields["\(header) sport"], destinationPort: fields["\(header) dport"],
            length: fields["ip length"].flatMap { UInt32($0) } ?? fields["ip6 length"].flatMap { UInt32($0) }.map { $0 + 40 },
            timeToLive: fields["ip ttl"] ?? fields["ip6 hoplimit"], icmpType: fields["icmp type"] ?? fields["icmpv6 type"],
            icmpSequence: fields["icmp sequence"] ?? fields["icmpv6 sequence"], inInterface: fields["iif"],
            outInterface: fields["oif"])
    }

    // MARK: xtables-monitor

    private init?(id: UInt32, xtables words: [String], line: String) {
        self.id = id
        tableFamily = words[1] == "10" ? "ip6" : "ip"
        if words[0] == "PACKET:" {
            (table, chain) = ("", "")
            var fields: [String: String] = [:]
            for word in words[3...] {
                let sides = word.split(separator: "=" as Character, maxSplits: 1, omittingEmptySubsequences: false)
                if sides.count == 2, fields[String(sides[0])] == nil { fields[String(sides[0])] = String(sides[1]) }
            }
            let packet = TracedPacket(
                id: id, source: fields["SRC"], destination: fields["DST"], transport: fields["PROTO"]?.lowercased(),
                sourcePort: fields["SPORT"] ?? fields["SPT"], destinationPort: fields["DPORT"] ?? fields["DPT"],
                length: fields["LEN"].flatMap { UInt32($0) }, timeToLive: fields["TTL"] ?? fields["HOPLIMIT"], icmpType: nil,
                icmpSequence: nil, inInterface: fields["IN"], outInterface: fields["OUT"])
            guard let packet else { return nil }
            content = .packet(packet)
            return
        }
        // `table:chain:rule:0x2:DROP`, `table:chain:policy:ACCEPT`, `table:chain:return:`; a chain's name may hold colons.
        guard words.count > 3 else { return nil }
        let parts = words[3].split(separator: ":" as Character, omittingEmptySubsequences: false).map(String.init)
        guard parts.count >= 3, let kind = parts.lastIndex(where: { ["rule", "policy", "return"].contains($0) }), kind >= 2
        else {
            return nil
        }
        table = parts[0]
        chain = parts[1..<kind].joined(separator: ":")
        switch parts[kind] {
        case "policy":
            guard kind + 1 < parts.count, let verdict = Verdict(rawValue: parts[kind + 1].lowercased()) else { return nil }
            content = .policy(verdict)
        case "rule":
            guard kind + 2 < parts.count, parts[kind + 1].hasPrefix("0x"),
                let verdict = Verdict(rawValue: parts[kind + 2].lowercased())
            else { return nil }
            let text = line.range(of: " -A ").map { "-A " + line[$0.upperBound...] } ?? ""
            content = .rule(
                text: text.trimmingBlanks, handle: UInt64(parts[kind + 1].dropFirst(2), radix: 16), verdict)
        default: content = .end
        }
    }
}

extension RuleTraceLine.TracedPacket {
    /// - Returns: `nil` without two addresses.
    fileprivate init?(
        id: UInt32, source: String?, destination: String?, transport: String?, sourcePort: String?, destinationPort: String?,
        length: UInt32?, timeToLive: String?, icmpType: String?, icmpSequence: String?, inInterface: String?,
        outInterface: String?
    ) {
        guard let source = source.flatMap({ IPAddress($0) }), let destination = destination.flatMap({ IPAddress($0) }),
            source.family == destination.family
        else { return nil }
        let number = transport.flatMap { TransportProtocol.number($0 == "ipv6-icmp" ? "icmpv6" : $0) }
        packet = Packet(
            tuple: PacketTuple(
                source: source, destination: destination, sourcePort: sourcePort.flatMap { UInt16($0) } ?? 0,
                destinationPort: destinationPort.flatMap { UInt16($0) } ?? 0,
                transport: number ?? TransportProtocol.unknown),
            // The kernel's number is the packet's own in its namespace.
            fingerprint: Fingerprint(header: UInt64(id) &* 0x9E37_79B9_7F4A_7C15, payload: UInt64(id)), length: length ?? 0,
            timeToLive: timeToLive.flatMap { UInt8($0) } ?? 0,
            icmpType: icmpType.flatMap { Self.icmpType($0, source.family) } ?? 0,
            icmpSequence: icmpSequence.flatMap { UInt16($0) } ?? 0)
        func name(_ text: String?) -> String? {
            let plain = text?.filter { $0 != "\"" } ?? ""
            return plain.isEmpty ? nil : plain
        }
        self.inInterface = name(inInterface)
        self.outInterface = name(outInterface)
    }

    /// nft's names of types (`icmp_type_tbl`, `icmp6_type_tbl` in its src/proto.c).
    private static func icmpType(_ name: String, _ family: AddressFamily) -> UInt8? {
        if let number = UInt8(name) { return number }
        return (family == .ipv4 ? types4 : types6)[name]
    }

    private static let types4: [String: UInt8] = [
        "echo-reply": 0, "destination-unreachable": 3, "source-quench": 4, "redirect": 5, "echo-request": 8,
        "router-advertisement": 9, "router-solicitation": 10, "time-exceeded": 11, "parameter-problem": 12,
        "timestamp-request": 13, "timestamp-reply": 14,
    ]
    private static let types6: [String: UInt8] = [
        "destination-unreachable": 1, "packet-too-big": 2, "time-exceeded": 3, "parameter-problem": 4, "echo-request": 128,
        "echo-reply": 129, "mld-listener-query": 130, "mld-listener-report": 131, "mld-listener-done": 132,
        "nd-router-solicit": 133, "nd-router-advert": 134, "nd-neighbor-solicit": 135, "nd-neighbor-advert": 136,
        "nd-redirect": 137, "mld2-listener-report": 143,
    ]
}

extension String {
    fileprivate var trimmingBlanks: String {
        var rest = Substring(self)
        while rest.last == " " { rest.removeLast() }
        return String(rest)
    }

    /// Where `text` stands, first or last.
    fileprivate func range(of text: String, last: Bool = false) -> Range<String.Index>? {
        let starts = indices.lazy.filter { self[$0...].hasPrefix(text) }
        guard let start = last ? Array(starts).last : starts.first else { return nil }
        return start..<index(start, offsetBy: text.count)
    }
}
