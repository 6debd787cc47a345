/// One address in front of several servers, and containers.
extension Gallery {
    /// Connections that are shared out, in turn or by chance.
    static let balance = LabNetwork(
        name: "balance", summary: "three servers behind port 80 of the host, in turn",
        drawing: """
            guest  172.16.0.2 --.
            second 172.16.0.3 --- br0 172.16.0.1, host, eth0 10.0.2.15 --- inet 10.0.2.2
            third  172.16.0.4 --'
            """,
        commands: routed + guest("second", 3) + guest("third", 4),
        rules: [RuleFile("host", PackageResources.balance_nth_host_rules)],
        servers: server("guest") + server("second") + server("third"), traced: ["host", "inet"],
        traffic: [Traffic("ip netns exec inet ipt-trace lab connect 10.0.2.15 80 --count 30")],
        expected: [Expectation("tcp", "10.0.2.2", "10.0.2.15:80", "sent", "dnat in host")],
        shares: Shares(of: ["172.16.0.2": 10, "172.16.0.3": 10, "172.16.0.4": 10]),
        variants: [
            LabNetwork.Variant(
                name: "random", summary: "by chance, a third each",
                rules: [RuleFile("host", PackageResources.balance_random_host_rules)],
                traffic: [Traffic("ip netns exec inet ipt-trace lab connect 10.0.2.15 80 --count 90")],
                expected: [Expectation("tcp", "10.0.2.2", "10.0.2.15:80", "sent", "dnat in host")],
                shares: Shares(of: ["172.16.0.2": 30, "172.16.0.3": 30, "172.16.0.4": 30], isByChance: true)),
            LabNetwork.Variant(
                name: "random-two", summary: "two servers by chance, half each",
                rules: [RuleFile("host", PackageResources.balance_random_two_host_rules)],
                traffic: [Traffic("ip netns exec inet ipt-trace lab connect 10.0.2.15 80 --count 60")],
                expected: [Expectation("tcp", "10.0.2.2", "10.0.2.15:80", "sent", "dnat in host")],
                shares: Shares(of: ["172.16.0.2": 30, "172.16.0.3": 30], isByChance: true)),
            LabNetwork.Variant(
                name: "local", summary: "three servers in turn, for processes of the host itself",
                rules: [RuleFile("host", PackageResources.balance_nth_local_host_rules)],
                traffic: [Traffic("ipt-trace lab connect 10.0.2.15 80 --count 30")],
                expected: [Expectation("tcp", "10.0.2.15", "10.0.2.15:80", "sent", "dnat in host")],
                shares: Shares(of: ["172.16.0.2": 10, "172.16.0.3": 10, "172.16.0.4": 10])),
            LabNetwork.Variant(
                name: "local-random", summary: "by chance, for processes of the host itself",
                rules: [RuleFile("host", PackageResources.balance_random_local_host_rules)],
                traffic: [Traffic("ipt-trace lab connect 10.0.2.15 80 --count 90")],
                expected: [Expectation("tcp", "10.0.2.15", "10.0.2.15:80", "sent", "dnat in host")],
                shares: Shares(of: ["172.16.0.2": 30, "172.16.0.3": 30, "172.16.0.4": 30], isByChance: true)),
            LabNetwork.Variant(
                name: "uneven", summary: "every third of what is left: the servers get 1/3, 2/9 and 4/9",
                rules: [RuleFile("host", PackageResources.balance_uneven_host_rules)],
                traffic: [Traffic("ip netns exec inet ipt-trace lab connect 10.0.2.15 80 --count 270")],
                expected: [Expectation("tcp", "10.0.2.2", "10.0.2.15:80", "sent", "dnat in host")],
                findings: ["uneven-balance"],
                shares: Shares(of: ["172.16.0.2": 90, "172.16.0.3": 60, "172.16.0.4": 120])),
        ])

    /// A virtual address that the client makes for itself.
    static let virtualAddress = LabNetwork(
        name: "virtual-address", summary: "an address that only the client's own rules know, for two servers in turn",
        drawing: """
            guest  172.16.0.2 --.
            second 172.16.0.3 --- br0, host
            third  172.16.0.4 --'
            """,
        commands: routed + guest("second", 3) + guest("third", 4) + bridgeAlone,
        rules: [RuleFile("guest", PackageResources.virtual_address_guest_rules)], servers: server("second") + server("third"),
        traced: ["host", "guest", "second", "third"],
        traffic: [Traffic("ip netns exec guest ipt-trace lab connect 10.99.0.1 80 --count 10")],
        expected: [
            Expectation(
                "tcp", "172.16.0.2", "10.99.0.1:80", "delivered", "dnat in guest to 172.16.0.3", through: "guest, second"),
            Expectation(
                "tcp", "172.16.0.2", "10.99.0.1:80", "delivered", "dnat in guest to 172.16.0.4", through: "guest, third"),
            Expectation("tcp", "172.16.0.3:80", "172.16.0.2", "delivered", "dnat_reply in guest to 10.99.0.1"),
            Expectation("tcp", "172.16.0.4:80", "172.16.0.2", "delivered", "dnat_reply in guest to 10.99.0.1"),
        ],
        shares: Shares(of: ["172.16.0.3": 5, "172.16.0.4": 5]), variants: [])

    /// A virtual address, as kube-proxy makes it.
    static let service = LabNetwork(
        name: "service", summary: "a process of the host uses a service's virtual address, as kube-proxy makes it",
        drawing: drawing, commands: routed + guest("second", 3),
        rules: [RuleFile("host", PackageResources.service_host_rules)], servers: server("guest") + server("second"),
        traced: ["host", "guest", "second"], traffic: [Traffic("ipt-trace lab connect 10.96.0.10 80 --count 10")],
        expected: [
            Expectation("tcp", "10.0.2.15", "10.96.0.10:80", "delivered", "dnat in host", "snat in host"),
            Expectation("tcp", "172.16.0.2:80", "172.16.0.1", "delivered", "dnat_reply in host", "snat_reply in host"),
        ],
        shares: Shares(of: ["172.16.0.2": 5, "172.16.0.3": 5]), variants: [])

    /// The name server that Docker gives a container.
    static let containerDNS = LabNetwork(
        name: "container-dns", summary: "a container asks the name server that Docker gives it, 127.0.0.11", drawing: drawing,
        commands: routed, rules: [RuleFile("guest", PackageResources.container_dns_guest_rules)],
        servers: words("ip netns exec guest ipt-trace lab serve 45353 --address 127.0.0.11"), traced: ["guest"],
        extraProbeOptions: ["--user-chains"],
        traffic: [Traffic("ip netns exec guest ipt-trace lab connect 127.0.0.11 53 --udp")],
        expected: [
            Expectation("udp", "127.0.0.1", "127.0.0.11:53", "delivered", "dnat in guest")
                .passing("DOCKER_OUTPUT (OUTPUT)", "DOCKER_POSTROUTING (POSTROUTING)"),
            Expectation("udp", "127.0.0.11:45353", "127.0.0.1", "delivered", "dnat_reply in guest"),
        ],
        variants: [])

    /// A firewall whose decisions are in chains of its own.
    static let docker = LabNetwork(
        name: "docker", summary: "FORWARD's policy is DROP, and a chain of Docker's lets port 80 of the guest through",
        drawing: drawing, commands: routed + knownOutside,
        rules: [RuleFile("host", PackageResources.docker_forward_host_rules)],
        servers: server("guest"), traced: ["host", "guest", "inet"], extraProbeOptions: ["--user-chains"],
        traffic: [Traffic("ip netns exec inet ipt-trace lab connect 172.16.0.2 80")],
        expected: [
            Expectation("tcp", "10.0.2.2", "172.16.0.2:80", "delivered")
                .passing("DOCKER-USER (FORWARD)", "FORWARD, back from DOCKER-USER", "DOCKER (FORWARD)"),
            Expectation("tcp", "172.16.0.2:80", "10.0.2.2", "delivered"),
        ],
        variants: [
            LabNetwork.Variant(
                name: "other-port", summary: "port 81 is not in it",
                traffic: [Traffic("ip netns exec inet ipt-trace lab connect 172.16.0.2 81", succeeds: false)],
                expected: [
                    Expectation("tcp", "10.0.2.2", "172.16.0.2:81", "dropped", at: "filter/FORWARD in host")
                        .lost(in: "filter/FORWARD").passing("DOCKER (FORWARD)", "FORWARD, back from DOCKER")
                ])
        ])
}
