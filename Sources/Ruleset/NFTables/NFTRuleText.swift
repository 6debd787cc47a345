internal import TraceModel

/// What a rule of nf_tables asks of a packet, and what becomes of one that has it, from the rule as nft(8) prints it.
struct NFTRuleText {
    enum Verdict: Equatable {
        case accept
        /// Into another chain, by jump or goto.
        case leads(String)
    }

    /// Those that a packet's addresses, ports, protocol and interfaces decide.
    var conditions: [RuleMatch.Condition] = []
    /// The others, as printed: states, marks, named sets, rates.
    var others: [String] = []
    /// `nil` where the packet goes on, is dropped, or it depends.
    var verdict: Verdict?

    private var words: [String]
    private var index = 0

    init(_ text: String) {
        words = Self.words(text)
        while index < words.count { takeNext() }
        words = []
    }

    /// Words, with what is quoted or in braces as one.
    private static func words(_ text: String) -> [String] {
        var words: [String] = []
        var word = ""
        var isQuoted = false
        var depth = 0
        for character in text.unicodeScalars {
            switch character {
            case "\"": isQuoted.toggle()
            case "{" where !isQuoted: depth += 1
            case "}" where !isQuoted: depth -= 1
            default: break
            }
            if character == " ", !isQuoted, depth <= 0 {
                if !word.isEmpty { words.append(word) }
                word = ""
            } else {
                word.unicodeScalars.append(character)
            }
        }
        if !word.isEmpty { words.append(word) }
        return words
    }

    private func word(_ offset: Int) -> String { index + offset < words.count ? words[index + offset] : "" }

    private mutating func takeNext() {
        switch word(0) {
        case "counter":
            index += word(1) == "packets" ? 5 : word(1) == "name" ? 3 : 1
        case "comment": index += 2
        case "log":
            index += 1
            while Self.logOptions.contains(word(0)) { index += 2 }
        case "accept":
            verdict = .accept
            index = words.count
        case "jump", "goto":
            verdict = .leads(word(1))
            index = words.count
        case let word where Self.endings.contains(word): index = words.count
        default: takeCondition()
        }
    }

    private mutating func takeCondition() {
        let start = index
        guard let (subject, length, transport) = subject() else {
            return takeOther(from: start, transport: Self.protocols[word(0)])
        }
        var value = length
        let isNegated = word(value) == "!="
        if isNegated || word(value) == "==" { value += 1 }
        let values = Self.values(word(value), of: subject)
        // A map, a named set, and several fields at once.
        guard !values.isEmpty, !["vmap", "map", "."].contains(word(value + 1)), !["vmap", "map", "."].contains(word(value))
        else {
            return takeOther(from: start, transport: transport)
        }
        index += value + 1
        let written = words[start..<index].joined(separator: " ")
        if let transport { require(transport, written) }
        conditions.append(
            RuleMatch.Condition(subject: subject, values: values, isNegated: isNegated, written: written))
    }

    /// The packet has to be of a protocol for a condition to hold.
    private mutating func require(_ transport: String, _ written: String) {
        conditions.append(
            RuleMatch.Condition(subject: .transport, values: [transport], isNegated: false, written: written))
    }

    /// A condition that nothing here understands: up to the next one that is known, or the rule's end.
    private mutating func takeOther(from start: Int, transport: String?) {
        index = start + 1
        while index < words.count, !Self.endings.contains(words[index]), !Self.statements.contains(words[index]) {
            // Of several fields at once, `ip saddr . tcp dport`, none stands for itself.
            if words[index - 1] != ".", words[index] != ".", Self.fields.contains(words[index]) { break }
            index += 1
        }
        let text = words[start..<index].joined(separator: " ")
        if let transport { require(transport, text) }
        others.append(text)
    }

    /// What the words from here on are about, how many words name it, and the protocol that it belongs to.
    private func subject() -> (RuleMatch.Subject, length: Int, transport: String?)? {
        let (first, second) = (word(0), word(1))
        switch (first, second) {
        case ("iif", _), ("iifname", _): return (.inInterface, 1, nil)
        case ("oif", _), ("oifname", _): return (.outInterface, 1, nil)
        case ("meta", "iif"), ("meta", "iifname"): return (.inInterface, 2, nil)
        case ("meta", "oif"), ("meta", "oifname"): return (.outInterface, 2, nil)
        case ("meta", "l4proto"), ("ip", "protocol"), ("ip6", "nexthdr"): return (.transport, 2, nil)
        case ("ip", "saddr"), ("ip6", "saddr"): return (.source, 2, nil)
        case ("ip", "daddr"), ("ip6", "daddr"): return (.destination, 2, nil)
        case ("th", "sport"): return (.sourcePort, 2, nil)
        case ("th", "dport"): return (.destinationPort, 2, nil)
        case (_, "sport"): return Self.protocols[first].map { (.sourcePort, 2, $0) }
        case (_, "dport"): return Self.protocols[first].map { (.destinationPort, 2, $0) }
        default: return nil
        }
    }

    /// The values of a condition as iptables writes them; none where they are of another form.
    private static func values(_ text: String, of subject: RuleMatch.Subject) -> [String] {
        guard let first = text.first, first != "@", first != "$" else { return [] }
        let list = text.hasPrefix("{") && text.hasSuffix("}") ? String(text.dropFirst().dropLast()) : text
        return list.split(separator: ",").map { part in
            let value = part.filter { $0 != " " && $0 != "\"" }
            switch subject {
            case .sourcePort, .destinationPort, .anyPort:
                return value.split(separator: "-", omittingEmptySubsequences: false).joined(separator: ":")
            case .inInterface, .outInterface: return value.hasSuffix("*") ? value.dropLast() + "+" : value
            case .transport: return value == "ipv6-icmp" ? "icmpv6" : value
            default: return value
            }
        }
    }

    private static let protocols = [
        "tcp": "tcp", "udp": "udp", "sctp": "sctp", "dccp": "dccp", "udplite": "udplite", "icmp": "icmp", "icmpv6": "icmpv6",
    ]
    private static let fields: Set<String> = [
        "iif", "iifname", "oif", "oifname", "meta", "ip", "ip6", "th", "tcp", "udp", "sctp", "dccp", "udplite", "icmp",
        "icmpv6",
        "ct", "fib", "rt", "socket", "ether", "vlan", "limit",
    ]
    private static let statements: Set<String> = ["counter", "log", "comment", "accept", "jump", "goto"]
    private static let logOptions: Set<String> = ["prefix", "level", "group", "snaplen", "queue-threshold", "flags"]
    /// Statements behind which nothing of a packet that is accepted is left.
    private static let endings: Set<String> = [
        "drop", "reject", "return", "continue", "queue", "dnat", "snat", "masquerade", "redirect",
    ]
}
