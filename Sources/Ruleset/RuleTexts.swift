private import Foundation
public import LinuxSupport
public import TraceModel

/// The text of rules of nf_tables, iptables-nft's and others', as their own tools print them.
public struct RuleTexts: Sendable {
    public struct Text: Sendable, Hashable {
        /// `nil` for a policy.
        public var text: String?
        /// From 1 on, without our probes; `nil` for a policy, and for rules that iptables has no words for.
        public var position: Int?
        /// `RuleDecision.accepting`.
        public var accepting: [AcceptingRule] = []
        /// Whether it is the rule of one of our probes.
        public var isProbe = false
    }

    private let iptables: Iptables

    public init() async { iptables = await Iptables.installed() }

    /// Reads the rules and policies at `places`.
    ///
    /// - Returns: those that are there. A rule's number is never given to another, so that no other rule is taken for it.
    public func read(_ places: Set<RulePlace>, in namespace: NetworkNamespace) async throws -> [RulePlace: Text] {
        var found: [RulePlace: Text] = [:]
        for family in AddressFamily.allCases {
            let wanted = places.filter {
                $0.tableFamily == family.tableName && Table(name: $0.table) != nil
            }
            guard !wanted.isEmpty, let dump = try await iptables.saveNFTables(family, in: namespace)?.dump else { continue }
            for place in wanted { found[place] = Self.text(of: place, in: dump) }
        }
        let others = places.subtracting(found.keys)
        for (table, wanted) in Dictionary(grouping: others, by: { [$0.tableFamily, $0.table] })
        where Self.isPlain(table[1]) {
            guard await Tool.isInstalled("nft") else { break }
            let output = try await Tool.run("nft", ["-a", "list", "table"] + table, in: namespace)
            // A table that is gone has no rules.
            guard output.isSuccess else { continue }
            let listing = NFTListingText(output.standardOutput)
            let texts = listing.texts
            for place in wanted {
                let text = place.handle.flatMap { texts[$0] }
                guard text != nil || place.handle == nil else { continue }
                found[place] = Text(
                    text: text, position: nil,
                    accepting: listing.acceptingBeforeTheRest(of: place.chain, handle: place.handle))
            }
        }
        return found
    }

    /// Whether a table's name is one word to nft, which reads its arguments as commands: others can be given over netlink.
    package static func isPlain(_ name: String) -> Bool {
        name.utf8.first.map { ($0 | 0x20) >= 0x61 && ($0 | 0x20) <= 0x7A || $0 == 0x5F } == true
            && name.utf8.allSatisfy { byte in
                (byte | 0x20) >= 0x61 && (byte | 0x20) <= 0x7A || byte >= 0x30 && byte <= 0x39
                    || [UInt8(ascii: "_"), UInt8(ascii: "-"), UInt8(ascii: "."), UInt8(ascii: "/")].contains(byte)
            }
    }

    static func text(of place: RulePlace, in dump: RuleDump) -> Text? {
        guard let table = dump.tables.first(where: { $0.name == place.table }) else { return nil }
        guard place.handle != nil else {
            return Text(text: nil, position: nil, accepting: table.acceptingBeforeTheRest(of: place.chain, index: nil))
        }
        let own = table.rules.filter { $0.chain == place.chain }
        guard let index = own.firstIndex(where: { $0.handle == place.handle }) else { return nil }
        return Text(
            text: own[index].text, position: own[...index].count { $0.ownPrefix == nil },
            accepting: table.acceptingBeforeTheRest(of: place.chain, index: index), isProbe: own[index].ownPrefix != nil)
    }
}
