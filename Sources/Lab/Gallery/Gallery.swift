/// The networks there are.
public enum Gallery {
    public static let networks = [
        ping, portForward, hairpin, relay, redirect, firewall, blockedHost, blockedPort, reject, forwarding, notrack, zones,
        tables, mangle, routing, twoRouters, balance, virtualAddress, service, containerDNS, docker, loopback, bridge,
        vlan, tunnel, fragments,
        multicast, ping6, portForward6, firewall6, blockedPort6, reject6, twoRouters6,
    ]

    public static func network(named name: String) -> LabNetwork? { networks.first { $0.name == name } }

    static func words(_ lines: String) -> [[String]] {
        lines.split(separator: "\n").map { $0.split(separator: " ").map(String.init) }
    }

    // MARK: A guest, a router and an outside, which most networks begin with

    static let drawing = """
        guest                host                                  inet
        vGUEST  ------------ vHOST in br0        eth0 ------------ up0
        172.16.0.2/16        172.16.0.1/16       10.0.2.15/24      10.0.2.2/24, owns 8.8.8.8
        """

    static let routed = outside + inside

    private static let inside = words(
        """
        ip netns add guest
        ip netns exec guest sysctl -qw net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1
        ip -n guest link set lo up
        ip link add br0 type bridge mcast_snooping 0
        ip address add 172.16.0.1/16 dev br0
        ip link set br0 up
        ip link add vHOST type veth peer name vGUEST netns guest
        ip link set vHOST master br0 up
        ip -n guest address add 172.16.0.2/16 dev vGUEST
        ip -n guest link set vGUEST up
        ip -n guest route add default via 172.16.0.1
        """)

    /// The router's outer side and the network behind it.
    static let outside = words(
        """
        sysctl -qw net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1
        ip netns add inet
        ip netns exec inet sysctl -qw net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1
        ip -n inet link set lo up
        ip link add eth0 type veth peer name up0 netns inet
        ip address add 10.0.2.15/24 dev eth0
        ip link set eth0 up
        ip -n inet address add 10.0.2.2/24 dev up0
        ip -n inet link set up0 up
        ip -n inet address add 8.8.8.8/32 dev lo
        ip route add default via 10.0.2.2
        sysctl -qw net.ipv4.ip_forward=1
        """)

    /// The outside knows the way to the guests' network, so that nothing needs translation.
    static let knownOutside = knownOutside(of: "172.16.0.0/16")

    static func knownOutside(of network: String) -> [[String]] { words("ip -n inet route add \(network) via 10.0.2.15") }

    /// A web server in the guest.
    static let webServer = words("ip netns exec guest ipt-trace lab serve 80")

    // MARK: More guests

    /// A guest beside the first one, in the same bridge.
    static func guest(_ name: String, _ number: Int) -> [[String]] {
        words(
            """
            ip netns add \(name)
            ip netns exec \(name) sysctl -qw net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1
            ip -n \(name) link set lo up
            ip link add v\(name) type veth peer name up netns \(name)
            ip link set v\(name) master br0 up
            ip -n \(name) address add 172.16.0.\(number)/16 dev up
            ip -n \(name) link set dev up up
            ip -n \(name) route add default via 172.16.0.1
            """)
    }

    /// A web server in a namespace.
    static func server(_ netns: String) -> [[String]] { words("ip netns exec \(netns) ipt-trace lab serve 80") }

    /// Switches off what may be missing: the bridge's frames do not pass iptables.
    static let bridgeAlone = words("sysctl -qwe net.bridge.bridge-nf-call-iptables=0")
}
