import TestSupport

/// Rules as they might be, in every table of a namespace; the same for the same seed.
struct RandomRules {
    private var generator: SplitMix

    init(seed: UInt64) { generator = SplitMix(state: seed) }

    static let addresses = ["172.16.0.2", "172.16.0.1", "10.0.2.15", "10.0.2.2", "8.8.8.8"]
    static let ports = [5001, 5002]

    private mutating func one<Element>(of elements: [Element]) -> Element {
        elements[Int.random(in: elements.indices, using: &generator)]
    }

    private mutating func happens(_ chance: Double) -> Bool { Double.random(in: 0..<1, using: &generator) < chance }

    /// What iptables-restore reads.
    ///
    /// - Parameter own: addresses of the namespace itself.
    mutating func text(own: [String]) -> String {
        let chains: [(table: String, chains: [String])] = [
            ("raw", ["PREROUTING", "OUTPUT"]), ("mangle", ["PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"]),
            ("nat", ["PREROUTING", "INPUT", "OUTPUT", "POSTROUTING"]), ("filter", ["INPUT", "FORWARD", "OUTPUT"]),
            ("security", ["INPUT", "FORWARD", "OUTPUT"]),
        ]
        var lines: [String] = []
        for (table, chains) in chains {
            lines.append("*\(table)")
            lines.append(":USER - [0:0]")
            if table == "filter" {
                for chain in chains { lines.append(":\(chain) \(happens(0.1) ? "DROP" : "ACCEPT") [0:0]") }
            }
            for _ in 0..<Int.random(in: 0...2, using: &generator) {
                lines.append("-A USER \(match(in: table, "FORWARD")) -j \(one(of: ["RETURN", "RETURN", "ACCEPT"]))")
            }
            for chain in chains {
                // The collector must be reached.
                lines += ["dport", "sport"].map { "-A \(chain) -p tcp --\($0) 9100 -j ACCEPT" }
                for _ in 0..<Int.random(in: 0...2, using: &generator) {
                    lines.append("-A \(chain) \(match(in: table, chain)) \(target(table, chain, own))")
                }
            }
            lines.append("COMMIT")
        }
        return lines.joined(separator: "\n") + "\n"
    }

    private mutating func match(in table: String, _ chain: String) -> String {
        var words: [String] = []
        switch Int.random(in: 0..<5, using: &generator) {
        case 0: words.append("-p icmp")
        case 1: words.append("-p tcp --dport \(one(of: Self.ports))")
        case 2: words.append("-p udp --dport \(one(of: Self.ports))")
        case 3: words.append("-p udp")
        default: break
        }
        if happens(0.4) { words.append("-s \(one(of: Self.addresses))") }
        if happens(0.3) { words.append("-d \(one(of: Self.addresses))") }
        if happens(0.15), table != "raw" { words.append("-m conntrack --ctstate \(one(of: ["NEW", "ESTABLISHED"]))") }
        if happens(0.1) { words.append("-m mark --mark \(Int.random(in: 0...2, using: &generator))") }
        return words.joined(separator: " ")
    }

    private mutating func target(_ table: String, _ chain: String, _ own: [String]) -> String {
        // nat's match must name a protocol for ports, and its chains take no DROP.
        switch table {
        case "nat":
            switch chain {
            case "PREROUTING", "OUTPUT":
                return one(of: ["-j USER", "-j DNAT --to-destination \(one(of: Self.addresses))", "-j REDIRECT"])
            case "POSTROUTING": return one(of: ["-j USER", "-j MASQUERADE", "-j SNAT --to-source \(one(of: own))"])
            default: return one(of: ["-j USER", "-j SNAT --to-source \(one(of: own))"])
            }
        case "mangle":
            return happens(0.1)
                ? "-j DROP"
                : one(of: ["-j USER", "-j MARK --set-mark 1", "-j MARK --set-mark 2", "-j DSCP --set-dscp 10", "-j ACCEPT"])
        case "raw": return happens(0.1) ? "-j DROP" : one(of: ["-j USER", "-j CT --notrack", "-j ACCEPT"])
        case "filter":
            return happens(0.25)
                ? one(of: ["-j DROP", "-j REJECT"]) : one(of: ["-j USER", "-j ACCEPT", "-j RETURN"])
        default: return happens(0.2) ? "-j DROP" : one(of: ["-j USER", "-j ACCEPT"])
        }
    }
}
