private import Foundation
public import TraceModel

/// One probe as a rule: how it is written, and how it is recognised.
public struct ProbeRule: Sendable, Hashable {
    public enum Target: String, Sendable, Hashable, Codable, CaseIterable {
        case nflog, log
    }

    public var table: Table
    public var chain: String
    /// Behind which rule of its chain it stands, counted from 1; 0 for the head.
    public var position: Int
    public var match: [String]
    public var target: Target
    /// The NFLOG group.
    public var group: UInt16
    public var prefix: String
    /// Seconds since 1970 at which the kernel makes the rule inert; `nil`: never.
    public var expires: Int64?

    package init(
        table: Table, chain: String, position: Int = 0, match: [String], target: Target, group: UInt16, prefix: String,
        expires: Int64?
    ) {
        self.position = position
        self.table = table
        self.chain = chain
        self.match = match
        self.target = target
        self.group = group
        self.prefix = prefix
        self.expires = expires
    }

    /// Behind `-A chain` or `-I chain 1`.
    public var words: [String] {
        var words = match
        if let expires { words += ["-m", "time", "--datestop", Self.dateText(expires)] }
        switch target {
        case .nflog: words += ["-j", "NFLOG", "--nflog-prefix", prefix, "--nflog-group", String(group)]
        case .log: words += ["-j", "LOG", "--log-prefix", prefix]
        }
        return words
    }

    /// xt_time takes UTC without a zone: `2026-01-31T12:00:00`.
    public static func dateText(_ seconds: Int64) -> String {
        Date(timeIntervalSince1970: TimeInterval(seconds)).formatted(
            .iso8601.year().month().day().time(includingFractionalSeconds: false))
    }

    /// The inverse of `dateText`.
    public static func seconds(ofDate text: String) -> Int64? {
        (try? Date(text + "Z", strategy: .iso8601)).map { Int64($0.timeIntervalSince1970) }
    }
}

/// Our prefixes.
///
/// NFLOG: `ipt-trace:<run>:<table>:<chain>`, at most 63 characters as the xt target keeps no more: 10 + 13 + 1 + 8 + 1 +
/// 28 at worst.
///
/// Behind a jump to a user-defined chain the chain is followed by the other's name, `FORWARD<DOCKER`, cut to what there is room
/// for.
///
/// LOG: `it:<run>:<namespace>:<table letter>:<chain> `, at most 29 characters (`--log-prefix`): the namespace as its
/// number in the installation's journal, because a line in the kernel log does not say where it comes from, and a blank
/// at the end, because LOG puts none before `IN=`.
public struct ProbePrefix: Sendable, Hashable {
    public static let nflogMark = "ipt-trace:"
    public static let logMark = "it:"

    /// The journal's name of the run.
    public var run: String
    /// In whose rules the probe is: behind the run's name the prefix of a legacy probe has the letter L.
    public var backend: Backend
    public var table: Table
    public var chain: String
    /// The chain that packets come back from.
    public var backFrom: String?
    /// Only in LOG prefixes.
    public var namespace: Int?

    private static let legacyMark = "L"

    private var markedRun: String { backend == .legacy ? run + Self.legacyMark : run }

    public var nflog: String {
        let text = "\(Self.nflogMark)\(markedRun):\(table.name):\(chain)"
        return backFrom.map { String("\(text)<\($0)".prefix(63)) } ?? text
    }

    /// `nil` where it would not fit.
    public var log: String? {
        guard backFrom == nil else { return nil }
        let text = "\(Self.logMark)\(markedRun):\(namespace ?? 0):\(table.name.prefix(1)):\(chain) "
        return text.utf8.count <= 29 ? text : nil
    }

    public init(
        run: String, backend: Backend = .nft, table: Table, chain: String, backFrom: String? = nil, namespace: Int? = nil
    ) {
        self.backFrom = backFrom
        self.run = run
        self.backend = backend
        self.table = table
        self.chain = chain
        self.namespace = namespace
    }

    private init(
        markedRun: some StringProtocol, table: Table, chain: String, backFrom: String? = nil, namespace: Int? = nil
    ) {
        let isLegacy = markedRun.hasSuffix(Self.legacyMark)
        self.init(
            run: String(markedRun.dropLast(isLegacy ? 1 : 0)), backend: isLegacy ? .legacy : .nft, table: table, chain: chain,
            backFrom: backFrom, namespace: namespace)
    }

    /// Reads one of our prefixes back; `nil` for anybody else's.
    public init?(_ text: some StringProtocol) {
        if text.hasPrefix(Self.nflogMark) {
            let parts = text.dropFirst(Self.nflogMark.count).split(separator: ":", maxSplits: 2)
            guard parts.count == 3, let table = Table(probeTable: parts[1]) else { return nil }
            // Names of chains that get a probe have no "<" (ProbeOptions.canBeNamed).
            let names = String(parts[2]).split(separator: "<" as Character, maxSplits: 1).map(String.init)
            self.init(
                markedRun: parts[0], table: table, chain: names.first ?? "", backFrom: names.count > 1 ? names[1] : nil)
        } else if text.hasPrefix(Self.logMark) {
            let parts = text.dropFirst(Self.logMark.count).split(separator: ":", maxSplits: 3)
            guard parts.count == 4, let namespace = Int(parts[1]),
                let table = Table.iptables.first(where: { $0.name.prefix(1) == parts[2] })
            else { return nil }
            let chain = parts[3].drop { $0 == " " }.prefix { $0 != " " }
            self.init(markedRun: parts[0], table: table, chain: String(chain), namespace: namespace)
        } else {
            return nil
        }
    }
}

extension RuleDump.Rule {
    /// The prefix of a LOG or NFLOG rule.
    public var logPrefix: String? {
        switch target {
        case "NFLOG": argument(of: "--nflog-prefix") ?? ""
        case "LOG": argument(of: "--log-prefix") ?? ""
        default: nil
        }
    }

    /// What our prefix says, where the rule is one of our probes.
    public var ownPrefix: ProbePrefix? { logPrefix.flatMap { ProbePrefix($0) } }
}
