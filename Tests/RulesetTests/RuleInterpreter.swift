import TestSupport
import Ruleset

/// A packet's way through one table: a slow and plain reading of the rules, for comparison.
struct RuleInterpreter {
    struct Packet: Hashable {
        var transport: String
        var source: UInt32
        var destination: UInt32
        var port: Int
        var inInterface: String
        var state: String
        var mark: UInt32
        /// Decides about chance, sets and the like.
        var seed: Int
    }

    struct Result: Equatable {
        var verdict: String
        var mark: UInt32
        var source: UInt32
        /// What else was done: lines logged, entries made.
        var effects: [String]
    }

    /// A rule with a name that it keeps when others are taken out.
    struct Named: Hashable {
        var id: Int
        var words: [String]

        static func == (one: Named, other: Named) -> Bool { one.id == other.id }
        func hash(into hasher: inout Hasher) { hasher.combine(id) }
    }

    private(set) var chains: [String: [Named]] = [:]
    private var policies: [String: String] = [:]

    init(_ table: RuleDump.TableContent) {
        for chain in table.chains {
            chains[chain.name] = []
            policies[chain.name] = chain.policy
        }
        for (id, rule) in table.rules.enumerated() { chains[rule.chain, default: []].append(Named(id: id, words: rule.words)) }
    }

    /// As `iptables -D chain words`: takes out the first rule that has these words.
    func deleting(_ words: [String], from chain: String) -> RuleInterpreter? {
        guard let index = chains[chain]?.firstIndex(where: { $0.words == words }) else { return nil }
        var other = self
        other.chains[chain]?.remove(at: index)
        return other
    }

    /// - Parameter matched: takes the rules that matched.
    func run(_ packet: Packet, from chain: String, matched: inout Set<Int>) -> Result {
        var packet = packet
        var effects: [String] = []
        let verdict = traverse(chain, &packet, &effects, &matched) ?? policies[chain] ?? "ACCEPT"
        return Result(verdict: verdict, mark: packet.mark, source: packet.source, effects: effects)
    }

    /// - Returns: `nil` where the packet comes back.
    private func traverse(
        _ chain: String, _ packet: inout Packet, _ effects: inout [String], _ matched: inout Set<Int>
    ) -> String? {
        for rule in chains[chain] ?? [] {
            let target = rule.words.firstIndex { $0 == "-j" || $0 == "-g" } ?? rule.words.count
            guard meets(rule, rule.words[..<target], packet, &effects) else { continue }
            matched.insert(rule.id)
            guard target < rule.words.count else { continue }
            let name = rule.words[target + 1]
            let value = UInt32(rule.words[rule.words.count - 1]) ?? 0
            switch name {
            case "ACCEPT", "DROP", "REJECT": return rule.words[target...].joined(separator: " ")
            case "RETURN": return nil
            case "LOG": effects.append("log \(packet.mark)")
            case "MARK": packet.mark = value
            case "CONNMARK": packet.mark = UInt32(packet.seed % 2)
            case "NOTRACK": packet.state = "UNTRACKED"
            case "RAWSNAT": packet.source = value
            default:
                let verdict = traverse(name, &packet, &effects, &matched)
                if let verdict { return verdict }
                if rule.words[target] == "-g" { return nil }
            }
        }
        return nil
    }

    private func meets(
        _ rule: Named, _ match: ArraySlice<String>, _ packet: Packet, _ effects: inout [String]
    ) -> Bool {
        // The addresses, the interface and the protocol come first, the modules as they stand.
        for isFirst in [true, false] {
            var index = match.startIndex
            while index < match.endIndex {
                let isNegated = match[index] == "!"
                if isNegated { index += 1 }
                let option = match[index]
                let argument = index + 1 < match.endIndex ? match[index + 1] : ""
                index += option == "--set" ? 1 : 2
                guard ["-s", "-d", "-i", "-p"].contains(option) == isFirst, option != "-m" else { continue }
                let holds: Bool
                switch option {
                case "-s": holds = Self.contains(argument, packet.source)
                case "-d": holds = Self.contains(argument, packet.destination)
                case "-i": holds = argument == packet.inInterface || argument == "eth+"
                case "-p": holds = argument == packet.transport
                case "--dport", "--dports":
                    guard packet.transport != "icmp" else { return false }
                    holds = argument.split(separator: ",").contains { range in
                        let ends = range.split(separator: ":").compactMap { Int($0) }
                        return ends[0] <= packet.port && packet.port <= ends[ends.count - 1]
                    }
                case "--ctstate": holds = argument.split(separator: ",").contains { $0 == packet.state }
                case "--mark": holds = UInt32(argument) == packet.mark
                case "--set":
                    effects.append("set")
                    holds = true
                // Sets, chance: each look may give another answer.
                case "--match-set", "--probability": holds = (packet.seed &* 31 &+ rule.id &* 17) % 3 == 0
                default: holds = true
                }
                if holds == isNegated { return false }
            }
        }
        return true
    }

    private static func contains(_ prefix: String, _ address: UInt32) -> Bool {
        let parts = prefix.split(separator: "/")
        let bytes = parts[0].split(separator: ".").compactMap { UInt32($0) }
        let network = bytes.reduce(0) { $0 << 8 | $1 }
        let length = parts.count > 1 ? UInt32(parts[1]) ?? 32 : 32
        let mask: UInt32 = length == 0 ? 0 : .max << (32 - length)
        return network & mask == address & mask
    }
}

/// Rules and packets by chance, over few values, so that rules cover one another often.
struct GeneratedTable {
    private var numbers: SplitMix

    init(seed: UInt64) { numbers = SplitMix(state: seed) }

    private mutating func random(_ bound: Int) -> Int { numbers.below(bound) }

    private mutating func one<Element>(of elements: [Element]) -> Element { elements[random(elements.count)] }

    private static let prefixes = ["10.0.0.1/32", "10.0.0.0/24", "10.0.0.0/8", "10.0.1.1/32"]
    private static let addresses: [UInt32] = [0x0A00_0001, 0x0A00_0002, 0x0A00_0101, 0x0B00_0001]

    mutating func text() -> String {
        var lines = ["*filter", ":FORWARD \(one(of: ["ACCEPT", "DROP"])) [0:0]"]
        // A chain jumps to later ones only.
        let chains = ["FORWARD", "A", "B", "C"]
        lines += chains.dropFirst().map { ":\($0) - [0:0]" }
        var rules: [String] = []
        for (level, chain) in chains.enumerated() {
            for _ in 0..<1 + random(level == 0 ? 9 : 6) {
                // Some are repeated, as they are or with one condition more.
                let repeated = rules.isEmpty || random(2) > 0 ? nil : narrowed(one(of: rules))
                let body = repeated ?? rule(Array(chains[(level + 1)...]))
                rules = level == 0 || repeated == nil ? rules + [body] : rules
                lines.append("-A \(chain) \(isBelow(body, level, chains) ? body : "-p udp -j RETURN")")
            }
        }
        return (lines + ["COMMIT", ""]).joined(separator: "\n")
    }

    private mutating func narrowed(_ rule: String) -> String {
        let option = one(of: ["-s", "-d", "-i"])
        guard random(3) > 0, !rule.contains("\(option) ") else { return rule }
        return "\(option) \(option == "-i" ? one(of: ["eth0", "eth1"]) : one(of: Self.prefixes)) \(rule)"
    }

    private func isBelow(_ rule: String, _ level: Int, _ chains: [String]) -> Bool {
        let target = rule.split(separator: " ").last.map(String.init) ?? ""
        return chains.firstIndex(of: target).map { $0 > level } ?? true
    }

    private mutating func rule(_ chains: [String]) -> String {
        var words: [String] = []
        func negation(_ chance: Int) -> String { chance == 0 ? "! " : "" }
        if random(3) == 0 { words.append("\(negation(random(5)))-s \(one(of: Self.prefixes))") }
        if random(4) == 0 { words.append("\(negation(random(5)))-d \(one(of: Self.prefixes))") }
        if random(5) == 0 { words.append("\(negation(random(5)))-i \(one(of: ["eth0", "eth1", "eth+"]))") }
        switch random(6) {
        case 0: words.append("-p icmp")
        case 1: words.append("-p tcp")
        case 2: words.append("-p tcp -m tcp \(negation(random(5)))--dport \(one(of: ["80", "80:90", "81"]))")
        case 3: words.append("-p tcp -m multiport \(negation(random(5)))--dports \(one(of: ["80,81", "80:90,443", "443"]))")
        default: break
        }
        if random(5) == 0 {
            let states = one(of: ["NEW", "ESTABLISHED", "RELATED,ESTABLISHED", "ESTABLISHED,NEW", "UNTRACKED"])
            words.append("-m conntrack \(negation(random(5)))--ctstate \(states)")
        }
        if random(3) == 0 { words.append("-m mark \(negation(random(5)))--mark \(random(2))") }
        if random(12) == 0 {
            words.append(
                one(of: ["-m set --match-set a src", "-m statistic --mode random --probability 0.5", "-m recent --set"]))
        }
        switch random(12) {
        case 0, 6: words.append("-j MARK --set-xmark \(random(2))")
        case 1: words.append(one(of: ["-j CONNMARK --restore-mark", "-j NOTRACK", "-j LOG"]))
        case 2 where random(4) == 0: words.append("-j RAWSNAT --to-source 167772161")
        case 3, 4: words.append(chains.isEmpty ? "-j RETURN" : "\(one(of: ["-j", "-j", "-g"])) \(one(of: chains))")
        case 5: words.append("-j RETURN")
        default: words.append("-j \(one(of: ["ACCEPT", "DROP", "DROP", "REJECT"]))")
        }
        return words.joined(separator: " ")
    }

    mutating func packet() -> RuleInterpreter.Packet {
        RuleInterpreter.Packet(
            transport: one(of: ["tcp", "tcp", "tcp", "udp", "icmp"]), source: one(of: Self.addresses),
            destination: one(of: Self.addresses), port: one(of: [80, 81, 85, 443, 22]), inInterface: one(of: ["eth0", "eth1"]),
            state: one(of: ["NEW", "ESTABLISHED", "RELATED", "INVALID", "UNTRACKED"]), mark: UInt32(random(2)),
            seed: random(1000))
    }
}
