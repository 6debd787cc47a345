internal import TraceModel

/// The networks with IPv6, where that differs: neighbours are found by packets that pass the chains too.
extension Gallery {
    private static let drawing6 = """
        guest                host                                  inet
        vGUEST  ------------ vHOST in br0        eth0 ------------ up0
        fd00:172::2/64       fd00:172::1/64      fd00:10::15/64    fd00:10::2/64, owns fd00:8::8
        """

    /// Addresses count at once, without a search for others that have them (duplicate address detection).
    private static func ready6(_ netns: String) -> [[String]] {
        let words = Gallery.words(
            """
            sysctl -qw net.ipv6.conf.all.disable_ipv6=0 net.ipv6.conf.default.disable_ipv6=0
            sysctl -qw net.ipv6.conf.all.accept_dad=0 net.ipv6.conf.default.accept_dad=0
            sysctl -qw net.ipv6.conf.all.accept_ra=0 net.ipv6.conf.default.accept_ra=0
            sysctl -qw net.ipv6.conf.default.router_solicitations=0
            """)
        return netns == "host" ? words : words.map { ["ip", "netns", "exec", netns] + $0 }
    }

    private static let routed6 =
        ready6("host") + words("ip netns add guest") + ready6("guest") + words("ip netns add inet") + ready6("inet")
        + words(
            """
            ip -n guest link set lo up
            ip -n inet link set lo up
            ip link add br0 type bridge mcast_snooping 0
            ip address add fd00:172::1/64 dev br0 nodad
            ip link set br0 up
            ip link add vHOST type veth peer name vGUEST netns guest
            ip link set vHOST master br0 up
            ip -n guest address add fd00:172::2/64 dev vGUEST nodad
            ip -n guest link set vGUEST up
            ip -n guest route add default via fd00:172::1
            ip link add eth0 type veth peer name up0 netns inet
            ip address add fd00:10::15/64 dev eth0 nodad
            ip link set eth0 up
            ip -n inet address add fd00:10::2/64 dev up0 nodad
            ip -n inet link set up0 up
            ip -n inet address add fd00:8::8/128 dev lo nodad
            ip route add default via fd00:10::2
            sysctl -qw net.ipv6.conf.all.forwarding=1
            """)

    private static let knownOutside6 = words("ip -n inet route add fd00:172::/64 via fd00:10::15")
    private static let webServer6 = words("ip netns exec guest ipt-trace lab serve 80 --address ::")

    private static func rules6(_ text: [UInt8], in netns: String = "host") -> RuleFile { RuleFile(netns, text, .ipv6) }

    /// As `ping`.
    static let ping6 = LabNetwork(
        name: "ping6", summary: "a guest pings fd00:8::8 through a masquerading host", drawing: drawing6, commands: routed6,
        rules: [rules6(PackageResources.masquerade6_host_rules)], servers: [], traced: ["host", "guest"], family: .ipv6,
        traffic: [Traffic("ip netns exec guest ping -c 1 -W 1 fd00:8::8")],
        expected: [
            Expectation("icmpv6", "fd00:172::2", "fd00:8::8", "sent", "snat in host to fd00:10::15", through: "guest, host"),
            Expectation("icmpv6", "fd00:8::8", "fd00:10::15", "delivered", "snat_reply in host", through: "host, guest"),
        ],
        variants: [
            LabNetwork.Variant(
                name: "snat", summary: "the address is written down", rules: [rules6(PackageResources.snat6_host_rules)],
                expected: [
                    Expectation("icmpv6", "fd00:172::2", "fd00:8::8", "sent", "snat in host to fd00:10::15"),
                    Expectation("icmpv6", "fd00:8::8", "fd00:10::15", "delivered", "snat_reply in host"),
                ]),
            LabNetwork.Variant(
                name: "forward-drop", summary: "the host's FORWARD policy is DROP",
                rules: [rules6(PackageResources.masquerade6_host_rules), rules6(PackageResources.forward_drop6_host_rules)],
                traffic: [Traffic("ip netns exec guest ping -c 1 -W 1 fd00:8::8", succeeds: false)],
                expected: [Expectation("icmpv6", "fd00:172::2", "fd00:8::8", "dropped", at: "filter/FORWARD in host")]),
            LabNetwork.Variant(
                name: "no-forwarding", summary: "net.ipv6.conf.all.forwarding is 0",
                commands: words("sysctl -qw net.ipv6.conf.all.forwarding=0"),
                traffic: [Traffic("ip netns exec guest ping -c 1 -W 1 fd00:8::8", succeeds: false)],
                expected: [Expectation("icmpv6", "fd00:172::2", "fd00:8::8", "dropped", at: "nat/PREROUTING in host")],
                findings: ["forwarding-disabled"]),
        ])

    /// As `port-forward`.
    static let portForward6 = LabNetwork(
        name: "port-forward6", summary: "port 8080 of the host leads to a guest's web server", drawing: drawing6,
        commands: routed6, rules: [rules6(PackageResources.port_forward6_host_rules)], servers: webServer6,
        traced: ["host", "guest", "inet"], family: .ipv6,
        traffic: [Traffic("ip netns exec inet ipt-trace lab connect fd00:10::15 8080")],
        expected: [
            Expectation(
                "tcp", "fd00:10::2", "[fd00:10::15]:8080", "delivered", "dnat in host to fd00:172::2",
                through: "inet, host, guest"),
            Expectation(
                "tcp", "[fd00:172::2]:80", "fd00:10::2", "delivered", "dnat_reply in host", through: "guest, host, inet"),
        ],
        variants: [
            LabNetwork.Variant(
                name: "local", summary: "a process of the host itself connects; only PREROUTING has the rule",
                traffic: [Traffic("ipt-trace lab connect fd00:10::15 8080", succeeds: false)],
                expected: [Expectation("tcp", "fd00:10::15", "[fd00:10::15]:8080", "delivered")],
                findings: ["dnat-missing-for-local"]),
            LabNetwork.Variant(
                name: "local-output", summary: "a process of the host itself connects; OUTPUT has the rule too",
                rules: forwarded, traffic: [Traffic("ipt-trace lab connect fd00:10::15 8080")],
                expected: [
                    Expectation(
                        "tcp", "fd00:10::15", "[fd00:10::15]:8080", "delivered", "dnat in host", through: "host, guest"),
                    Expectation("tcp", "[fd00:172::2]:80", "fd00:10::15", "delivered", "dnat_reply in host"),
                ]),
            LabNetwork.Variant(
                name: "local-loopback", summary: "the same by ::1: the source stays ::1 on the way out", rules: forwarded,
                // A packet that vanished between two namespaces is waited for as long as neighbours are.
                traffic: [Traffic("ipt-trace lab connect ::1 8080", succeeds: false), Traffic("sleep 4")],
                expected: [Expectation("tcp", "::1", "[::1]:8080", "dropped", "dnat in host", through: "host")],
                findings: ["loopback-source-leaves"]),
            LabNetwork.Variant(
                name: "local-masquerade",
                summary: "by ::1, with MASQUERADE: in vain, IPv6 has no route_localnet that would take the answer",
                rules: forwarded + [rules6(PackageResources.port_forward6_masquerade_host_rules)],
                traffic: [Traffic("ipt-trace lab connect ::1 8080", succeeds: false)],
                expected: [
                    Expectation(
                        "tcp", "::1", "[::1]:8080", "delivered", "dnat in host", "snat in host", through: "host, guest"),
                    Expectation("tcp", "[fd00:172::2]:80", "fd00:172::1", "dropped", at: "mangle/PREROUTING in host"),
                ],
                findings: ["loopback-source-leaves"]),
        ])

    private static let forwarded = [
        rules6(PackageResources.port_forward6_host_rules), rules6(PackageResources.port_forward6_output_host_rules),
    ]

    /// As `firewall`; who drops all of ICMPv6 finds no neighbours.
    static let firewall6 = LabNetwork(
        name: "firewall6", summary: "a host that lets in neighbour discovery and answers pings fd00:8::8", drawing: drawing6,
        commands: routed6,
        rules: [rules6(PackageResources.firewall6_host_rules), rules6(PackageResources.firewall6_established_host_rules)],
        servers: [], traced: ["host", "inet"], family: .ipv6, traffic: [Traffic("ping -c 1 -W 1 fd00:8::8")],
        expected: [
            Expectation("icmpv6", "fd00:10::15", "fd00:8::8", "delivered", through: "host, inet"),
            Expectation("icmpv6", "fd00:8::8", "fd00:10::15", "delivered", through: "inet, host"),
        ],
        variants: [
            LabNetwork.Variant(
                name: "no-established", summary: "without the rule for ESTABLISHED,RELATED the answers are lost",
                rules: [rules6(PackageResources.firewall6_host_rules)],
                traffic: [Traffic("ping -c 1 -W 1 fd00:8::8", succeeds: false)],
                expected: [
                    Expectation("icmpv6", "fd00:10::15", "fd00:8::8", "delivered"),
                    Expectation("icmpv6", "fd00:8::8", "fd00:10::15", "dropped", at: "filter/INPUT in host"),
                ],
                findings: ["replies-dropped"])
        ])

    /// As `blocked-port`.
    static let blockedPort6 = LabNetwork(
        name: "blocked-port6", summary: "the host lets nobody to the guest's port 80", drawing: drawing6,
        commands: routed6 + knownOutside6, rules: [rules6(PackageResources.blocked_port6_host_rules)], servers: webServer6,
        traced: ["host", "guest", "inet"], family: .ipv6, traffic: [toGuest6(succeeds: false)],
        expected: [Expectation("tcp", "fd00:10::2", "[fd00:172::2]:80", "dropped", at: "filter/FORWARD in host")],
        variants: [
            LabNetwork.Variant(
                name: "exception-before", summary: "an exception stands before the rule that drops",
                rules: [
                    rules6(PackageResources.blocked_port6_host_rules),
                    rules6(PackageResources.blocked_port6_exception_host_rules),
                ], traffic: [toGuest6(succeeds: true)],
                expected: [
                    Expectation("tcp", "fd00:10::2", "[fd00:172::2]:80", "delivered", through: "inet, host, guest"),
                    Expectation("tcp", "[fd00:172::2]:80", "fd00:10::2", "delivered", through: "guest, host, inet"),
                ])
        ])

    /// As `reject`.
    static let reject6 = LabNetwork(
        name: "reject6", summary: "the host refuses what is for the guest, and answers in its place", drawing: drawing6,
        commands: routed6 + knownOutside6, rules: [rules6(PackageResources.reject6_host_rules)], servers: webServer6,
        traced: ["host", "guest", "inet"], family: .ipv6, traffic: [toGuest6(succeeds: false)],
        expected: [
            Expectation("tcp", "fd00:10::2", "[fd00:172::2]:80", "dropped", at: "filter/FORWARD in host"),
            Expectation("tcp", "[fd00:172::2]:80", "fd00:10::2", "delivered"),
        ],
        variants: [])

    private static func toGuest6(succeeds: Bool) -> Traffic {
        Traffic("ip netns exec inet ipt-trace lab connect fd00:172::2 80", succeeds: succeeds)
    }

    /// As `two-routers`.
    static let twoRouters6 = LabNetwork(
        name: "two-routers6", summary: "two routers in a row, the second one masquerades",
        drawing: """
            guest          host                      edge                      inet
            fd00:172::2 -- fd00:172::1  fd00:1::1 -- fd00:1::2  fd00:10::15 -- fd00:10::2, owns fd00:8::8
            """,
        commands: ready6("host") + ["guest", "edge", "inet"].flatMap { words("ip netns add \($0)") + ready6($0) }
            + words(
                """
                ip -n guest link set lo up
                ip -n edge link set lo up
                ip -n inet link set lo up
                ip link add toguest type veth peer name up netns guest
                ip link add toedge type veth peer name in0 netns edge
                ip -n edge link add out0 type veth peer name up0 netns inet
                ip address add fd00:172::1/64 dev toguest nodad
                ip -n guest address add fd00:172::2/64 dev up nodad
                ip address add fd00:1::1/64 dev toedge nodad
                ip -n edge address add fd00:1::2/64 dev in0 nodad
                ip -n edge address add fd00:10::15/64 dev out0 nodad
                ip -n inet address add fd00:10::2/64 dev up0 nodad
                ip -n inet address add fd00:8::8/128 dev lo nodad
                ip link set toguest up
                ip link set toedge up
                ip -n guest link set dev up up
                ip -n edge link set in0 up
                ip -n edge link set out0 up
                ip -n inet link set up0 up
                ip -n guest route add default via fd00:172::1
                ip route add default via fd00:1::2
                ip -n edge route add default via fd00:10::2
                ip -n edge route add fd00:172::/64 via fd00:1::1
                sysctl -qw net.ipv6.conf.all.forwarding=1
                ip netns exec edge sysctl -qw net.ipv6.conf.all.forwarding=1
                """),
        rules: [rules6(PackageResources.masquerade6_edge_rules, in: "edge")], servers: [],
        traced: ["host", "guest", "edge", "inet"], family: .ipv6,
        traffic: [Traffic("ip netns exec guest ping -c 1 -W 1 fd00:8::8")],
        expected: [
            Expectation(
                "icmpv6", "fd00:172::2", "fd00:8::8", "delivered", "snat in edge to fd00:10::15",
                through: "guest, host, edge, inet"),
            Expectation(
                "icmpv6", "fd00:8::8", "fd00:10::15", "delivered", "snat_reply in edge to fd00:172::2",
                through: "inet, edge, host, guest"),
        ],
        variants: [])
}
