internal import TraceModel

/// The conditions of a rule, parsed from its words, for comparing rules with one another.
struct RuleConditions {
    /// The values that decide about a condition within one traversal of a chain.
    enum Dependence: Comparable {
        /// The packet's headers and interfaces, which no target of a chain changes before the traversal ends.
        case packet
        /// Values that targets change: marks, the TTL, the state of the connection.
        case state
        /// Anything else: rates, chance, time, sets, other connections, options that are not known.
        case outside
    }

    struct Condition {
        /// Without aliases: `-d` for `--destination`.
        var option: String
        var arguments: [String]
        var isNegated: Bool
        var dependence: Dependence
        /// The words that make the condition up, its negation included.
        var words: Range<Int>
    }

    private(set) var conditions: [Condition] = []
    private let words: [String]

    /// The strongest dependence of its conditions.
    private(set) var dependence = Dependence.packet

    /// - Parameter match: the words before the target.
    init(_ match: [String]) {
        words = match
        var module = ""
        var negation: Int?
        var index = 0
        while index < match.count {
            let start = negation ?? index
            if match[index] == "!" {
                negation = index
                index += 1
                continue
            }
            var isNegated = negation != nil
            negation = nil
            let option = Self.aliases[match[index]] ?? match[index]
            let known = Self.options[option]
            index += 1
            // Old versions print the negation behind the option.
            if index < match.count, match[index] == "!", known != nil {
                isNegated = true
                index += 1
            }
            var arguments: [String] = []
            while index < match.count, known.map({ arguments.count < $0.arguments }) ?? !Self.isOption(match[index]) {
                arguments.append(match[index])
                index += 1
            }
            var dependence = known?.dependence ?? .outside
            if let known, arguments.count < known.arguments { dependence = .outside }
            switch option {
            case "--comment": continue
            case "-m":
                module = arguments.first ?? ""
                if Self.modulesThatAskNothing.contains(module) { continue }
                dependence = Self.headerModules.contains(module) ? .packet : .outside
            case "-p":
                arguments = arguments.map(Self.transport)
                if arguments == ["all"], !isNegated { continue }
            case "--mark" where module != "mark": dependence = .outside
            case "--ctstate":
                // Another processor may translate the connection meanwhile.
                if arguments.contains(where: { $0.contains("NAT") }) { dependence = .outside }
            default: break
            }
            conditions.append(
                Condition(
                    option: option, arguments: arguments, isNegated: isNegated, dependence: dependence, words: start..<index))
        }
        dependence = negation == nil ? conditions.map(\.dependence).max() ?? .packet : .outside
    }

    /// Whether every packet that meets `other` meets these as well. `false` where that is not certain.
    func includes(_ other: RuleConditions) -> Bool {
        guard dependence < .outside else { return false }
        return conditions.allSatisfy { mine in other.conditions.contains(where: mine.includes) }
    }

    /// The words without conditions on the interface that a chain refuses: OUTPUT and POSTROUTING have no input interface,
    /// PREROUTING and INPUT no output interface.
    func words(for chain: String) -> [String] {
        let refused =
            switch chain {
            case "OUTPUT", "POSTROUTING": "-i"
            case "PREROUTING", "INPUT": "-o"
            default: ""
            }
        let left = Set(conditions.filter { $0.option == refused }.flatMap(\.words))
        return words.indices.filter { !left.contains($0) }.map { words[$0] }
    }

    /// Whether the rule loads a match module (`-m`).
    func usesModule(_ name: String) -> Bool { conditions.contains { $0.option == "-m" && $0.arguments == [name] } }

    /// The words of a rule of OUTPUT with these conditions; `nil` where iptables takes an option of them only once.
    ///
    /// Without an address of its own it leaves loopback addresses alone: from there no other machine's answer comes back.
    func wordsOfLocalRule(_ family: AddressFamily) -> [String]? {
        let once = conditions.map(\.option).filter { ["-p", "-s", "-d", "-i", "-o"].contains($0) }
        guard Set(once).count == once.count else { return nil }
        let loopback = family == .ipv4 ? "127.0.0.0/8" : "::1/128"
        let hasAddress = conditions.contains { $0.option == "-d" || $0.option == "--dst-range" }
        return (hasAddress ? [] : ["!", "-d", loopback]) + words(for: "OUTPUT")
    }

    /// The part that a packet's addresses, ports, protocol and interfaces decide.
    ///
    /// - Parameter chain: the chain whose packets it is compared with; conditions that the chain refuses are left out.
    func match(for chain: String? = nil) -> RuleMatch {
        var match = RuleMatch(conditions: [], isPartial: false)
        for condition in conditions {
            if condition.option == "-i", chain == "OUTPUT" { continue }
            if condition.option == "-m", condition.dependence == .packet { continue }
            guard let subject = Self.subjects[condition.option], condition.arguments.count == 1 else {
                match.isPartial = true
                continue
            }
            match.conditions.append(
                RuleMatch.Condition(
                    subject: subject, values: condition.arguments[0].split(separator: ",").map(String.init),
                    isNegated: condition.isNegated))
        }
        return match
    }

    /// The conditions that `match` leaves out.
    var others: [String] {
        conditions.filter { condition in
            if condition.option == "-m", condition.dependence == .packet { return false }
            return Self.subjects[condition.option] == nil || condition.arguments.count != 1
        }.map { self.words[$0.words].joined(separator: " ") }
    }

    private static func isOption(_ word: String) -> Bool {
        word == "!" || (word.hasPrefix("-") && word.count > 1 && !word.dropFirst().allSatisfy(\.isNumber))
    }

    /// One name for each protocol, as reports use it.
    private static func transport(_ name: String) -> String {
        switch name.lowercased() {
        case "0", "all": "all"
        case "1", "icmp": "icmp"
        case "6", "tcp": "tcp"
        case "17", "udp": "udp"
        case "58", "ipv6-icmp", "icmpv6", "icmp6": "icmpv6"
        case "132", "sctp": "sctp"
        default: name
        }
    }

    // MARK: Options

    private static let aliases = [
        "--protocol": "-p", "--proto": "-p", "--source": "-s", "--src": "-s", "--destination": "-d", "--dst": "-d",
        "--in-interface": "-i", "--out-interface": "-o", "--match": "-m", "--fragment": "-f", "--source-port": "--sport",
        "--destination-port": "--dport", "--source-ports": "--sports", "--destination-ports": "--dports",
        "--icmpv6-type": "--icmp-type",
    ]

    /// Options with the number of their arguments (iptables-extensions(8)).
    private static let options: [String: (arguments: Int, dependence: Dependence)] = {
        var options: [String: (arguments: Int, dependence: Dependence)] = [:]
        let ofPacket = [
            "-s", "-d", "-p", "-i", "-o", "-m", "--comment", "--sport", "--dport", "--sports", "--dports", "--ports",
            "--src-range", "--dst-range", "--icmp-type", "--mac-source", "--physdev-in", "--physdev-out", "--pkt-type",
        ]
        for option in ofPacket { options[option] = (1, .packet) }
        for option in ["-f", "--syn", "--physdev-is-in", "--physdev-is-out", "--physdev-is-bridged"] {
            options[option] = (0, .packet)
        }
        options["--tcp-flags"] = (2, .packet)
        let ofState = [
            "--mark", "--ctstate", "--state", "--dscp", "--dscp-class", "--tos", "--ttl-eq", "--ttl-gt", "--ttl-lt", "--hl-eq",
            "--hl-gt", "--hl-lt", "--mss", "--length", "--tcp-option",
        ]
        for option in ofState { options[option] = (1, .state) }
        // Addresses and routes of the machine, which decide about these, may change at any moment.
        for option in ["--src-type", "--dst-type"] { options[option] = (1, .outside) }
        return options
    }()

    /// Modules that match every packet unless an option of theirs asks for something.
    private static let modulesThatAskNothing: Set<String> = [
        "comment", "multiport", "iprange", "conntrack", "state", "mark", "addrtype", "mac", "physdev", "tos", "dscp", "length",
        "ttl", "hl", "pkttype", "tcpmss",
    ]

    /// Modules that match packets with a whole header of theirs, and so no fragment but the first.
    private static let headerModules: Set<String> = ["tcp", "udp", "udplite", "icmp", "icmp6", "sctp", "dccp"]

    private static let subjects: [String: RuleMatch.Subject] = [
        "-p": .transport, "-s": .source, "-d": .destination, "--src-range": .source, "--dst-range": .destination,
        "--sport": .sourcePort, "--sports": .sourcePort, "--dport": .destinationPort, "--dports": .destinationPort,
        "--ports": .anyPort, "-i": .inInterface, "-o": .outInterface, "--dst-type": .destinationType,
    ]
}

extension RuleConditions.Condition {
    /// Whether every packet that meets `other` meets this as well. `false` where that is not certain.
    fileprivate func includes(_ other: RuleConditions.Condition) -> Bool {
        // An option of the same name may be another module's.
        guard dependence == other.dependence else { return false }
        // A condition on ports needs the header too.
        if option == "-m", Self.optionsOfHeaders.contains(other.option) { return true }
        if option == other.option, isNegated == other.isNegated,
            Self.order(arguments, option) == Self.order(other.arguments, option)
        {
            return true
        }
        guard !isNegated, !other.isNegated, let mine = arguments.first, let theirs = other.arguments.first,
            arguments.count == 1, other.arguments.count == 1
        else { return false }
        switch (option, other.option) {
        case ("-s", "-s"), ("-d", "-d"):
            guard let mine = AddressPrefix(mine), let theirs = AddressPrefix(theirs) else { return false }
            return mine.contains(theirs)
        case ("--dport", "--dport"), ("--dport", "--dports"), ("--dports", "--dport"), ("--dports", "--dports"),
            ("--sport", "--sport"), ("--sport", "--sports"), ("--sports", "--sport"), ("--sports", "--sports"):
            guard let mine = Self.ports(mine), let theirs = Self.ports(theirs) else { return false }
            return theirs.allSatisfy { range in
                mine.contains { $0.lowerBound <= range.lowerBound && range.upperBound <= $0.upperBound }
            }
        case ("-i", "-i"), ("-o", "-o"):
            return mine.hasSuffix("+") && theirs.hasPrefix(mine.dropLast())
        case ("--ctstate", "--ctstate"), ("--state", "--state"):
            return Set(theirs.split(separator: ",")).isSubset(of: mine.split(separator: ","))
        default:
            return false
        }
    }

    private static let optionsOfHeaders: Set<String> = [
        "--sport", "--dport", "--sports", "--dports", "--ports", "--icmp-type", "--tcp-flags", "--syn",
    ]

    /// Arguments that compare equal where their order means nothing.
    private static func order(_ arguments: [String], _ option: String) -> [String] {
        guard option == "--ctstate" || option == "--state", let list = arguments.first, arguments.count == 1 else {
            return arguments
        }
        return list.split(separator: ",").map(String.init).sorted()
    }

    private static func ports(_ text: String) -> [ClosedRange<Int>]? {
        let parts = text.split(separator: ",", omittingEmptySubsequences: false)
        let ranges = parts.compactMap { RuleMatch.ports(String($0)) }
        return ranges.count == parts.count ? ranges : nil
    }
}
