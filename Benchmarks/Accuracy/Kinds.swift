/// One kind of traffic: what `serials` sends, and what is to come of it.
struct Kind {
    var name: String
    var command: [String]
    var isHostile: Bool
    /// Set up before and taken away behind it.
    var rules: [[String]] = []
    var cleanup: [[String]] = []

    /// - Parameter packets: about how many each kind sends.
    static func all(packets: Int) -> [Kind] {
        let count = String(packets)
        // Sixteen connections at once with records in both directions.
        let connections = String(max(2, packets / 2 / 64))
        return [
            Kind(name: "UDP, 8 flows", command: ["udp", "8.8.8.8", count, "8", "numbered"], isHostile: false),
            Kind(name: "TCP, \(connections) connections", command: ["tcp", "8.8.8.8", connections, "64"], isHostile: false),
            Kind(name: "ICMP echo", command: ["icmp", "8.8.8.8", String(packets / 2)], isHostile: false),
            Kind(name: "copies, one flow, both CPUs", command: ["udp", "8.8.8.8", count, "1", "shared"], isHostile: true),
            Kind(
                name: "copies, 1,000 flows interleaved", command: ["udp", "8.8.8.8", count, "1000", "equal"], isHostile: true),
            Kind(
                name: "the same, 5,000 packets/s", command: ["udp", "8.8.8.8", String(packets / 2), "1000", "paced"],
                isHostile: true),
            Kind(
                name: "sent again after 200 ms", command: ["udp", "8.8.8.8", String(packets / 2), "100", "again"],
                isHostile: true),
            Kind(
                name: "sent twice at once", command: ["udp", "8.8.8.8", String(packets / 2), "100", "twice"], isHostile: true),
        ]
    }
}
