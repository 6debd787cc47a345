/// One kind of traffic: what `tagged-traffic` sends, and how it is judged.
struct Kind {
    /// Of its recording.
    var file: String
    var name: String
    var command: [String]
    var isHostile: Bool

    /// - Parameter packets: about how many each kind sends.
    static func all(packets: Int) -> [Kind] {
        func kind(_ file: String, _ name: String, isHostile: Bool = true, _ words: [String]) -> Kind {
            Kind(file: file, name: name, command: words, isHostile: isHostile)
        }
        let address = "8.8.8.8"
        let count = String(packets)
        let half = String(packets / 2)
        // At most sixteen at once, with records in both directions.
        let records = packets < 1000 ? 16 : 64
        let connections = String(max(2, packets / 2 / records))
        let flows = String(min(1000, max(1, packets / 4)))
        return [
            kind("udp", "UDP, 8 flows", isHostile: false, ["udp", address, count, "8", "numbered"]),
            kind("tcp", "TCP, \(connections) connections", isHostile: false, ["tcp", address, connections, String(records)]),
            kind("icmp", "ICMP echo", isHostile: false, ["icmp", address, half]),
            kind("copies", "copies, one flow, both CPUs", ["udp", address, count, "1", "shared"]),
            kind("interleaved", "copies, \(flows) flows interleaved", ["udp", address, count, flows, "equal"]),
            kind("paced", "the same, 5,000 packets/s", ["udp", address, half, flows, "paced"]),
            kind("again", "sent again after 200 ms", ["udp", address, half, "100", "again"]),
            kind("twice", "sent twice at once", ["udp", address, half, "100", "twice"]),
        ]
    }
}
