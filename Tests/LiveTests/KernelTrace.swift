import Lab
import Testing

/// What `nft monitor trace` says of the chains that packets passed in one namespace: an oracle that nobody here wrote.
///
/// Its ids are hashes that change where a packet is routed and come again for others, so that they tell what belongs together
/// within one hook at most.
struct KernelTrace {
    /// A packet as it came into a base chain.
    struct Visit: Hashable, CustomStringConvertible {
        var table: String
        var chain: String
        var source: String
        var destination: String
        var transport: String
        var sourcePort: Int?
        var destinationPort: Int?
        var icmpType: Int?
        var icmpSequence: Int?

        var description: String {
            let ports = [sourcePort, destinationPort, icmpType, icmpSequence].compactMap { $0.map(String.init) }
            return "\(table)/\(chain) \(transport) \(source) → \(destination) \(ports.joined(separator: " "))"
        }

        /// What hosts send when they like: neighbour discovery, reports of group members, router solicitations.
        var isBackground: Bool {
            if transport == "icmpv6" { return [133, 134, 135, 136, 143, 130, 131, 132].contains(icmpType) }
            return transport == "other" && (destination.hasPrefix("ff02:") || destination.hasPrefix("224.0.0."))
        }

        /// Whether it may be the same; nft shows no header of some packets that a tunnel makes.
        func matches(_ other: Visit) -> Bool {
            self == other || (source.isEmpty && table == other.table && chain == other.chain)
        }

        /// Of a collector's endpoint, which is in no report.
        var isOwn: Bool { transport == "tcp" && (sourcePort == 9100 || destinationPort == 9100) }
    }

    /// Visits with the same id, one behind the other.
    var runs: [[Visit]] = []
    /// Visits that ended with a rule or a policy that drops.
    var drops: [Visit] = []

    /// Marks every packet, behind defragmentation and before all tables.
    static let marking = """
        table inet oracle {
          chain in {
            type filter hook prerouting priority -350; policy accept;
            meta nftrace set 1
          }
          chain out {
            type filter hook output priority -350; policy accept;
            meta nftrace set 1
          }
        }

        """

    /// - Parameter text: what `nft -nn monitor trace` printed.
    init(_ text: String) {
        var open: [String: Int] = [:]
        for line in text.split(separator: "\n") {
            let words = line.split(separator: " ").map(String.init)
            if line.contains("(verdict drop)") || line.contains(" policy drop ") {
                if words.count > 4, let last = open[words[2]].flatMap({ runs[$0].last }), last.table == words[4] {
                    drops.append(last)
                }
                continue
            }
            guard words.count > 7, words[0] == "trace", words[1] == "id", words[6] == "packet:",
                words[3] == "ip" || words[3] == "ip6", !words[4].hasPrefix("ipt-trace")
            else { continue }
            let fields = Array(words[7...])
            func value(_ header: [String], _ name: String) -> String? {
                zip(zip(fields, fields.dropFirst()), fields.dropFirst(2)).first {
                    header.contains($0.0.0) && $0.0.1 == name
                }?.1
            }
            func number(_ header: [String], _ name: String) -> Int? { value(header, name).flatMap { Int($0) } }
            let transport = ["tcp", "udp", "icmp", "icmpv6"].first { name in
                zip(fields, fields.dropFirst()).contains { $0 == name && ["sport", "type"].contains($1) }
            }
            let icmp = ["icmp", "icmpv6"]
            // Of a later fragment nft reads the payload as if it were a header.
            let type = number(icmp, "type").map { words[3] == "ip" && $0 > 43 ? 0 : $0 }
            let isLaterFragment = type != number(icmp, "type")
            let isQuery = [0, 8, 128, 129].contains(type)
            // Id and sequence of an ICMPv6 query are printed as one number under another message's field.
            let sequence6 = number(["icmpv6"], "parameter-problem").map { $0 & 0xFFFF }
            let visit = Visit(
                table: words[4], chain: words[5], source: value(["ip", "ip6"], "saddr") ?? "",
                destination: value(["ip", "ip6"], "daddr") ?? "", transport: transport ?? "other",
                sourcePort: number(["tcp", "udp"], "sport"), destinationPort: number(["tcp", "udp"], "dport"),
                icmpType: type, icmpSequence: isLaterFragment ? 0 : isQuery ? number(icmp, "sequence") ?? sequence6 : nil)
            guard !visit.isOwn else { continue }
            // What hosts send when they like is left out.
            if visit.isBackground { continue }
            if let index = open[words[2]], let last = runs[index].last, last.precedes(visit) {
                runs[index].append(visit)
            } else {
                open[words[2]] = runs.count
                runs.append([visit])
            }
        }
    }
}

extension KernelTrace.Visit {
    /// Where a chain stands at its hook, as iptables-nft registers it.
    private var position: Int? {
        let tables =
            chain == "INPUT" ? ["mangle", "filter", "nat", "security"] : ["raw", "mangle", "nat", "filter", "security"]
        return tables.firstIndex(of: table)
    }

    /// Whether the same packet may come to `next` later on at the same hook.
    fileprivate func precedes(_ next: KernelTrace.Visit) -> Bool {
        guard let position, let later = next.position else { return chain == next.chain && table != next.table }
        return chain == next.chain && position < later && transport == next.transport && icmpType == next.icmpType
            && icmpSequence == next.icmpSequence
    }
}
