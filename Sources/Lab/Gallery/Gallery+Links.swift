/// Links of several sorts, and packets that are several or in pieces.
extension Gallery {
    /// Out and in again, in one namespace.
    static let loopback = LabNetwork(
        name: "loopback", summary: "a host pings itself: the packet passes OUTPUT, POSTROUTING, PREROUTING and INPUT",
        drawing: "host: lo 127.0.0.1, eth0 10.0.2.15", commands: outside, rules: [], servers: [], traced: ["host"],
        traffic: [Traffic("ping -c 1 -W 1 10.0.2.15"), Traffic("ping -c 1 -W 1 127.0.0.1")],
        expected: [
            Expectation("icmp", "10.0.2.15", "10.0.2.15", "delivered"),
            Expectation("icmp", "127.0.0.1", "127.0.0.1", "delivered"),
        ], variants: [])

    /// Frames that a bridge hands to iptables.
    static let bridge = LabNetwork(
        name: "bridge", summary: "two guests in one bridge, whose frames pass the host's chains (bridge-nf-call-iptables)",
        drawing: """
            guest  172.16.0.2 --.
                                 br0, host
            second 172.16.0.3 --'
            """,
        commands: routed + guest("second", 3) + words("sysctl -qw net.bridge.bridge-nf-call-iptables=1"), rules: [],
        servers: [], traced: ["host", "guest", "second"], traffic: [Traffic("ip netns exec guest ping -c 1 -W 1 172.16.0.3")],
        expected: [
            Expectation("icmp", "172.16.0.2", "172.16.0.3", "delivered", through: "guest, host, second"),
            Expectation("icmp", "172.16.0.3", "172.16.0.2", "delivered", through: "second, host, guest"),
        ],
        variants: [
            LabNetwork.Variant(
                name: "alone", summary: "bridge-nf-call-iptables is 0: the host's chains see nothing", commands: bridgeAlone,
                expected: [
                    Expectation("icmp", "172.16.0.2", "172.16.0.3", "delivered", through: "guest, second"),
                    Expectation("icmp", "172.16.0.3", "172.16.0.2", "delivered", through: "second, guest"),
                ]),
            LabNetwork.Variant(
                name: "forward-drop", summary: "the host's FORWARD policy is DROP, and the bridge obeys it",
                rules: [RuleFile("host", PackageResources.forward_drop_host_rules)],
                traffic: [Traffic("ip netns exec guest ping -c 1 -W 1 172.16.0.3", succeeds: false)],
                expected: [
                    Expectation(
                        "icmp", "172.16.0.2", "172.16.0.3", "dropped", at: "filter/FORWARD in host", through: "guest, host")
                ]),
        ])

    /// Two networks on one cable.
    static let vlan = LabNetwork(
        name: "vlan", summary: "two guests on VLANs of one link; the host routes between them",
        drawing: """
            trunk: up.10 10.10.0.2, up.20 10.20.0.2 --- toTrunk.10 10.10.0.1, toTrunk.20 10.20.0.1, host, eth0 --- inet
            """,
        commands: outside + knownOutside(of: "10.10.0.0/24")
            + words(
                """
                ip netns add trunk
                ip -n trunk link set lo up
                ip link add toTrunk type veth peer name up netns trunk
                ip link set toTrunk up
                ip -n trunk link set dev up up
                ip link add link toTrunk name toTrunk.10 type vlan id 10
                ip link add link toTrunk name toTrunk.20 type vlan id 20
                ip -n trunk link add link up name up.10 type vlan id 10
                ip -n trunk link add link up name up.20 type vlan id 20
                ip address add 10.10.0.1/24 dev toTrunk.10
                ip address add 10.20.0.1/24 dev toTrunk.20
                ip link set toTrunk.10 up
                ip link set toTrunk.20 up
                ip -n trunk address add 10.10.0.2/24 dev up.10
                ip -n trunk address add 10.20.0.2/24 dev up.20
                ip -n trunk link set up.10 up
                ip -n trunk link set up.20 up
                ip -n trunk route add default via 10.10.0.1
                """),
        rules: [], servers: [], traced: ["host", "trunk", "inet"],
        traffic: [Traffic("ip netns exec trunk ping -c 1 -W 1 8.8.8.8"), Traffic("ping -c 1 -W 1 10.20.0.2")],
        expected: [
            Expectation("icmp", "10.10.0.2", "8.8.8.8", "delivered", through: "trunk, host, inet"),
            Expectation("icmp", "8.8.8.8", "10.10.0.2", "delivered", through: "inet, host, trunk"),
            Expectation("icmp", "10.20.0.1", "10.20.0.2", "delivered", through: "host, trunk"),
        ],
        need: LabNetwork.Need(
            command: words("ip link add link lo name vlan-test type vlan id 4094")[0],
            what: "VLAN interfaces (kernel option VLAN_8021Q, module 8021q)"),
        variants: [])

    /// Packets within packets.
    static let tunnel = LabNetwork(
        name: "tunnel", summary: "two sites with a VXLAN tunnel between them, by way of a router",
        drawing: """
            left                                host                           right
            vx 192.168.9.1 over up 10.1.0.2 --- 10.1.0.1, 10.2.0.1 --- 10.2.0.2 up under vx 192.168.9.2
            """,
        commands: words(
            """
            sysctl -qw net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1
            ip netns add left
            ip netns add right
            ip netns exec left sysctl -qw net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1
            ip netns exec right sysctl -qw net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1
            ip -n left link set lo up
            ip -n right link set lo up
            ip link add toLeft type veth peer name up netns left
            ip link add toRight type veth peer name up netns right
            ip address add 10.1.0.1/24 dev toLeft
            ip address add 10.2.0.1/24 dev toRight
            ip -n left address add 10.1.0.2/24 dev up
            ip -n right address add 10.2.0.2/24 dev up
            ip link set toLeft up
            ip link set toRight up
            ip -n left link set dev up up
            ip -n right link set dev up up
            ip -n left route add default via 10.1.0.1
            ip -n right route add default via 10.2.0.1
            sysctl -qw net.ipv4.ip_forward=1
            ip -n left link add vx type vxlan id 7 local 10.1.0.2 remote 10.2.0.2 dstport 4789
            ip -n right link add vx type vxlan id 7 local 10.2.0.2 remote 10.1.0.2 dstport 4789
            ip -n left address add 192.168.9.1/24 dev vx
            ip -n right address add 192.168.9.2/24 dev vx
            ip -n left link set vx up
            ip -n right link set vx up
            """),
        rules: [], servers: [], traced: ["left", "host", "right"],
        traffic: [Traffic("ip netns exec left ping -c 1 -W 1 192.168.9.2")],
        expected: [
            Expectation("icmp", "192.168.9.1", "192.168.9.2", "delivered", through: "left, right")
                .carried(by: "udp 10.1.0.2 → 10.2.0.2"),
            Expectation("icmp", "192.168.9.2", "192.168.9.1", "delivered", through: "right, left")
                .carried(by: "udp 10.2.0.2 → 10.1.0.2"),
            Expectation("udp", "10.1.0.2", "10.2.0.2:4789", "delivered", through: "left, host, right"),
        ],
        need: LabNetwork.Need(
            command: words("ip link add vxlan-test type vxlan id 7 local 127.0.0.1 remote 127.0.0.2 dstport 4789")[0],
            what: "VXLAN interfaces (kernel option VXLAN, module vxlan)"),
        variants: [])

    /// Datagrams that no link takes whole.
    static let fragments = LabNetwork(
        name: "fragments", summary: "a ping of 3000 bytes; where connections are tracked its fragments are put together first",
        drawing: drawing, commands: routed + knownOutside,
        rules: [
            RuleFile("guest", PackageResources.tracked_rules), RuleFile("host", PackageResources.tracked_rules),
            RuleFile("inet", PackageResources.tracked_rules),
        ],
        servers: [], traced: ["guest", "host", "inet"],
        traffic: [Traffic("ip netns exec guest ping -c 1 -W 1 -s 3000 8.8.8.8")],
        expected: [
            Expectation("icmp", "172.16.0.2", "8.8.8.8", "delivered", through: "guest, host, inet"),
            Expectation("icmp", "8.8.8.8", "172.16.0.2", "delivered", through: "inet, host, guest"),
        ],
        variants: [
            LabNetwork.Variant(
                name: "untracked",
                summary: "nobody tracks connections: each fragment passes alone, and the whole ends at the link",
                rules: [],
                expected: [
                    Expectation("icmp", "172.16.0.2", "8.8.8.8", "incomplete", through: "guest", because: "fragments"),
                    Expectation("icmp", "172.16.0.2", "8.8.8.8", "incomplete", through: "host, inet", because: "fragments"),
                ])
        ])

    /// One datagram, many receivers.
    static let multicast = LabNetwork(
        name: "multicast", summary: "one datagram to a group with three members: three journeys",
        drawing: """
            guest 172.16.0.2 --- br0 --- second 172.16.0.3, third 172.16.0.4, fourth 172.16.0.5: members of 239.1.1.1
            """,
        commands: routed + guest("second", 3) + guest("third", 4) + guest("fourth", 5) + bridgeAlone, rules: [],
        servers: ["second", "third", "fourth"].flatMap { member("239.1.1.1", $0) },
        traced: ["host", "guest", "second", "third", "fourth"],
        traffic: [Traffic("ip netns exec guest ipt-trace lab send 239.1.1.1 5000")],
        expected: ["second", "third", "fourth"].map {
            Expectation("udp", "172.16.0.2", "239.1.1.1:5000", "delivered", through: "guest, \($0)")
        },
        variants: [])

    private static func member(_ group: String, _ netns: String) -> [[String]] {
        words("ip netns exec \(netns) ipt-trace lab serve 5000 --group \(group)")
    }
}
