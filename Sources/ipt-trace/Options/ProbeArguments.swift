import ArgumentParser
import Foundation
import LinuxSupport
import Ruleset
import TraceModel

struct NamespaceOption: ParsableArguments {
    @Option(
        name: .customLong("netns"),
        help: ArgumentHelp(
            "A network namespace; may be repeated. host, a name under /run/netns, pid:N, a path, or all.",
            valueName: "namespace"))
    var selectors: [String] = ["all"]

    func resolve() throws -> [NetworkNamespace] {
        try NamespaceDirectory.resolve(selectors.map { try NamespaceSelector($0) })
    }
}

enum FamilyChoice: String, ExpressibleByArgument, CaseIterable {
    case ipv4, ipv6, both

    var families: [AddressFamily] {
        switch self {
        case .ipv4: [.ipv4]
        case .ipv6: [.ipv6]
        case .both: AddressFamily.allCases
        }
    }
}

/// Options for places and matches of probes, shared by `install-probes` and `trace`.
struct ProbeFilterOptions: ParsableArguments {
    @Option(help: "ipv4, ipv6 or both.")
    var family: FamilyChoice = .both

    @Option(name: .customLong("table"), help: "A table; may be repeated. Default: all five.")
    var tables: [String] = []

    @Option(name: .customLong("chain"), help: "A chain; may be repeated. Default: every built-in chain.")
    var chains: [String] = []

    @Option(
        parsing: .unconditionalSingleValue,
        help: ArgumentHelp(
            "Report only packets that this iptables match accepts: '-p tcp --dport 80'. Chains and families that cannot have it "
                + "are left out.", valueName: "match"))
    var match: [String] = []

    @Option(
        help: ArgumentHelp(
            "Report one flow in this many, chosen by its ports in the kernel: a flow is traced whole or not at all.",
            valueName: "n"))
    var sample: UInt32?

    @Flag(help: "Probe user-defined chains too.")
    var userChains = false

    @Flag(
        help: """
            Add sentinels: chains of our own nft table before nat and at each hook's end, which tell the table that \
            loses a packet also where no other table's chain follows.
            """)
    var sentinels = false

    func validate() throws {
        guard match.count <= 1 else {
            throw ValidationError("--match is given \(match.count) times; put all conditions into one, which all have to hold.")
        }
        guard let sample else { return }
        guard FlowSample.range.contains(sample) else { throw ValidationError("--sample takes 2 to 65535.") }
        guard !sentinels else { throw ValidationError("--sentinels cannot be sampled: nft has no words for it.") }
    }

    func probeOptions(target: ProbeRule.Target, group: UInt16, expires: Int64?) throws -> ProbeOptions {
        ProbeOptions(
            families: family.families,
            tables: try tables.map { name in
                guard let table = Table(name: name) else { throw RulesetError.unknownTable(name) }
                return table
            },
            chains: chains, match: try ProbeOptions.parseMatch(match.first ?? ""),
            sample: sample.map { FlowSample(oneIn: $0, salt: UInt32.random(in: 0...UInt32.max)) },
            includesUserChains: userChains,
            includesSentinels: sentinels, target: target,
            group: group, expires: expires)
    }
}

/// A length of time on the command line: `90s`, `10m`, `1h`, `2d`, or `never`.
struct Lifetime: ExpressibleByArgument {
    /// `nil`: never.
    var seconds: Int64?

    init(seconds: Int64?) { self.seconds = seconds }

    init?(argument: String) {
        if argument == "never" {
            seconds = nil
            return
        }
        let units: [Character: Int64] = ["s": 1, "m": 60, "h": 3600, "d": 86400]
        guard let last = argument.last else { return nil }
        let digits = units[last] == nil ? Substring(argument) : argument.dropLast()
        guard let number = Int64(digits), number > 0, number <= 10_000_000 else { return nil }
        seconds = number * (units[last] ?? 1)
    }

    var defaultValueDescription: String {
        guard let seconds else { return "never" }
        let units: [(Int64, String)] = [(86400, "d"), (3600, "h"), (60, "m")]
        let unit = units.first { seconds % $0.0 == 0 } ?? (1, "s")
        return "\(seconds / unit.0)\(unit.1)"
    }

    /// Seconds since 1970 when it ends, counted from now.
    var end: Int64? { seconds.map { Int64(Date().timeIntervalSince1970) + $0 } }
}
