package import TraceModel

/// A rule as its tool printed it; without text where it could not be read.
package struct RuleText: Sendable {
    package var text: String?
    package var position: Int?
    /// `RuleDecision.accepting`.
    package var accepting: [AcceptingRule]
    /// Whether it is the rule of one of our probes.
    package var isProbe: Bool

    package init(text: String?, position: Int? = nil, accepting: [AcceptingRule] = [], isProbe: Bool = false) {
        self.isProbe = isProbe
        self.text = text
        self.position = position
        self.accepting = accepting
    }
}

/// The texts of nf_tables' rules that traces named, as far as they have been read.
struct RuleTextTable {
    private var texts: [Int: [RulePlace: RuleText]] = [:]
    private var wanted: [Int: Set<RulePlace>] = [:]
    /// Places that have been asked for; those of rules in several namespaces count as one.
    private var asked: Set<RulePlace> = []
    private static let most = 1 << 12

    subscript(_ namespace: Int, _ place: RulePlace) -> RuleText? { texts[namespace]?[place] }

    /// Asks for a text that is not known, once.
    mutating func ask(for place: RulePlace, namespace: Int) {
        guard texts[namespace]?[place] == nil, asked.count < Self.most, asked.insert(place).inserted else { return }
        wanted[namespace, default: []].insert(place)
    }

    /// The rules whose texts `ask` has asked for since the last call, by namespace.
    mutating func takeWanted() -> [Int: Set<RulePlace>] {
        guard !wanted.isEmpty else { return [:] }
        defer { wanted.removeAll() }
        return wanted
    }

    mutating func note(_ read: [RulePlace: RuleText], namespace: Int) {
        if texts.values.reduce(0, { $0 + $1.count }) >= Self.most { texts.removeAll() }
        texts[namespace, default: [:]].merge(read) { _, new in new }
        asked.subtract(read.keys)
    }

    /// - Parameter other: where the packet was dropped, if it was last seen elsewhere.
    func named(_ decision: RuleDecision, _ namespace: Int, in other: Int? = nil) -> RuleDecision {
        let text = decision.place.backend == .nft ? self[namespace, decision.place] : nil
        return RuleDecision(
            decision.kind, at: decision.place, text: text?.text ?? decision.text, position: text?.position ?? decision.position,
            // A recording has them with the drop, and not with the rule's text.
            namespace: other, accepting: decision.accepting.isEmpty ? text?.accepting ?? [] : decision.accepting,
            way: decision.way.map { jump in
                RuleDecision.Jump(jump.place, text: jump.text ?? self[namespace, jump.place]?.text)
            }, invalidity: decision.invalidity)
    }

    /// Without the probes' own rules.
    func named(_ walks: [RuleWalk]) -> [RuleWalk] {
        walks.compactMap { walk in
            var walk = walk
            walk.rules = walk.rules.compactMap { rule in
                guard rule.text == nil, rule.place.handle != nil else { return rule }
                guard let text = self[walk.namespace, rule.place] else {
                    // It may be a probe, of which nothing is to be said.
                    return rule.verdict == .goesOn ? nil : rule
                }
                return text.isProbe ? nil : MetRule(rule.place, rule.verdict, text: text.text, position: text.position)
            }
            return walk.rules.isEmpty ? nil : walk
        }
    }
}
