/// Packets that no rule drops.
extension Gallery {
    private static let pingInVain = [Traffic("ip netns exec guest ping -c 1 -W 1 8.8.8.8", succeeds: false)]

    /// Packets that the kernel drops where it routes.
    static let routing = LabNetwork(
        name: "routing", summary: "the kernel drops packets where it routes them; sentinels tell that no table did",
        drawing: drawing, commands: routed + knownOutside, rules: [], servers: [], traced: ["host", "guest"],
        extraProbeOptions: ["--sentinels"], traffic: [Traffic("ip netns exec guest ping -c 1 -W 1 8.8.8.8")],
        expected: [
            Expectation("icmp", "172.16.0.2", "8.8.8.8", "sent"), Expectation("icmp", "8.8.8.8", "172.16.0.2", "delivered"),
        ],
        variants: [
            LabNetwork.Variant(
                name: "time-to-live", summary: "the packet has one hop left to live",
                traffic: [Traffic("ip netns exec guest ping -c 1 -W 1 -t 1 8.8.8.8", succeeds: false)],
                expected: [
                    Expectation("icmp", "172.16.0.2", "8.8.8.8", "dropped", at: "sentinel/PREROUTING-end in host")
                        .lost(in: "routing", because: "ttl-spent").counted(as: "ttl-spent", finding: "hops-spent"),
                    // The host's answer.
                    Expectation("icmp", "172.16.0.1", "172.16.0.2", "delivered"),
                ]),
            LabNetwork.Variant(
                name: "martian", summary: "the packet's source is an address of loopback",
                // Nobody would answer a question for an address that such a source asks.
                commands: words(
                    """
                    ip link set dev br0 address 02:00:00:00:00:01
                    ip -n guest neighbour replace 172.16.0.1 lladdr 02:00:00:00:00:01 dev vGUEST
                    """),
                rules: [RuleFile("guest", PackageResources.impossible_source_guest_rules)], traffic: pingInVain,
                expected: [
                    Expectation(
                        "icmp", "172.16.0.2", "8.8.8.8", "dropped", at: "sentinel/PREROUTING-end in host", "snat in guest"
                    ).lost(in: "routing", because: "martian-source").told(as: "martian-source")
                ]),
            LabNetwork.Variant(
                name: "no-route", summary: "the host knows no way to the outside",
                commands: words("ip route delete default"), traffic: pingInVain,
                expected: [
                    Expectation("icmp", "172.16.0.2", "8.8.8.8", "dropped", at: "sentinel/PREROUTING-end in host")
                        .lost(in: "routing").counted(as: "no-route", finding: "no-route"),
                    Expectation("icmp", "172.16.0.1", "172.16.0.2", "delivered"),
                ]),
        ])
}
