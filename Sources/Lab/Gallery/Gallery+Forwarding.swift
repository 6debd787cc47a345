/// Ports that lead elsewhere.
extension Gallery {
    private static let fromOutside = [Traffic("ip netns exec inet ipt-trace lab connect 10.0.2.15 8080")]

    /// DNAT, for those who come from outside and for the router's own processes.
    static let portForward = LabNetwork(
        name: "port-forward", summary: "port 8080 of the host leads to a guest's web server", drawing: drawing,
        commands: routed, rules: [RuleFile("host", PackageResources.port_forward_host_rules)], servers: webServer,
        traced: ["host", "guest", "inet"], traffic: fromOutside,
        expected: [
            Expectation("tcp", "10.0.2.2", "10.0.2.15:8080", "delivered", "dnat in host"),
            Expectation("tcp", "172.16.0.2:80", "10.0.2.2", "delivered", "dnat_reply in host"),
        ],
        variants: [
            LabNetwork.Variant(
                name: "local", summary: "a process of the host itself connects; only PREROUTING has the rule",
                traffic: [Traffic("ipt-trace lab connect 10.0.2.15 8080", succeeds: false)],
                expected: [Expectation("tcp", "10.0.2.15", "10.0.2.15:8080", "delivered")],
                findings: ["dnat-missing-for-local"]),
            LabNetwork.Variant(
                name: "local-output", summary: "a process of the host itself connects; OUTPUT has the rule too",
                rules: [
                    RuleFile("host", PackageResources.port_forward_host_rules),
                    RuleFile("host", PackageResources.port_forward_output_host_rules),
                ],
                traffic: [Traffic("ipt-trace lab connect 10.0.2.15 8080")],
                expected: [
                    Expectation("tcp", "10.0.2.15", "10.0.2.15:8080", "delivered", "dnat in host"),
                    Expectation("tcp", "172.16.0.2:80", "10.0.2.15", "delivered", "dnat_reply in host"),
                ]),
            LabNetwork.Variant(
                name: "local-loopback", summary: "the same by 127.0.0.1: the source stays 127.0.0.1 on the way out",
                rules: [
                    RuleFile("host", PackageResources.port_forward_host_rules),
                    RuleFile("host", PackageResources.port_forward_output_host_rules),
                ],
                traffic: [Traffic("ipt-trace lab connect 127.0.0.1 8080", succeeds: false)],
                expected: [Expectation("tcp", "127.0.0.1", "127.0.0.1:8080", "dropped")],
                findings: ["loopback-source-leaves"]),
            LabNetwork.Variant(
                name: "local-no-localnet",
                summary: "by 127.0.0.1, with MASQUERADE: in vain, since without route_localnet the packet gets no route",
                rules: [
                    RuleFile("host", PackageResources.port_forward_host_rules),
                    RuleFile("host", PackageResources.port_forward_output_host_rules),
                    RuleFile("host", PackageResources.port_forward_masquerade_host_rules),
                ],
                traffic: [Traffic("ipt-trace lab connect 127.0.0.1 8080", succeeds: false)],
                expected: [Expectation("tcp", "127.0.0.1", "127.0.0.1:8080", "dropped", at: "nat/OUTPUT in host")],
                findings: ["loopback-source-leaves"]),
            LabNetwork.Variant(
                name: "local-masquerade",
                summary: "by 127.0.0.1, with MASQUERADE for local sources and route_localnet on the way back",
                commands: words("sysctl -qw net.ipv4.conf.br0.route_localnet=1"),
                rules: [
                    RuleFile("host", PackageResources.port_forward_host_rules),
                    RuleFile("host", PackageResources.port_forward_output_host_rules),
                    RuleFile("host", PackageResources.port_forward_masquerade_host_rules),
                ],
                traffic: [Traffic("ipt-trace lab connect 127.0.0.1 8080")],
                expected: [Expectation("tcp", "127.0.0.1", "127.0.0.1:8080", "delivered", "dnat in host", "snat in host")]),
        ])

    /// A client in the network of the server, by the address outside.
    static let hairpin = LabNetwork(
        name: "hairpin", summary: "a client in the server's own network uses the forwarded port",
        drawing: """
            client 172.16.0.3 --.
                                 br0 172.16.0.1, host, eth0 10.0.2.15 --- inet
            guest  172.16.0.2 --'
            """,
        commands: routed
            + words(
                """
                ip netns add client
                ip -n client link set lo up
                ip link add vCLIENT type veth peer name up netns client
                ip link set vCLIENT master br0 up
                ip -n client address add 172.16.0.3/16 dev up
                ip -n client link set dev up up
                ip -n client route add default via 172.16.0.1
                """),
        rules: [
            RuleFile("host", PackageResources.hairpin_host_rules),
            RuleFile("host", PackageResources.hairpin_masquerade_host_rules),
        ],
        servers: webServer, traced: ["host", "guest", "client"],
        traffic: [Traffic("ip netns exec client ipt-trace lab connect 10.0.2.15 8080")],
        expected: [
            Expectation("tcp", "172.16.0.3", "10.0.2.15:8080", "delivered", "dnat in host", "snat in host"),
            Expectation("tcp", "172.16.0.2:80", "172.16.0.1", "delivered", "snat_reply in host", "dnat_reply in host"),
        ],
        variants: [
            LabNetwork.Variant(
                name: "no-masquerade",
                summary: "the answer goes to the client directly, which refuses it from an address that it did not ask",
                // With br_netfilter the bridge would hand the answer to connection tracking.
                commands: bridgeAlone,
                rules: [RuleFile("host", PackageResources.hairpin_host_rules)],
                traffic: [Traffic("ip netns exec client ipt-trace lab connect 10.0.2.15 8080", succeeds: false)],
                expected: [
                    Expectation("tcp", "172.16.0.3", "10.0.2.15:8080", "delivered", "dnat in host"),
                    Expectation("tcp", "172.16.0.2:80", "172.16.0.3", "delivered"),
                ],
                findings: ["hairpin-without-masquerade"]),
            LabNetwork.Variant(
                name: "self", summary: "the server itself does, and reaches itself by way of the router",
                // With br_netfilter the bridge would have to send the frame back through the port that it came by.
                commands: bridgeAlone, traffic: [Traffic("ip netns exec guest ipt-trace lab connect 10.0.2.15 8080")],
                expected: [
                    Expectation(
                        "tcp", "172.16.0.2", "10.0.2.15:8080", "delivered", "dnat in host to 172.16.0.2",
                        "snat in host to 172.16.0.1", through: "guest, host, guest"),
                    Expectation(
                        "tcp", "172.16.0.2:80", "172.16.0.1", "delivered", "snat_reply in host", "dnat_reply in host",
                        through: "guest, host, guest"),
                ]),
            LabNetwork.Variant(
                name: "self-no-masquerade",
                summary: "the server itself does, and refuses a packet that comes from outside with its own address",
                commands: bridgeAlone, rules: [RuleFile("host", PackageResources.hairpin_host_rules)],
                traffic: [Traffic("ip netns exec guest ipt-trace lab connect 10.0.2.15 8080", succeeds: false)],
                expected: [
                    Expectation(
                        "tcp", "172.16.0.2", "10.0.2.15:8080", "dropped", at: "mangle/PREROUTING in guest", "dnat in host",
                        through: "guest, host, guest")
                ],
                findings: ["hairpin-without-masquerade"]),
        ])

    /// DNAT and SNAT together: the client knows the router only, and so does the server.
    static let relay = LabNetwork(
        name: "relay", summary: "port 8080 of the host leads to a server outside, for guests", drawing: drawing,
        commands: routed, rules: [RuleFile("host", PackageResources.relay_host_rules)], servers: server("inet"),
        traced: ["host", "guest", "inet"], traffic: [Traffic("ip netns exec guest ipt-trace lab connect 172.16.0.1 8080")],
        expected: [
            Expectation(
                "tcp", "172.16.0.2", "172.16.0.1:8080", "delivered", "dnat in host to 10.0.2.2", "snat in host to 10.0.2.15",
                through: "guest, host, inet"),
            Expectation(
                "tcp", "10.0.2.2:80", "10.0.2.15", "delivered", "snat_reply in host", "dnat_reply in host",
                through: "inet, host, guest"),
        ],
        variants: [
            LabNetwork.Variant(
                name: "no-forwarding", summary: "net.ipv4.ip_forward is 0: translation does not make a router",
                commands: words("sysctl -qw net.ipv4.ip_forward=0"),
                traffic: [Traffic("ip netns exec guest ipt-trace lab connect 172.16.0.1 8080", succeeds: false)],
                expected: [
                    Expectation("tcp", "172.16.0.2", "172.16.0.1:8080", "dropped", at: "nat/PREROUTING in host")
                ],
                findings: ["forwarding-disabled"])
        ])

    /// REDIRECT to another port of the same machine.
    static let redirect = LabNetwork(
        name: "redirect", summary: "port 80 of the host is served on its port 8080", drawing: drawing, commands: routed,
        rules: [RuleFile("host", PackageResources.redirect_host_rules)], servers: words("ipt-trace lab serve 8080"),
        traced: ["host", "inet"], traffic: [Traffic("ip netns exec inet ipt-trace lab connect 10.0.2.15 80")],
        expected: [
            Expectation("tcp", "10.0.2.2", "10.0.2.15:80", "delivered", "dnat in host"),
            Expectation("tcp", "10.0.2.15:8080", "10.0.2.2", "delivered", "dnat_reply in host"),
        ],
        variants: [])
}
