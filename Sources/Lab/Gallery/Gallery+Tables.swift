/// What tables other than filter and nat do.
extension Gallery {
    /// Each table decides for itself.
    static let tables = LabNetwork(
        name: "tables", summary: "mangle accepts what filter drops: filter wins, since ACCEPT ends one table only",
        drawing: drawing, commands: routed + knownOutside,
        rules: [RuleFile("host", PackageResources.mangle_accept_host_rules)], servers: [], traced: ["host", "guest"],
        traffic: [Traffic("ip netns exec guest ping -c 1 -W 1 8.8.8.8", succeeds: false)],
        expected: [Expectation("icmp", "172.16.0.2", "8.8.8.8", "dropped", at: "filter/FORWARD in host")], variants: [])

    /// What mangle rewrites must not keep a packet from being recognised.
    static let mangle = LabNetwork(
        name: "mangle", summary: "mangle rewrites time to live, service class, mark and TCP's segment size on the way",
        drawing: drawing, commands: routed + knownOutside, rules: [RuleFile("host", PackageResources.mangle_host_rules)],
        servers: webServer, traced: ["host", "guest", "inet"],
        traffic: [
            Traffic("ip netns exec guest ping -c 1 -W 1 8.8.8.8"),
            Traffic("ip netns exec inet ipt-trace lab connect 172.16.0.2 80"),
        ],
        expected: [
            Expectation("icmp", "172.16.0.2", "8.8.8.8", "delivered", through: "guest, host, inet"),
            Expectation("icmp", "8.8.8.8", "172.16.0.2", "delivered", through: "inet, host, guest"),
            Expectation("tcp", "10.0.2.2", "172.16.0.2:80", "delivered", through: "inet, host, guest"),
            Expectation("tcp", "172.16.0.2:80", "10.0.2.2", "delivered", through: "guest, host, inet"),
        ],
        variants: [
            LabNetwork.Variant(
                name: "security-drop", summary: "the security table drops the ping, which all tables before it let through",
                rules: [
                    RuleFile("host", PackageResources.mangle_host_rules),
                    RuleFile("host", PackageResources.security_drop_host_rules),
                ],
                traffic: [
                    Traffic("ip netns exec guest ping -c 1 -W 1 8.8.8.8", succeeds: false),
                    Traffic("ip netns exec inet ipt-trace lab connect 172.16.0.2 80"),
                ],
                expected: [
                    Expectation("icmp", "172.16.0.2", "8.8.8.8", "dropped", at: "security/FORWARD in host")
                        .lost(in: "security/FORWARD"),
                    Expectation("tcp", "10.0.2.2", "172.16.0.2:80", "delivered", through: "inet, host, guest"),
                ],
                // FORWARD has no later table: its end is told by a sentinel.
                extraProbeOptions: ["--sentinels"])
        ])

    /// Connections that only the zone of connection tracking tells apart.
    static let zones = LabNetwork(
        name: "zones", summary: "two networks with the same addresses behind one router, in zones of connection tracking",
        drawing: """
            first  172.16.0.2 --- first0  172.16.0.1 .
                                                      host, eth0 10.0.2.15 --- inet 10.0.2.2, owns 8.8.8.8
            second 172.16.0.2 --- second0 172.16.0.1 '
            """,
        commands: outside + twin("first", mark: 1) + twin("second", mark: 2)
            + words(
                "sysctl -qw net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.first0.rp_filter=0 net.ipv4.conf.second0.rp_filter=0"),
        rules: [RuleFile("host", PackageResources.zones_host_rules)], servers: [],
        traced: ["host", "first", "second", "inet"],
        traffic: [
            Traffic("ip netns exec first ping -c 1 -W 1 8.8.8.8"), Traffic("ip netns exec second ping -c 1 -W 1 8.8.8.8"),
        ],
        expected: [
            Expectation(
                "icmp", "172.16.0.2", "8.8.8.8", "delivered", "snat in host to 10.0.2.15", through: "first, host, inet"),
            Expectation(
                "icmp", "8.8.8.8", "10.0.2.15", "delivered", "snat_reply in host to 172.16.0.2", through: "inet, host, first"),
            Expectation(
                "icmp", "172.16.0.2", "8.8.8.8", "delivered", "snat in host to 10.0.2.15", through: "second, host, inet"),
            Expectation(
                "icmp", "8.8.8.8", "10.0.2.15", "delivered", "snat_reply in host to 172.16.0.2", through: "inet, host, second"),
        ],
        variants: [
            LabNetwork.Variant(
                name: "one-direction",
                summary: "answers are looked for outside of the zone, and stay untranslated at the router",
                rules: [RuleFile("host", PackageResources.zones_one_direction_host_rules)],
                traffic: [Traffic("ip netns exec first ping -c 1 -W 1 8.8.8.8", succeeds: false)],
                expected: [
                    Expectation("icmp", "172.16.0.2", "8.8.8.8", "delivered", "snat in host", through: "first, host, inet"),
                    Expectation("icmp", "8.8.8.8", "10.0.2.15", "delivered", through: "inet, host"),
                ])
        ])

    /// A guest with the same address as its twin, found by a mark.
    private static func twin(_ name: String, mark: Int) -> [[String]] {
        words(
            """
            ip netns add \(name)
            ip -n \(name) link set lo up
            ip link add \(name)0 type veth peer name up netns \(name)
            ip address add 172.16.0.1/32 dev \(name)0
            ip link set \(name)0 up
            ip -n \(name) address add 172.16.0.2/24 dev up
            ip -n \(name) link set dev up up
            ip -n \(name) route add default via 172.16.0.1
            ip route add 172.16.0.0/24 dev \(name)0 table \(mark)
            ip rule add fwmark \(mark) lookup \(mark)
            """)
    }
}
