internal import Aggregation
internal import TraceModel

/// Connections that `-m statistic` shares out unevenly, by Pearson's chi-squared test against equal shares.
struct UnevenBalance: FindingRule {
    private struct Front: Hashable {
        var address: IPAddress
        /// `nil` where ports play no role.
        var port: UInt16?

        var text: String { "\(address)\(port.map { ":\($0)" } ?? "")" }
    }

    func findings(in evidence: Evidence) -> [Finding] {
        evidence.namespaces.flatMap { namespace -> [Finding] in
            let sharing = namespace.facts.redirections.filter(\.sharesOut)
            guard !sharing.isEmpty else { return [] }
            /// For each front and server, the latest journey of each connection.
            var servers: [Front: [IPAddress: [UInt64]]] = [:]
            for flow in evidence.flows {
                for translation in flow.translations
                where translation.kind == .dnat && namespace.indices.contains(translation.namespace)
                    && sharing.contains(where: { $0.match.admits(flow.packet(to: translation.record.from)) != false })
                {
                    let front = Front(address: translation.record.from, port: flow.destinationPort)
                    servers[front, default: [:]][translation.record.to, default: []].append(
                        flow.record.original.latestJourney)
                }
            }
            return servers.sorted { $0.key.text < $1.key.text }.compactMap { finding($0, $1, in: namespace.name) }
        }
    }

    private func finding(_ front: Front, _ shares: [IPAddress: [UInt64]], in netns: String) -> Finding? {
        let total = shares.values.reduce(0) { $0 + $1.count }
        guard shares.count > 1, total >= 20 * shares.count, isUneven(shares.values.map(\.count)) else { return nil }
        let sorted = shares.map { (server: "\($0)", journeys: $1) }.sorted { $0.server < $1.server }
        let text = sorted.map { "\($0.server) \($0.journeys.count)" }.joined(separator: ", ")
        return Finding(
            "uneven-balance", .warning, "\(front.text) in \(netns) is not shared out evenly", in: netns,
            because: "Of \(total) connections: \(text). By chance that happens less than once in a thousand times. Each rule "
                + "with statistic takes its share of what the rules before it left: of three the first takes a third, the "
                + "next half, the last the rest.",
            packets: UInt64(total), journeys: sorted.flatMap(\.journeys))
    }

    private func isUneven(_ counts: [Int]) -> Bool {
        let expected = Double(counts.reduce(0, +)) / Double(counts.count)
        let deviation = counts.reduce(0.0) { $0 + (Double($1) - expected) * (Double($1) - expected) / expected }
        // The 0.999 quantile, by Wilson and Hilferty's approximation (1931).
        let freedom = Double(counts.count - 1)
        let root = 1 - 2 / (9 * freedom) + 3.0902 * (2 / (9 * freedom)).squareRoot()
        return deviation > freedom * root * root * root
    }
}

extension FlowEvidence {
    /// The connection's first packet with the destination that it had before a translation.
    fileprivate func packet(to destination: IPAddress) -> RuleMatch.Packet {
        var packet = RuleMatch.Packet(record.original.tuple)
        packet.destination = destination
        return packet
    }
}
