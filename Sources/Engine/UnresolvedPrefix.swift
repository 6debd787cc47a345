/// Prefixes that no rule explains, with the events that had them.
package struct UnresolvedPrefixes {
    /// Prefixes that are kept apart; events of others are counted together.
    package static let limit = 256

    private var numbers: [String: Int] = [:]
    private var counts: [UInt64] = []

    package init() {}

    /// The number of a prefix, for `count`.
    package mutating func number(of prefix: String) -> Int {
        if let known = numbers[prefix] { return known }
        guard numbers.count < Self.limit else { return numberOfOthers() }
        return add(prefix)
    }

    /// The number of those that are not kept apart.
    package mutating func numberOfOthers() -> Int { numbers[Self.others] ?? add(Self.others) }

    private mutating func add(_ name: String) -> Int {
        numbers[name] = counts.count
        counts.append(0)
        return counts.count - 1
    }

    package mutating func count(_ number: Int) { counts[number] += 1 }

    /// By prefix.
    package var events: [String: UInt64] { numbers.mapValues { counts[$0] } }

    /// Stands for all prefixes past the limit.
    package static let others = "(others)"
}
