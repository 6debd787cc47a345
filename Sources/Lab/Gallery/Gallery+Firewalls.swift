/// Firewalls: packets dropped and refused, and in which order.
extension Gallery {
    private static let toGuest = Traffic("ip netns exec inet ipt-trace lab connect 172.16.0.2 80")
    private static let toGuestInVain = Traffic("ip netns exec inet ipt-trace lab connect 172.16.0.2 80", succeeds: false)

    /// INPUT's policy is DROP, and the answers to one's own questions come through INPUT too.
    static let firewall = LabNetwork(
        name: "firewall", summary: "a host that lets in nothing but answers pings 8.8.8.8", drawing: drawing,
        commands: routed,
        rules: [
            RuleFile("host", PackageResources.input_drop_host_rules),
            RuleFile("host", PackageResources.input_established_host_rules),
        ],
        servers: [], traced: ["host", "inet"], traffic: [Traffic("ping -c 1 -W 1 8.8.8.8")],
        expected: [
            Expectation("icmp", "10.0.2.15", "8.8.8.8", "delivered"), Expectation("icmp", "8.8.8.8", "10.0.2.15", "delivered"),
        ],
        variants: [
            LabNetwork.Variant(
                name: "no-established", summary: "without the rule for ESTABLISHED,RELATED the answers are lost",
                rules: [RuleFile("host", PackageResources.input_drop_host_rules)],
                traffic: [Traffic("ping -c 1 -W 1 8.8.8.8", succeeds: false)],
                expected: [
                    Expectation("icmp", "10.0.2.15", "8.8.8.8", "delivered"),
                    Expectation("icmp", "8.8.8.8", "10.0.2.15", "dropped", at: "filter/INPUT in host"),
                ],
                findings: ["replies-dropped"])
        ])

    /// Who is kept in, and who is not.
    static let blockedHost = LabNetwork(
        name: "blocked-host", summary: "one of two guests must not get out",
        drawing: """
            guest  172.16.0.2   --.
                                  br0 172.16.0.1, host, eth0 10.0.2.15 --- inet, owns 8.8.8.8
            second 172.16.0.3   --.
            third  172.16.0.200 --'
            """,
        commands: routed + knownOutside + guest("second", 3) + guest("third", 200),
        rules: [RuleFile("host", PackageResources.blocked_host_host_rules)], servers: [],
        traced: ["host", "guest", "second", "third", "inet"],
        traffic: [
            Traffic("ip netns exec guest ping -c 1 -W 1 8.8.8.8"),
            Traffic("ip netns exec second ping -c 1 -W 1 8.8.8.8", succeeds: false),
        ],
        expected: [
            Expectation("icmp", "172.16.0.2", "8.8.8.8", "delivered", through: "guest, host, inet"),
            Expectation("icmp", "8.8.8.8", "172.16.0.2", "delivered", through: "inet, host, guest"),
            Expectation("icmp", "172.16.0.3", "8.8.8.8", "dropped", at: "filter/FORWARD in host"),
        ],
        variants: [
            LabNetwork.Variant(
                name: "subnet", summary: "those from 172.16.0.128 on must not",
                rules: [RuleFile("host", PackageResources.blocked_subnet_host_rules)],
                traffic: [
                    Traffic("ip netns exec second ping -c 1 -W 1 8.8.8.8"),
                    Traffic("ip netns exec third ping -c 1 -W 1 8.8.8.8", succeeds: false),
                ],
                expected: [
                    Expectation("icmp", "172.16.0.3", "8.8.8.8", "delivered", through: "second, host, inet"),
                    Expectation("icmp", "172.16.0.200", "8.8.8.8", "dropped", at: "filter/FORWARD in host"),
                ]),
            LabNetwork.Variant(
                name: "outgoing", summary: "only the host itself must not: OUTPUT has the rule, which guests do not pass",
                rules: [RuleFile("host", PackageResources.blocked_outgoing_host_rules)],
                traffic: [
                    Traffic("ip netns exec guest ping -c 1 -W 1 8.8.8.8"),
                    Traffic("ping -c 1 -W 1 8.8.8.8", succeeds: false), Traffic("ping -c 1 -W 1 10.0.2.2"),
                ],
                expected: [
                    Expectation("icmp", "172.16.0.2", "8.8.8.8", "delivered", through: "guest, host, inet"),
                    Expectation("icmp", "10.0.2.15", "8.8.8.8", "dropped", at: "filter/OUTPUT in host"),
                    Expectation("icmp", "10.0.2.15", "10.0.2.2", "delivered", through: "host, inet"),
                ]),
        ])

    /// A port that is closed, and exceptions.
    static let blockedPort = LabNetwork(
        name: "blocked-port", summary: "the host lets nobody to the guest's port 80", drawing: drawing,
        commands: routed + knownOutside, rules: [RuleFile("host", PackageResources.blocked_port_host_rules)],
        servers: webServer, traced: ["host", "guest", "inet"], traffic: [toGuestInVain],
        expected: [Expectation("tcp", "10.0.2.2", "172.16.0.2:80", "dropped", at: "filter/FORWARD in host")],
        variants: [
            LabNetwork.Variant(
                name: "exception-before", summary: "an exception stands before the rule that drops",
                rules: [
                    RuleFile("host", PackageResources.blocked_port_host_rules),
                    RuleFile("host", PackageResources.blocked_port_exception_before_host_rules),
                ], traffic: [toGuest],
                expected: [Expectation("tcp", "10.0.2.2", "172.16.0.2:80", "delivered")]),
            LabNetwork.Variant(
                name: "exception-after", summary: "an exception stands behind it, in vain",
                rules: [
                    RuleFile("host", PackageResources.blocked_port_host_rules),
                    RuleFile("host", PackageResources.blocked_port_exception_after_host_rules),
                ],
                traffic: [toGuestInVain],
                expected: [Expectation("tcp", "10.0.2.2", "172.16.0.2:80", "dropped", at: "filter/FORWARD in host")],
                findings: ["shadowed-rule"]),
        ])

    /// REJECT: the packet that it makes has a way of its own.
    static let reject = LabNetwork(
        name: "reject", summary: "the host refuses what is for the guest, and answers in its place", drawing: drawing,
        commands: routed + knownOutside, rules: [RuleFile("host", PackageResources.reject_host_rules)], servers: webServer,
        traced: ["host", "guest", "inet"], traffic: [toGuestInVain],
        expected: [
            Expectation("tcp", "10.0.2.2", "172.16.0.2:80", "dropped", at: "filter/FORWARD in host"),
            Expectation("tcp", "172.16.0.2:80", "10.0.2.2", "delivered"),
        ],
        variants: [])
}
