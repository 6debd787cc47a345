package import TraceModel

/// The chains of a table as `nft -a list table` prints them, which may be any program's.
package struct NFTListingText {
    package struct Rule {
        /// As printed, without its number; a set that nft prints in several lines is in one.
        package var text: String
        /// Never given to another rule of the table.
        package var handle: UInt64
    }

    /// In the order in which the kernel asks them.
    package private(set) var chains: [String: [Rule]] = [:]

    package init(_ listing: String) {
        var chain: String?
        var unfinished = ""
        for line in listing.split(separator: "\n") {
            let text = line.drop { $0 == " " || $0 == "\t" }
            if let known = chain {
                if text == "}", unfinished.isEmpty {
                    chain = nil
                    continue
                }
                unfinished += (unfinished.isEmpty ? "" : " ") + text
                guard Self.isWhole(unfinished) else { continue }
                if let rule = Rule(unfinished) { chains[known]?.append(rule) }
                unfinished = ""
            } else if text.hasPrefix("chain "), let end = text.firstRange(of: " {") {
                let name = String(text[text.index(text.startIndex, offsetBy: 6)..<end.lowerBound])
                chains[name] = []
                chain = name
            }
        }
    }

    /// The texts by number.
    package var texts: [UInt64: String] {
        Dictionary(chains.values.joined().map { ($0.handle, $0.text) }) { first, _ in first }
    }

    /// Whether all braces outside of quotes are closed.
    private static func isWhole(_ text: String) -> Bool {
        var isQuoted = false
        var depth = 0
        for byte in text.utf8 {
            switch byte {
            case UInt8(ascii: "\""): isQuoted.toggle()
            case UInt8(ascii: "{") where !isQuoted: depth += 1
            case UInt8(ascii: "}") where !isQuoted: depth -= 1
            default: break
            }
        }
        return depth <= 0
    }

    // MARK: Rules that accept

    /// Jumps that are followed one into another, and rules that are looked at.
    private static let deepest = 8
    private static let most = 256

    /// The rules that accept before what drops all the rest: the chain's policy, or its rule without conditions.
    ///
    /// - Parameter handle: the rule's number; `nil` for the policy.
    package func acceptingBeforeTheRest(of chain: String, handle: UInt64?) -> [AcceptingRule] {
        guard let rules = chains[chain] else { return [] }
        guard let handle else { return accepting(in: chain, before: rules.count) }
        guard let index = rules.firstIndex(where: { $0.handle == handle }),
            case let last = NFTRuleText(rules[index].text), last.conditions.isEmpty, last.others.isEmpty
        else { return [] }
        return accepting(in: chain, before: index)
    }

    private func accepting(in chain: String, before end: Int) -> [AcceptingRule] {
        var found: [AcceptingRule] = []
        func look(_ rules: some Sequence<Rule>, _ before: NFTRuleText, _ depth: Int) {
            guard depth <= Self.deepest else { return }
            for rule in rules where found.count < Self.most {
                var read = NFTRuleText(rule.text)
                read.conditions = before.conditions + read.conditions
                read.others = before.others + read.others
                switch read.verdict {
                case .accept:
                    found.append(
                        AcceptingRule(
                            text: rule.text,
                            match: RuleMatch(conditions: read.conditions, isPartial: !read.others.isEmpty), others: read.others)
                    )
                case .leads(let chain): look(chains[chain] ?? [], read, depth + 1)
                case nil: break
                }
            }
        }
        look(chains[chain]?.prefix(end) ?? [], NFTRuleText(""), 0)
        return found
    }
}

extension NFTListingText.Rule {
    /// - Parameter line: `tcp dport 22 drop # handle 7`; sets and other objects of a chain have no number.
    fileprivate init?(_ line: String) {
        guard let mark = line.ranges(of: " # handle ").last, let handle = UInt64(line[mark.upperBound...]) else { return nil }
        self.init(text: String(line[..<mark.lowerBound]), handle: handle)
    }
}
