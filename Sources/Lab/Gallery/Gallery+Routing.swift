/// Routers: with and without translation.
extension Gallery {
    private static let pingTraffic = [Traffic("ip netns exec guest ping -c 1 -W 1 8.8.8.8")]
    private static let failingPing = [Traffic("ip netns exec guest ping -c 1 -W 1 8.8.8.8", succeeds: false)]

    /// The classic experiment: a guest pings an address of the internet through a host that forwards and masquerades.
    public static let ping = LabNetwork(
        name: "ping", summary: "a guest pings 8.8.8.8 through a masquerading host", drawing: drawing, commands: routed,
        rules: [RuleFile("host", PackageResources.masquerade_host_rules)], servers: [], traced: ["host", "guest"],
        traffic: pingTraffic,
        expected: [
            Expectation("icmp", "172.16.0.2", "8.8.8.8", "sent", "snat in host"),
            Expectation("icmp", "8.8.8.8", "10.0.2.15", "delivered", "snat_reply in host"),
        ],
        variants: [
            LabNetwork.Variant(
                name: "forward-drop", summary: "the host's FORWARD policy is DROP",
                rules: [
                    RuleFile("host", PackageResources.masquerade_host_rules),
                    RuleFile("host", PackageResources.forward_drop_host_rules),
                ], traffic: failingPing,
                expected: [Expectation("icmp", "172.16.0.2", "8.8.8.8", "dropped", at: "filter/FORWARD in host")]),
            LabNetwork.Variant(
                name: "snat", summary: "the address is written down, SNAT before MASQUERADE",
                rules: [RuleFile("host", PackageResources.snat_host_rules)],
                expected: [
                    Expectation("icmp", "172.16.0.2", "8.8.8.8", "sent", "snat in host"),
                    Expectation("icmp", "8.8.8.8", "10.0.2.15", "delivered", "snat_reply in host"),
                ]),
            LabNetwork.Variant(
                name: "address-changes", summary: "eth0 gets another address, and MASQUERADE follows",
                traffic: pingTraffic
                    + [
                        Traffic("ip address add 10.0.2.16/24 dev eth0"), Traffic("ip address del 10.0.2.15/24 dev eth0"),
                        Traffic("ip address replace 10.0.2.16/24 dev eth0"),
                        Traffic("ip route replace default via 10.0.2.2"),
                    ] + pingTraffic,
                expected: [
                    Expectation("icmp", "172.16.0.2", "8.8.8.8", "sent", "snat in host to 10.0.2.15"),
                    Expectation("icmp", "172.16.0.2", "8.8.8.8", "sent", "snat in host to 10.0.2.16"),
                    Expectation("icmp", "8.8.8.8", "10.0.2.15", "delivered", "snat_reply in host to 172.16.0.2"),
                    Expectation("icmp", "8.8.8.8", "10.0.2.16", "delivered", "snat_reply in host to 172.16.0.2"),
                ]),
        ])

    /// A host that is no router.
    static let forwarding = LabNetwork(
        name: "forwarding", summary: "a host that may forward, or may not", drawing: drawing, commands: routed + knownOutside,
        rules: [], servers: [], traced: ["host", "guest"], traffic: pingTraffic,
        expected: [
            Expectation("icmp", "172.16.0.2", "8.8.8.8", "sent"), Expectation("icmp", "8.8.8.8", "172.16.0.2", "delivered"),
        ],
        variants: [
            LabNetwork.Variant(
                name: "off", summary: "net.ipv4.ip_forward is 0", commands: words("sysctl -qw net.ipv4.ip_forward=0"),
                traffic: failingPing,
                expected: [Expectation("icmp", "172.16.0.2", "8.8.8.8", "dropped", at: "mangle/PREROUTING in host")],
                findings: ["forwarding-disabled"]),
            LabNetwork.Variant(
                name: "reverse-path", summary: "the host's strict reverse-path filter finds no way back to the source",
                commands: words(
                    """
                    sysctl -qw net.ipv4.conf.br0.rp_filter=1
                    ip -n guest address add 192.168.77.7/32 dev lo
                    ip link set dev br0 address 02:00:00:00:00:01
                    ip -n guest neighbour replace 172.16.0.1 lladdr 02:00:00:00:00:01 dev vGUEST
                    """),
                traffic: [Traffic("ip netns exec guest ping -c 1 -W 1 -I 192.168.77.7 8.8.8.8", succeeds: false)],
                expected: [Expectation("icmp", "192.168.77.7", "8.8.8.8", "dropped", at: "mangle/PREROUTING in host")],
                findings: ["reverse-path-filter"]),
        ])

    /// Packets that connection tracking is told not to look at.
    static let notrack = LabNetwork(
        name: "notrack", summary: "a guest behind a masquerading host", drawing: drawing, commands: routed,
        rules: [RuleFile("host", PackageResources.masquerade_host_rules)], servers: [], traced: ["host", "guest", "inet"],
        traffic: pingTraffic,
        expected: [
            Expectation("icmp", "172.16.0.2", "8.8.8.8", "delivered", "snat in host"),
            Expectation("icmp", "8.8.8.8", "10.0.2.15", "delivered", "snat_reply in host"),
        ],
        variants: [
            LabNetwork.Variant(
                name: "untracked", summary: "raw exempts the guests from connection tracking, so nat never sees them",
                rules: [
                    RuleFile("host", PackageResources.masquerade_host_rules),
                    RuleFile("host", PackageResources.notrack_host_rules),
                ], traffic: failingPing,
                expected: [Expectation("icmp", "172.16.0.2", "8.8.8.8", "delivered")],
                findings: ["nat-without-tracking", "one-way"])
        ])

    /// Two routers in a row, the second of which translates.
    public static let twoRouters = LabNetwork(
        name: "two-routers", summary: "two routers in a row, the second one masquerades",
        drawing: """
            guest         host                     edge                    inet
            172.16.0.2 -- 172.16.0.1  10.1.0.1 --- 10.1.0.2  10.0.2.15 --- 10.0.2.2, owns 8.8.8.8
            """,
        commands: words(
            """
            ip netns add guest
            ip netns add edge
            ip netns add inet
            ip -n guest link set lo up
            ip -n edge link set lo up
            ip -n inet link set lo up
            ip link add toguest type veth peer name up netns guest
            ip link add toedge type veth peer name in0 netns edge
            ip -n edge link add out0 type veth peer name up0 netns inet
            ip address add 172.16.0.1/24 dev toguest
            ip -n guest address add 172.16.0.2/24 dev up
            ip address add 10.1.0.1/24 dev toedge
            ip -n edge address add 10.1.0.2/24 dev in0
            ip -n edge address add 10.0.2.15/24 dev out0
            ip -n inet address add 10.0.2.2/24 dev up0
            ip -n inet address add 8.8.8.8/32 dev lo
            ip link set toguest up
            ip link set toedge up
            ip -n guest link set dev up up
            ip -n edge link set in0 up
            ip -n edge link set out0 up
            ip -n inet link set up0 up
            ip -n guest route add default via 172.16.0.1
            ip route add default via 10.1.0.2
            ip -n edge route add default via 10.0.2.2
            ip -n edge route add 172.16.0.0/24 via 10.1.0.1
            sysctl -qw net.ipv4.ip_forward=1
            ip netns exec edge sysctl -qw net.ipv4.ip_forward=1
            """),
        rules: [RuleFile("edge", PackageResources.masquerade_edge_rules)], servers: [],
        traced: ["host", "guest", "edge", "inet"], traffic: pingTraffic,
        expected: [
            Expectation("icmp", "172.16.0.2", "8.8.8.8", "delivered", "snat in edge"),
            Expectation("icmp", "8.8.8.8", "10.0.2.15", "delivered", "snat_reply in edge"),
        ],
        variants: [])
}
