/// A network to learn from and to test with, as plain commands that anybody can type.
public struct LabNetwork: Sendable {
    public var name: String
    public var summary: String
    /// A drawing of it.
    public var drawing: String
    /// Run inside a sandbox, whose own namespace plays the host.
    public var commands: [[String]]
    /// Commands behind the others that make something fail, or mend it.
    public var variants: [Variant]
    /// The namespaces that get probes.
    public var traced: [String]
    /// What is sent, once the probes are there.
    public var traffic: [[String]]

    public struct Variant: Sendable {
        public var name: String
        public var summary: String
        public var commands: [[String]]
    }

    public func variant(named name: String) -> Variant? { variants.first { $0.name == name } }

    /// Sets it up inside `sandbox`.
    public func setUp(in sandbox: Sandbox, variant: Variant? = nil) async throws {
        for command in commands + (variant?.commands ?? []) { try await sandbox.require(command) }
    }
}

/// The networks there are.
public enum Gallery {
    public static let networks = [ping]

    public static func network(named name: String) -> LabNetwork? { networks.first { $0.name == name } }

    private static func words(_ lines: String) -> [[String]] {
        lines.split(separator: "\n").map { $0.split(separator: " ").map(String.init) }
    }

    /// The classic experiment: a guest pings an address of the internet through a host that forwards and masquerades.
    public static let ping = LabNetwork(
        name: "ping",
        summary: "a guest pings 8.8.8.8 through a masquerading host",
        drawing: """
            guest                host                                  inet
            vGUEST  ------------ vHOST in br0        eth0 ------------ up0
            172.16.0.2/16        172.16.0.1/16       10.0.2.15/24      10.0.2.2/24, owns 8.8.8.8
            """,
        commands: words(
            """
            sysctl -qw net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1
            ip netns add guest
            ip netns add inet
            ip netns exec guest sysctl -qw net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1
            ip netns exec inet sysctl -qw net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1
            ip -n guest link set lo up
            ip -n inet link set lo up
            ip link add br0 type bridge mcast_snooping 0
            ip address add 172.16.0.1/16 dev br0
            ip link set br0 up
            ip link add vHOST type veth peer name vGUEST netns guest
            ip link set vHOST master br0 up
            ip -n guest address add 172.16.0.2/16 dev vGUEST
            ip -n guest link set vGUEST up
            ip -n guest route add default via 172.16.0.1
            ip link add eth0 type veth peer name up0 netns inet
            ip address add 10.0.2.15/24 dev eth0
            ip link set eth0 up
            ip -n inet address add 10.0.2.2/24 dev up0
            ip -n inet link set up0 up
            ip -n inet address add 8.8.8.8/32 dev lo
            ip route add default via 10.0.2.2
            sysctl -qw net.ipv4.ip_forward=1
            iptables -t nat -A POSTROUTING -o eth0 -j MASQUERADE
            """),
        variants: [
            LabNetwork.Variant(
                name: "forward-drop", summary: "the host's FORWARD policy is DROP",
                commands: words("iptables -P FORWARD DROP"))
        ],
        traced: ["host", "guest"],
        traffic: words("ip netns exec guest ping -c 1 -W 1 8.8.8.8"))
}
