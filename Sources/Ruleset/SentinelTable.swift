private import Foundation
internal import LinuxSupport
package import TraceModel

/// Sentinels as nft reads and lists them: one table per family and run, `ipt-trace-<run>`, which goes in and out as one
/// transaction and which no iptables-save shows.
package struct SentinelTable: Sendable {
    private static let namePrefix = "ipt-trace-"

    package var family: AddressFamily
    package var run: String
    package var group: UInt16
    /// As for the probes of iptables.
    package var match: [String]
    /// `match` in nft's syntax, as iptables-translate prints it.
    package var translatedMatch: String
    /// Seconds since 1970; `nil`: never.
    package var expires: Int64?

    package init(
        family: AddressFamily, run: String, group: UInt16, match: [String], translatedMatch: String, expires: Int64?
    ) {
        self.family = family
        self.run = run
        self.group = group
        self.match = match
        self.translatedMatch = translatedMatch
        self.expires = expires
    }

    var name: String { Self.namePrefix + run }

    static func isOurs(_ table: String) -> Bool { table.hasPrefix(namePrefix) }

    func prefix(_ sentinel: Sentinel, _ hook: Hook) -> String {
        "\(ProbePrefix.nflogMark)\(run):\(Table.sentinel.name):\(sentinel.chain(at: hook))"
    }

    var entries: [ProbeJournal.Entry] {
        places.map {
            ProbeJournal.Entry(
                table: Table.sentinel.name, chain: $0.sentinel.chain(at: $0.hook), prefix: prefix($0.sentinel, $0.hook))
        }
    }

    private var places: [(hook: Hook, sentinel: Sentinel)] {
        Hook.allCases.flatMap { hook in Sentinel.all(at: hook).map { (hook, $0) } }
    }

    /// Input for `nft -f`.
    package var text: String {
        var lines = ["table \(family.tableName) \(name) {"]
        let comment = Comment(expires: expires, match: match).text
        for (hook, sentinel) in places {
            lines.append("\tchain \(sentinel.chain(at: hook)) {")
            lines.append(
                "\t\ttype filter hook \(hook.name.lowercased()) priority \(sentinel.registeredPriority(at: hook)); policy accept;"
            )
            var rule = expires.map { "meta time < \($0) " } ?? ""
            if !translatedMatch.isEmpty { rule += translatedMatch + " " }
            rule += "counter log prefix \"\(prefix(sentinel, hook))\" group \(group)"
            if !comment.isEmpty { rule += " comment \"\(comment)\"" }
            lines += ["\t\t\(rule)", "\t}"]
        }
        return (lines + ["}", ""]).joined(separator: "\n")
    }

    // MARK: Applying

    func install(in namespace: NetworkNamespace) async throws {
        try await Tool.require("nft", ["-f", "-"], in: namespace, input: text)
    }

    /// The run that a table of sentinels belongs to; `nil` for any other table.
    static func run(of table: NFTable) -> String? {
        guard AddressFamily(rawValue: table.family) != nil, isOurs(table.name) else { return nil }
        return String(table.name.dropFirst(namePrefix.count))
    }

    /// The tables of sentinels of all runs.
    static func present(in tables: Set<NFTable>) -> [(family: AddressFamily, run: String)] {
        tables.compactMap { table in
            guard let run = run(of: table), let family = AddressFamily(rawValue: table.family) else { return nil }
            return (family, run)
        }.sorted { ($0.1, $0.0.rawValue) < ($1.1, $1.0.rawValue) }
    }

    // MARK: Reading

    /// The sentinels of one table as they are in force.
    ///
    /// - Parameter index: the namespace's index in the layout.
    static func survey(
        _ family: AddressFamily, run: String, in namespace: NetworkNamespace, index: Int
    ) async throws -> [ProbeSurvey.Found] {
        let output = try await Tool.run(
            "nft", ["-j", "list", "table", family.tableName, namePrefix + run], in: namespace)
        // It may have been taken out since the tables were listed.
        guard output.isSuccess else { return [] }
        return try found(json: output.standardOutput, family, namespace: index)
    }

    /// The part that needs no kernel: what `nft -j list table` prints.
    package static func found(json: String, _ family: AddressFamily, namespace: Int) throws -> [ProbeSurvey.Found] {
        let listing = try JSONDecoder().decode(Listing.self, from: Data(json.utf8))
        return listing.nftables.compactMap(\.rule).compactMap { rule in
            guard let place = Sentinel.parse(rule.chain), let log = rule.expr.compactMap(\.log).first,
                let own = ProbePrefix(log.prefix ?? ""), own.table == .sentinel, own.chain == rule.chain
            else { return nil }
            let comment = Comment(rule.comment ?? "")
            var coverage = ProbeSurvey.coverage(of: comment.match)
            if case .every(let condition, _) = coverage { coverage = .every(condition, until: comment.expires) }
            let probe = Probe(
                namespace: namespace, family: family, table: .sentinel, chain: rule.chain, hook: place.hook, backend: .nft,
                prefix: log.prefix ?? "", coverage: coverage)
            return ProbeSurvey.Found(
                probe: probe, target: .nflog, group: log.group ?? 0,
                packets: rule.expr.compactMap(\.counter?.packets).first ?? 0, run: own.run, isAtHead: true)
        }
    }

    /// The rules of `nft -j list table` (libnftables-json(5)), as far as sentinels have them.
    private struct Listing: Decodable {
        struct Item: Decodable { var rule: Rule? }
        struct Rule: Decodable {
            var chain: String
            var comment: String?
            var expr: [Statement]
        }
        struct Statement: Decodable {
            var counter: Counter?
            var log: Log?
        }
        struct Counter: Decodable { var packets: UInt64? }
        struct Log: Decodable {
            var prefix: String?
            var group: UInt16?
        }
        var nftables: [Item]
    }

    /// What nft's own listing would say in other words than iptables: kept in the rule's comment.
    package struct Comment {
        /// `NFTNL_UDATA_COMMENT_MAXLEN` of libnftnl.
        static let limit = 128

        var expires: Int64?
        package var match: [String]

        init(expires: Int64?, match: [String]) {
            self.expires = expires
            self.match = match
        }

        package init(_ text: String) {
            match = []
            for part in text.split(separator: ";") {
                let part = String(part).trimmed
                if part.hasPrefix("until ") { expires = Int64(part.dropFirst(6)) }
                // What cannot be read may match anything.
                if part.hasPrefix("match ") { match = (try? RuleWords.split(part.dropFirst(6))) ?? ["?"] }
            }
        }

        var text: String {
            let parts = [expires.map { "until \($0)" }, match.isEmpty ? nil : "match \(match.joined(separator: " "))"]
            return parts.compactMap(\.self).joined(separator: "; ")
        }
    }

    /// A match of iptables in nft's words (iptables-translate).
    ///
    /// - Throws: `RulesetError.invalidMatch` where nft has no words for it.
    static func translate(_ match: [String], _ family: AddressFamily) async throws -> String {
        guard !match.isEmpty else { return "" }
        let tool = family == .ipv4 ? "iptables-translate" : "ip6tables-translate"
        let output = try await Tool.run(tool, ["-A", "INPUT"] + match)
        let text = output.standardOutput.trimmed
        guard output.isSuccess, let start = text.range(of: " INPUT "),
            let end = text.range(of: " counter", options: .backwards),
            text.hasPrefix("nft 'add rule"), start.upperBound <= end.lowerBound,
            !text.contains(where: { $0.isNewline || ";\"\\".contains($0) }),
            // They stand in the rule's comment as they are.
            !match.contains(where: { $0.contains { $0.isWhitespace || ";\"'\\{}#".contains($0) } }),
            Comment(expires: Int64.max, match: match).text.utf8.count < Comment.limit, !match.contains(where: \.isEmpty)
        else {
            throw RulesetError.invalidMatch(
                RuleWords.join(match), reason: "sentinels cannot have it, since nft has no words for it; leave --sentinels out")
        }
        return String(text[start.upperBound..<end.lowerBound])
    }
}
