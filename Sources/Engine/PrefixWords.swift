package import TraceModel

/// The place that a prefix written by hand names in words: `HOST_FILTER_INPUT`, `NETNS_NAT_PREROUTE`,
/// `fw-drop-INPUT `, or a TRACE rule's `TRACE: raw:PREROUTING:policy:2 `.
package struct PrefixWords: Equatable {
    /// The namespace, in lower case: words before a table and a chain that are both named, `GUEST_RAW_OUTPUT`. `nil` where there
    /// are none: elsewhere a word may be a zone, a protocol, an interface or a rule set.
    package var place: String?
    package var table: Table
    /// As iptables spells it; a user-defined chain only for TRACE.
    package var chain: String
    /// Whether it is TRACE's, which reports every rule that a packet meets.
    package var isTrace: Bool
    /// Of TRACE: the rule's number in its chain, from 1 on; one past the last for the policy.
    package var ruleNumber: Int?

    /// - Returns: `nil` where the words do not name a chain, or name one without a table that could be meant.
    package init?(_ text: String) {
        if text.hasPrefix("TRACE: ") {
            self.init(trace: text.dropFirst("TRACE: ".count))
            return
        }
        var hook: Hook?
        var table: Table?
        var words: [Substring] = []
        for word in text.split(whereSeparator: { !$0.isASCII || !($0.isLetter || $0.isNumber) }) {
            let name = word.uppercased()
            if hook == nil, let known = Self.hooks[name] {
                hook = known
            } else if table == nil, let known = Table(name: name.lowercased()) {
                table = known
            } else if !Self.fillers.contains(name.lowercased()), hook == nil, table == nil {
                words.append(word)
            }
        }
        guard let hook else { return nil }
        // Who names no table means filter, where filter has that chain.
        guard let named = table ?? (Table.filter.hooks.contains(hook) ? .filter : nil), named.hooks.contains(hook) else {
            return nil
        }
        self.init(
            place: words.isEmpty || table == nil ? nil : words.joined(separator: "-").lowercased(), table: named,
            chain: hook.name)
    }

    /// `table:chain:type:number`, where type is `rule`, `return` or `policy` (nf_tables' xt_TRACE and x_tables' `trace_packet`).
    private init?(trace text: Substring) {
        let parts = text.split(separator: ":", omittingEmptySubsequences: false)
        guard parts.count >= 4, let table = Table(name: parts[0]) else { return nil }
        // The name of a chain may hold colons.
        let chain = parts[1..<parts.count - 2].joined(separator: ":")
        guard !chain.isEmpty else { return nil }
        self.init(place: nil, table: table, chain: chain, isTrace: true)
        ruleNumber = Int(parts[parts.count - 1].prefix { $0.isNumber })
    }

    private init(place: String?, table: Table, chain: String, isTrace: Bool = false) {
        self.place = place
        self.table = table
        self.chain = chain
        self.isTrace = isTrace
    }

    private static let hooks: [String: Hook] = [
        "PREROUTING": .prerouting, "PREROUTE": .prerouting, "PRE": .prerouting,
        "INPUT": .input, "IN": .input,
        "FORWARD": .forward, "FORWARDING": .forward, "FWD": .forward,
        "OUTPUT": .output, "OUT": .output,
        "POSTROUTING": .postrouting, "POSTROUTE": .postrouting, "POST": .postrouting,
    ]

    /// Words that say what a rule does rather than where it is.
    private static let fillers: Set<String> = [
        "accept", "accepted", "allow", "allowed", "block", "blocked", "chain", "denied", "deny", "drop", "dropped", "firewall",
        "fw", "invalid", "ip6tables", "iptables", "log", "new", "nflog", "packet", "pkt", "reject", "rejected", "rule",
        "table", "trace",
    ]
}
